//! vpnmesh testkit.

pub mod conformance;
pub mod lab;
pub mod left_out;
pub mod link;
pub mod report;
pub mod screen;
pub mod show;
pub mod sim;
pub mod traffic;
