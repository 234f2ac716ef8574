//! The keys of a mesh: what signs, what is stored, and when it is replaced.
//!
//! - [`SigningKey`] and [`VerifyingKey`]: the mesh root, Ed25519 and ML-DSA-65 together.
//! - [`SignedMembership`] and [`SignedOrder`]: what the root signs; [`MembershipStore`] keeps the
//!   newest membership on disk.
//! - [`IdentityKey`]: the X25519 key of a member, in files as WireGuard writes them.
//! - [`IncarnationFile`]: the counter that tells one start of a process from the next.
//! - [`KeyStore`] with [`MemoryStore`] and [`DirectoryStore`]; [`ProfileLimits`] is the richer
//!   [`KeyPolicy`](vpnmesh_core::KeyPolicy).
//!
//! Only the modules under `store` touch files. Every error about a file names it and the way out.

mod base64;
mod error;
mod identity;
mod policy;
mod process;
mod sign;
mod signed;
mod store;

pub use base64::secret_to_base64;
pub use error::Error;
pub use identity::IdentityKey;
pub use policy::{ProfileLimits, UsageLimits};
pub use process::harden_process;
pub use sign::{Purpose, Signature, SigningKey, VerifyingKey};
pub use signed::{SignedMembership, SignedOrder};
pub use store::{
    Accepted, DirectoryStore, Incarnation, IncarnationFile, KeyStore, MembershipStore, MemoryStore,
    exposure, replace_durably, write_new_durably,
};
