//! vpnmesh transport.

mod machine;

pub use machine::{Machine, Transmit};
