//! vpnmesh testkit.

pub mod conformance;
pub mod lab;
pub mod link;
pub mod report;
pub mod screen;
pub mod show;
pub mod sim;
pub mod traffic;
