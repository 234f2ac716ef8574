//! Who measures a node.

use std::fmt::Debug;

use crate::{NodeSample, PathSample, Timestamp};

/// Measures the node it runs on.
///
/// Called once per sampling period (100 ms to 10 s). What cannot be measured stays `None`: a broken
/// source never stops the others.
pub trait NodeHealth: Debug + Send {
    /// What the period that ends `now` showed.
    fn sample(&mut self, now: Timestamp) -> NodeSample;
}

const _: Option<&dyn NodeHealth> = None; // must stay object safe

/// Health from samples that the caller pushes: for programs that measure by their own means.
#[derive(Clone, Default, Debug)]
pub struct PushedHealth {
    host: NodeSample,
    paths: Vec<PathSample>, // at most NodeSample::MAX_PATHS, one per peer
}

impl PushedHealth {
    /// Nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The host itself looks like `sample` from now on; paths pushed before stay.
    pub fn push_host(&mut self, sample: NodeSample) {
        let paths = sample.paths.clone();
        self.host = NodeSample {
            paths: Vec::new(),
            ..sample
        };
        paths.into_iter().for_each(|path| self.push_path(path));
    }

    /// One path looks like `sample` until the next [`NodeHealth::sample`]. At
    /// [`NodeSample::MAX_PATHS`] paths to other peers it is ignored.
    pub fn push_path(&mut self, sample: PathSample) {
        let known = self.paths.iter().position(|p| p.peer == sample.peer);
        if let Some(known) = known {
            self.paths[known] = sample;
        } else if self.paths.len() < NodeSample::MAX_PATHS {
            self.paths.push(sample);
        }
    }
}

impl NodeHealth for PushedHealth {
    fn sample(&mut self, _now: Timestamp) -> NodeSample {
        NodeSample {
            paths: std::mem::take(&mut self.paths),
            ..self.host.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NodeId, Ratio};

    fn path(peer: u64) -> PathSample {
        PathSample {
            peer: NodeId(peer),
            rtt: None,
            jitter: None,
            loss: Ratio::new(0.5),
            packets: 2,
        }
    }

    #[test]
    fn the_host_stays_as_pushed_and_paths_are_sampled_once() {
        let mut health = PushedHealth::new();
        health.push_host(NodeSample {
            cpu: Ratio::new(0.5),
            paths: vec![path(1), path(1)],
            ..NodeSample::default()
        });
        assert_eq!(health.sample(Timestamp(0)).paths, [path(1)]);
        let second = health.sample(Timestamp(1));
        assert_eq!((second.cpu, second.paths.len()), (Ratio::new(0.5), 0));
    }

    #[test]
    fn paths_are_bounded() {
        let mut health = PushedHealth::new();
        (0..1000).for_each(|peer| health.push_path(path(peer)));
        assert_eq!(
            health.sample(Timestamp(0)).paths.len(),
            NodeSample::MAX_PATHS
        );
    }
}
