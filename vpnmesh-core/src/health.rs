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
