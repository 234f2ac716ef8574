//! Real traffic over kernel sockets, measured at both ends.
//!
//! A [`Resource`] runs at a protected site, a [`Load`] at a client. They know nothing of VPNs:
//! whatever carries their TCP and UDP is what is measured. Another process asks them through
//! [`control`]; all times are [`monotonic`], which all processes of a machine share.
//!
//! Numbered datagrams are judged by the *send* time: the sender says which numbers it sent in a
//! [`Window`], the receiver which of them arrived and when, and [`FlowWindow::join`] makes
//! loss, duplication, reordering and one-way delay of both.
//!
//! Start from [`LoadConfig`], [`ResourceConfig`] and [`control::Measured`]:
//!
//! ```no_run
//! use std::time::Duration;
//! use vpnmesh_testkit::traffic::control::{Measured, Peer};
//! use vpnmesh_testkit::traffic::{FlowWindow, GRACE, Load, Resource, Window, monotonic};
//! # use vpnmesh_testkit::traffic::TrafficError;
//! # fn act(mut client: Peer<Load>, mut site: Peer<Resource>) -> Result<(), TrafficError> {
//! let from = monotonic();
//! // .. kill a node ..
//! let window = Window::new(from, from + Duration::from_secs(5));
//! std::thread::sleep((window.to + GRACE).since(monotonic()));
//! let seen = client.window(window)?;
//! let there = site.window(window)?;
//! let up = FlowWindow::join(&seen.up, &there.up[&1], GRACE);
//! let down = FlowWindow::join(&there.down[&1], &seen.down, GRACE);
//! println!("lost {}, p99 {:?}", up.lost + down.lost, down.delay(99));
//! println!("silence {:?}", seen.heartbeat.longest.map(|it| it.span()));
//! # Ok(())
//! # }
//! ```

pub mod control;

mod arrivals;
mod browse;
mod chunks;
mod clock;
mod connections;
mod datagram;
mod datagrams;
mod departures;
mod download;
mod error;
mod flow;
mod heartbeat;
mod http;
mod io;
mod load;
mod pace;
mod pattern;
mod requests;
mod resource;
mod series;
mod serve_http;
mod serve_udp;
mod silence;
mod tcp;
mod threads;
mod window;

pub use arrivals::{Arrival, ArrivalTotals, Arrivals, ArrivedWindow};
pub use clock::monotonic;
pub use connections::{ConnectionTotals, ConnectionWindow, Connections, Fault};
pub use departures::{Departures, SentWindow};
pub use error::TrafficError;
pub use flow::{FlowWindow, GRACE};
pub use load::{
    DownloadConfig, DownloadTotals, Load, LoadConfig, LoadSeries, LoadSnapshot, LoadTotals,
    LoadWindow,
};
pub use pattern::Pattern;
pub use requests::{RequestTotals, RequestWindow, Requests};
pub use resource::{DownloadServed, Resource, ResourceConfig, ResourceTotals, ResourceWindow};
pub use series::{Buckets, ByteSeries};
pub use silence::{HeartbeatTotals, HeartbeatWindow, Silence, Silences};
pub use window::Window;

#[cfg(test)]
mod tests;
