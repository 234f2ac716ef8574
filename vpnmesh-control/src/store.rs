//! Where the log of a mesh is kept.

mod credentials;
mod file;
mod memory;
mod record;

use std::fmt::Debug;
use std::path::PathBuf;

use async_trait::async_trait;

pub use file::FileStore;
pub use memory::MemoryStore;

use crate::{Error, LogEntry, MeshState};

/// Keeps the log of a mesh.
///
/// What [`MeshStore::append`] returned for is there after a crash; what it failed for is either
/// there whole or not at all.
#[async_trait]
pub trait MeshStore: Debug + Send {
    /// Writes entries behind all others.
    ///
    /// # Errors
    /// What the store runs into; none of the entries counts then, and the call may be repeated.
    async fn append(&mut self, entries: &[LogEntry]) -> Result<(), Error>;

    /// Everything so far is what `state` says: the entries may go.
    ///
    /// # Errors
    /// What the store runs into; the entries stay.
    async fn compact(&mut self, state: &MeshState) -> Result<(), Error>;

    /// How many entries were appended since the last compaction.
    fn entries(&self) -> u64;
}

const _: Option<&dyn MeshStore> = None; // must stay object safe

/// What a store held when it was opened.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Recovery {
    /// The state after the last good entry.
    pub state: MeshState,
    /// How many entries were applied.
    pub entries: u64,
    /// What could not be read, if anything.
    pub damage: Option<Damage>,
}

impl Recovery {
    /// The term with which to begin: greater than any that the lost part can have held.
    #[must_use]
    pub fn next_term(&self) -> u64 {
        let lost = self.damage.as_ref().map_or(0, |damage| damage.lost_bytes);
        let lost_terms = lost / record::MIN_LEN as u64 + 1;
        let lost_terms = if lost == 0 { 0 } else { lost_terms };
        self.state.version().term + 1 + lost_terms
    }
}

/// The part of a log that could not be read. It was moved away; the log ends before it now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The bytes from the first bad record to the end.
    pub lost_bytes: u64,
    /// The file that keeps them.
    pub kept_in: PathBuf,
}
