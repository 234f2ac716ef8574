//! What can go wrong in control.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::Refusal;

/// Why control failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused to read. Nothing was changed.
    #[error("cannot read {path}: {way_out}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operator can do about it.
        way_out: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },

    /// The file system refused to write. Nothing was decided; try again.
    #[error("cannot write {path}: {way_out}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operator can do about it.
        way_out: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },

    /// The file is there, but it is no log of a mesh. It was not changed.
    #[error("{path} is not a vpnmesh log: name another directory or move it away", path = path.display())]
    NotALog {
        /// The file.
        path: PathBuf,
    },

    /// Another controller uses the directory.
    #[error("{path} is in use by another controller: stop it or use another directory", path = path.display())]
    InUse {
        /// The log.
        path: PathBuf,
    },

    /// A configuration file says something that it cannot mean.
    #[error("{path}: {reason}", path = path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The place in it and what is wrong there.
        reason: String,
    },

    /// A value of the configuration cannot be used.
    #[error("{field} {problem}")]
    Setting {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },

    /// The policy of the engine makes no sense.
    #[error("the policy cannot be used")]
    Policy(#[source] vpnmesh_core::Error),

    /// The certificates cannot be used: they are no PEM, or do not belong together.
    #[error("the certificates in {path} cannot be used: issue them anew with the mesh's CA", path = path.display())]
    Credentials {
        /// Where they come from.
        path: PathBuf,
        /// What the TLS library said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// A certificate could not be made.
    #[error("cannot issue a certificate for {name}")]
    Issue {
        /// The name of its holder.
        name: String,
        /// What the library said.
        #[source]
        source: rcgen::Error,
    },

    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {way_out}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the operator can do about it.
        way_out: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },

    /// The mesh does not allow the change. Nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),

    /// The controller does not answer. Try again.
    #[error("no controller answers at {address}: {reason}")]
    Unreachable {
        /// Where it was looked for.
        address: SocketAddr,
        /// What happened.
        reason: String,
    },

    /// The controller answered with a refusal. Trying again does not help by itself.
    #[error("the controller refused: {reason}")]
    Denied {
        /// In its words.
        reason: String,
    },

    /// The other side sent something that cannot be meant.
    #[error("{field} is missing or out of range")]
    Malformed {
        /// The field of the protocol.
        field: &'static str,
    },

    /// The controller has been stopped.
    #[error("the controller has stopped")]
    Stopped,
}

impl Error {
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        let way_out = match source.kind() {
            io::ErrorKind::NotFound => "it does not exist; check the path or create it",
            io::ErrorKind::PermissionDenied => "let this user read it",
            io::ErrorKind::IsADirectory => "it is a directory; name a file in it",
            _ => "check the disk and the path",
        };
        Self::Read {
            path: path.to_owned(),
            way_out,
            source,
        }
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        let way_out = match source.kind() {
            io::ErrorKind::NotFound => "create its directory first",
            io::ErrorKind::PermissionDenied => "let this user write to its directory",
            io::ErrorKind::AlreadyExists => "it exists already; remove it or choose another name",
            io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only; use another place",
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::WriteZero => "the disk is full; free some space and try again",
            _ => "check the disk and the path",
        };
        Self::Write {
            path: path.to_owned(),
            way_out,
            source,
        }
    }

    pub(crate) fn bind(address: SocketAddr, source: io::Error) -> Self {
        let way_out = match source.kind() {
            io::ErrorKind::AddrInUse => {
                "the port is in use; stop the other program or choose another port"
            }
            io::ErrorKind::AddrNotAvailable => "this machine does not have that address",
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need more rights; choose another port"
            }
            _ => "check the address",
        };
        Self::Bind {
            address,
            way_out,
            source,
        }
    }
}
