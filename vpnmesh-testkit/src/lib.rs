//! vpnmesh testkit.

pub mod report;
pub mod traffic;
