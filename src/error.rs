//! What can go wrong when a role is set up or run.

use std::io;
use std::path::PathBuf;

/// Why a role could not be started, or a mesh not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A settings file cannot be read. Nothing was started.
    #[error("cannot read settings {path}: {reason}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said, and the way out.
        reason: String,
    },

    /// A settings file says something that cannot be meant. Nothing was started.
    #[error("settings {path} are wrong: {reason}", path = path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// Where and what, in one line.
        reason: String,
    },

    /// A description or a setting makes no sense. Nothing was written or started.
    #[error("{what} {name:?} {problem}")]
    Invalid {
        /// The kind of thing.
        what: &'static str,
        /// The thing.
        name: String,
        /// What is wrong, and the way out.
        problem: String,
    },

    /// The state directory has no membership yet. Nothing was started.
    #[error(
        "{path} holds no signed membership: provision the member, or copy the file `membership` from any other member",
        path = path.display()
    )]
    NoMembership {
        /// The state directory.
        path: PathBuf,
    },

    /// A key, an incarnation or a membership on disk cannot be used. Nothing was started.
    #[error(transparent)]
    Keys(#[from] vpnmesh_keys::Error),

    /// The controller, its line or its certificates cannot be used.
    #[error(transparent)]
    Control(#[from] vpnmesh_control::Error),

    /// The machine refused its configuration. Nothing was started.
    #[error(transparent)]
    Machine(#[from] vpnmesh_transport::Error),

    /// A socket or a device could not be opened, or the packet thread ended.
    #[error(transparent)]
    Io(#[from] vpnmesh_transport::io::Error),

    /// The policy of the failover makes no sense. Nothing was started.
    #[error(transparent)]
    Policy(#[from] vpnmesh_core::Error),

    /// The system gave no thread, or refused signals or a directory.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },

    /// No packet could flow in time. The member goes on trying.
    #[error("{name} is not connected after {patience:?}: see the drop counters in its report")]
    NotReady {
        /// The member.
        name: String,
        /// How long it was waited for.
        patience: std::time::Duration,
    },

    /// More is asked of the member than it takes in.
    #[error("the {role} has too many commands waiting; try again")]
    Busy {
        /// The role.
        role: &'static str,
    },

    /// The member is asked to do what only a running one can.
    #[error("the {role} has stopped")]
    Stopped {
        /// The role.
        role: &'static str,
    },
}

impl Error {
    pub(crate) fn invalid(what: &'static str, name: impl ToString, problem: impl ToString) -> Self {
        Self::Invalid {
            what,
            name: name.to_string(),
            problem: problem.to_string(),
        }
    }

    pub(crate) fn system(what: impl ToString) -> impl FnOnce(io::Error) -> Self {
        let what = what.to_string();
        move |source| Self::System { what, source }
    }
}
