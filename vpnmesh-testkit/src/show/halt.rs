//! Why the show, or an act of it, cannot go on.

use std::fmt::Display;

/// Why the show, or an act of it, cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Halt {
    /// Something was waited for and did not come.
    #[error("waited in vain for {0}")]
    Missing(String),
    /// Something failed on this machine, not in the mesh.
    #[error("cannot {what}: {why}")]
    Failed {
        /// What was tried.
        what: String,
        /// Why it failed.
        why: String,
    },
}

impl Halt {
    pub(super) fn new(what: impl Display, why: impl Display) -> Self {
        Self::Failed {
            what: what.to_string(),
            why: why.to_string(),
        }
    }
}
