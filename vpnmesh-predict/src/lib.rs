//! Sees failures of nodes, demand between sites and risky connections coming.
//!
//! - `collect`: measures the host, or the own process group, from `/proc`, behind
//!   [`NodeHealth`](vpnmesh_core::NodeHealth)
//! - [`PathMeter`]: turns the transport's packet statistics into path samples
//! - [`TrendPredictor`]: turns samples into a calibrated risk with its evidence
//! - [`learn`]: models written by hand; [`measure`]: how good they are
//!
//! It decides nothing: the [`Engine`](vpnmesh_core::Engine) does.

#[cfg(feature = "collect")]
mod collect;
mod demand;
mod error;
pub mod learn;
mod learned;
pub mod measure;
mod path;
mod scorer;
#[cfg(feature = "train")]
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod synthetic;
#[cfg(feature = "train")]
pub mod task;
mod trend;

#[cfg(feature = "collect")]
pub use collect::{HostHealth, ProcessHealth, parse};
pub use demand::LearnedDemand;
pub use error::Error;
pub use learned::{FailureWeights, LearnedPredictor, Moment};
pub use path::{PathCounters, PathMeter};
pub use scorer::{LearnedScorer, RiskWeights};
pub use trend::TrendPredictor;
