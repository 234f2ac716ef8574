//! What can go wrong with keys.

use std::io;
use std::path::PathBuf;

use vpnmesh_core::{KeyId, MembershipError, Version};

/// Why something about keys was refused. What was in force before stays in force.
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

    /// The file system refused to write. The old content is still there, whole.
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

    /// The file is there, but it does not hold what it should. It was not changed.
    #[error("{path} is not {expected}: {way_out}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// What the operator can do about it.
        way_out: &'static str,
    },

    /// A file that should be kept as it is exists already. It was not changed.
    #[error("{path} exists already: remove it first or choose another name", path = path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },

    /// Others than the owner may read or write a secret file.
    #[error("{path} is open to others (mode {mode:o}): run chmod 600 {path}", path = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },

    /// Another process uses the file. Stop that one, or give each its own directory.
    #[error("{path} is in use by another process: stop it or use another directory", path = path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },

    /// A text from the user is not a key.
    #[error("not {expected}")]
    Text {
        /// What the text should be.
        expected: &'static str,
    },

    /// A signature does not fit: the signer is another one, or the bytes were changed.
    #[error("the signature of the {what} is not by the mesh root key")]
    Forged {
        /// What was signed.
        what: &'static str,
    },

    /// Signed by the root, but not readable: an incompatible version, most likely.
    #[error("the signed {what} cannot be read by this version")]
    Unreadable {
        /// What was signed.
        what: &'static str,
    },

    /// The sender has an old membership. The newer one stays.
    #[error("membership {offered:?} is older than {have:?}")]
    Stale {
        /// What is in force.
        have: Version,
        /// What came.
        offered: Version,
    },

    /// The root signed two memberships of one version: two controllers run, or a log was lost.
    #[error("two different memberships carry version {version:?}")]
    Conflict {
        /// The version.
        version: Version,
    },

    /// The root signed a membership that contradicts itself.
    #[error("the membership contradicts itself")]
    Membership(#[source] MembershipError),

    /// The counter is beyond repair: a peer claims an absurd value. The counter stays.
    #[error("incarnation {seen} is out of range")]
    Incarnation {
        /// What was claimed.
        seen: u64,
    },

    /// The store holds as many keys as it may. Erase one first.
    #[error("the key store is full at {limit} keys")]
    StoreFull {
        /// How many it may hold.
        limit: usize,
    },

    /// No key of that name.
    #[error("the key store has no key {key}")]
    UnknownKey {
        /// The key.
        key: KeyId,
    },

    /// The operating system has no randomness to give. Try again.
    #[error("no randomness from the operating system")]
    Randomness(#[source] getrandom::Error),

    /// The operating system refused to keep secrets out of core dumps.
    #[error("cannot turn core dumps off")]
    CoreDumps(#[source] io::Error),
}

impl Error {
    pub(crate) fn read(path: &std::path::Path, source: io::Error) -> Self {
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

    pub(crate) fn write(path: &std::path::Path, source: io::Error) -> Self {
        let way_out = match source.kind() {
            io::ErrorKind::NotFound => "create its directory first",
            io::ErrorKind::PermissionDenied => "let this user write to its directory",
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
}
