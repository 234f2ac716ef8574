//! Why traffic could not start or could not be asked.

use std::io;
use std::net::SocketAddr;

/// Why a load, a resource or a question to one failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrafficError {
    /// The address is not there (yet) or taken. Nothing runs; try again when it is.
    #[error("cannot bind {what} to {address}")]
    Bind {
        /// What it is for.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },

    /// A thread could not be started. Nothing runs.
    #[error("cannot start a thread")]
    Thread(#[from] io::Error),

    /// The channel to the other process ended or failed. It cannot be asked again.
    #[error("control channel failed")]
    Channel(#[source] io::Error),

    /// The other process said something that is not an answer. It can be asked again.
    #[error("control answer is not understood: {line}")]
    Answer {
        /// The start of what it said.
        line: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },

    /// The other process refused the question. It can be asked again.
    #[error("question refused: {0}")]
    Refused(String),
}
