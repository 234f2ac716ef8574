//! vpnmesh testkit.

pub mod conformance;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod lab;
pub mod left_out;
pub mod link;
pub mod report;
pub mod screen;
pub mod show;
pub mod sim;
pub mod traffic;
