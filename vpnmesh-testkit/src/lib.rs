//! vpnmesh testkit.

pub mod lab;
pub mod link;
pub mod report;
pub mod screen;
pub mod sim;
pub mod traffic;
