//! Your own failure predictor in place of ours.
//!
//! You will see the risk of a leaking node rise, as a predictor of one rule sees it. Put it where
//! ours goes: `ControllerParts::predictor`, or `Engine::new`.

use std::collections::BTreeMap;
use std::time::Duration;

use vpnmesh::core::{FailurePredictor, Forecast, NodeId, NodeSample, Ratio, Timestamp};

/// Fails who will have no memory left at the present pace.
#[derive(Debug, Default)]
struct MemoryRunsFull {
    last: BTreeMap<NodeId, (Timestamp, f64, f64)>, // seen at, share in use, growth per second
}

impl FailurePredictor for MemoryRunsFull {
    fn observe(&mut self, node: NodeId, sample: &NodeSample, now: Timestamp) {
        let Some(memory) = sample.memory.map(Ratio::get) else {
            return;
        };
        let (then, before, growth) = self.last.get(&node).copied().unwrap_or((now, memory, 0.0));
        let step = now.since(then).as_secs_f64();
        let seen = (memory - before) / step.max(1e-9); // nothing at first
        self.last
            .insert(node, (now, memory, 0.8 * growth + 0.2 * seen));
    }

    fn forecast(&self, node: NodeId, horizon: Duration, _now: Timestamp) -> Option<Forecast> {
        let (_, memory, growth) = self.last.get(&node)?;
        let left = (1.0 - memory) / growth.max(1e-9); // seconds
        Some(Forecast {
            probability: Ratio::saturating(horizon.as_secs_f64() / left / 2.0),
            horizon,
            lead: (*growth > 0.0).then(|| Duration::from_secs_f64(left.min(3600.0))),
            evidence: Vec::new(),
            confidence: Ratio::ONE,
        })
    }
}

fn main() {
    let mut predictor: Box<dyn FailurePredictor> = Box::new(MemoryRunsFull::default());
    for second in 0..60_u32 {
        let now = Timestamp::ZERO + Duration::from_secs(1) * second;
        let memory = Ratio::new(0.3 + 0.01 * f64::from(second));
        let sample = NodeSample {
            memory,
            ..NodeSample::default()
        };
        predictor.observe(NodeId(1), &sample, now);
        if second % 20 == 19 {
            let forecast = predictor.forecast(NodeId(1), Duration::from_secs(10), now);
            println!("after {second} s: {forecast:?}");
        }
    }
}
