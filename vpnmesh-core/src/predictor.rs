//! Who says how likely a node is to fail.

mod threshold;

use std::fmt::Debug;
use std::time::Duration;

use crate::{Forecast, NodeId, NodeSample, Timestamp};

pub use threshold::ThresholdPredictor;

/// Says how likely a node is to fail soon.
///
/// Implementations are deterministic: the same samples in the same order give the same forecast.
/// They keep at most 16 KB per node and tolerate missing values.
pub trait FailurePredictor: Debug + Send {
    /// Takes in one sample. Samples of a node come in time order.
    fn observe(&mut self, node: NodeId, sample: &NodeSample, now: Timestamp);

    /// The risk that `node` fails within `horizon`; `None` while too little is known.
    fn forecast(&self, node: NodeId, horizon: Duration, now: Timestamp) -> Option<Forecast>;

    /// The node left the mesh. The default keeps what was learnt.
    fn forget(&mut self, _node: NodeId) {}
}

const _: Option<&dyn FailurePredictor> = None; // must stay object safe
