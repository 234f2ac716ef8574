//! Sees failures of nodes coming.
//!
//! - `collect`: measures the host, or the own process group, from `/proc`, behind
//!   [`NodeHealth`](vpnmesh_core::NodeHealth)
//! - [`PathMeter`]: turns the transport's packet statistics into path samples
//! - [`TrendPredictor`]: turns samples into a calibrated risk with its evidence
//!
//! It decides nothing: the [`Engine`](vpnmesh_core::Engine) does.

#[cfg(feature = "collect")]
mod collect;
mod path;
#[cfg(any(test, feature = "testing"))]
pub mod synthetic;
mod trend;

#[cfg(feature = "collect")]
pub use collect::{HostHealth, ProcessHealth, parse};
pub use path::{PathCounters, PathMeter};
pub use trend::TrendPredictor;
