//! Whole roles: a thread that moves packets, a keeper beside it, and a line of JSON for each event.
//!
//! ```text
//!   settings ─▶ start ─▶ ┌ packet thread: Machine over UDP and TUN ┐
//!                        │        events ▼      ▲ commands        │
//!   Handle ◀── events ── └ keeper: disk, prediction, reports ──────┘
//! ```
//!
//! [`client`], [`node`] and [`site`] have each a `Settings` and a marker type that implements
//! [`Role`]; [`controller`] has functions of its own. [`start`] gives a [`Handle`]; [`run()`] blocks until SIGTERM or SIGINT and prints.
//!
//! Each printed line is one object:
//!
//! ```json
//! {"t_ns":81234567890,"role":"client","name":"laptop","event":"taken_over","from":"n1","to":"n2","silence_ms":131.2}
//! ```
//!
//! `t_ns` is `CLOCK_MONOTONIC` when the packet thread said it. `report` comes every 250 ms.

pub mod client;
pub mod controller;
mod device;
mod handle;
mod json;
mod keeper;
mod lines;
pub mod metrics;
mod names;
pub mod node;
pub mod psk;
mod run;
pub mod site;
pub mod tunnel;

use serde_json::{Map, Value};
use vpnmesh_transport::Machine;

use crate::Error;
use crate::settings::FromFile;

pub use handle::{Handle, Stamped};
pub use metrics::Metric;
pub use names::Names;
pub use run::{Output, run};

/// A role that a process can have. Implemented by [`client::Client`], [`node::Node`] and
/// [`site::Site`].
pub trait Role: Sized + 'static {
    /// What it is started with.
    type Settings: FromFile;
    /// The machine on its packet thread.
    type Machine: Machine<Command: Send + 'static, Event: Send + 'static> + Send + 'static;
    /// What it tells.
    type Event: Send + 'static;
    /// What it tells every 250 ms.
    type Report: Clone + Send + 'static;
    /// Its name in records.
    const NAME: &'static str;

    /// Starts it.
    ///
    /// # Errors
    /// [`Error`] names the file, the port or the device, and the way out. Nothing runs then.
    fn start(settings: Self::Settings) -> Result<Handle<Self>, Error>;

    /// The name of an event in records, and its fields.
    fn event_record(event: &Self::Event, names: &Names) -> (&'static str, Map<String, Value>);

    /// The fields of a report in records.
    fn report_record(report: &Self::Report, names: &Names) -> Map<String, Value>;

    /// The figures of a report; those of one name stand together.
    fn metrics(report: &Self::Report, names: &Names) -> Vec<Metric>;
}

/// Starts a role.
///
/// # Errors
/// See [`Role::start`].
pub fn start<R: Role>(settings: R::Settings) -> Result<Handle<R>, Error> {
    R::start(settings)
}
