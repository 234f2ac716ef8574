//! gRPC over mutual TLS. Generated types end here: what leaves this module is checked and ours.

mod admin;
mod change;
mod convert;
mod dial;
mod order;
mod report;
mod server;

pub use admin::AdminClient;
pub(crate) use dial::{Line, describe, seen_incarnation};
pub(crate) use order::order_in;
pub(crate) use report::{hello_out, report_out};
pub(crate) use server::{Request, SessionReply, serve};

/// What `tonic-prost-build` makes of `proto/control.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used
)]
pub(crate) mod wire {
    tonic::include_proto!("vpnmesh.control.v1");
}
