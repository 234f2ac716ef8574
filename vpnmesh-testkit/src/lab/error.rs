//! What can go wrong in a lab that exists. Why none can be entered is [`Refusal`](super::Refusal).

use std::io;

/// Why the lab did not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller named a host that is not there. Nothing was changed.
    #[error("no host {name:?} in the lab")]
    UnknownHost {
        /// The name given.
        name: String,
    },

    /// The caller gave a name or an address that another host has. Nothing was changed.
    #[error("{what} is taken in the lab")]
    Taken {
        /// The name or address.
        what: String,
    },

    /// The lab has its most hosts or addresses already. Nothing was changed.
    #[error("the lab is full")]
    Full,

    /// The kernel refused a step of building a host. The host does not exist.
    #[error("cannot {step} for host {host:?}")]
    Build {
        /// The host.
        host: String,
        /// The step.
        step: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },

    /// The program did not start. The host is unharmed.
    #[error("cannot start {program:?} on host {host:?}")]
    Spawn {
        /// The host.
        host: String,
        /// The program.
        program: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },

    /// The lab was dropped. Handles of it are of no more use.
    #[error("the lab is closed")]
    Closed,
}
