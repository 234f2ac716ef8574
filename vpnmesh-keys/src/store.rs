//! All that keys keep on disk, and where secrets are kept.

mod directory;
mod durable;
mod incarnation;
mod key_file;
mod key_store;
mod membership;

pub use directory::DirectoryStore;
pub use durable::{exposure, replace_durably, write_new_durably};
pub use incarnation::{Incarnation, IncarnationFile};
pub use key_store::{KeyStore, MemoryStore};
pub use membership::{Accepted, MembershipStore};
