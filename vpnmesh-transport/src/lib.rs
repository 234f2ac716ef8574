//! vpnmesh transport.

pub mod entropy;
mod error;
pub mod handshake;
#[cfg(feature = "io")]
pub mod io;
pub mod kdf;
mod machine;
pub mod suite;
#[cfg(test)]
mod vectors;

pub use entropy::{Entropy, OsEntropy, SeededEntropy};
pub use error::{DropReason, Error};
pub use machine::{Machine, Transmit};
