//! Path samples from the transport's own packets.

use std::collections::BTreeMap;
use std::time::Duration;

use vpnmesh_core::{NodeId, NodeSample, PathSample, Ratio, Timestamp};

/// What the transport counted on one path since it opened. Counters only grow.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PathCounters {
    /// Packets whose fate is known: answered, acknowledged or given up.
    pub settled: u64,
    /// Those among them that were lost.
    pub lost: u64,
    /// Smoothed round-trip time, once there was an answer.
    pub rtt: Option<Duration>,
    /// Mean deviation of the round-trip time.
    pub jitter: Option<Duration>,
}

/// Turns growing counters into one sample per path and period.
#[derive(Clone, Default, Debug)]
pub struct PathMeter {
    paths: BTreeMap<NodeId, Meter>, // at most NodeSample::MAX_PATHS; the stalest makes room
}

#[derive(Clone, Copy, Default, Debug)]
struct Meter {
    sampled: PathCounters,
    newest: PathCounters,
    heard_at: Timestamp,
}

impl PathMeter {
    /// No path yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The transport counted so much on the path to `peer`.
    pub fn handle_counters(&mut self, peer: NodeId, counters: PathCounters, now: Timestamp) {
        if !self.paths.contains_key(&peer) && self.paths.len() >= NodeSample::MAX_PATHS {
            self.drop_stalest();
        }
        let fresh = Meter {
            sampled: counters,
            ..Meter::default()
        };
        let meter = self.paths.entry(peer).or_insert(fresh);
        if counters.settled < meter.sampled.settled {
            meter.sampled = PathCounters::default(); // the path was opened anew
        }
        meter.newest = counters;
        meter.heard_at = now;
    }

    /// The path to `peer` is closed.
    pub fn forget(&mut self, peer: NodeId) {
        self.paths.remove(&peer);
    }

    /// One sample per path for the period that ends now; paths are ordered by peer.
    pub fn sample(&mut self) -> Vec<PathSample> {
        let sample = |(peer, meter): (&NodeId, &mut Meter)| {
            let Meter {
                sampled, newest, ..
            } = *meter;
            meter.sampled = newest;
            let settled = newest.settled - sampled.settled;
            let lost = newest.lost.saturating_sub(sampled.lost);
            PathSample {
                peer: *peer,
                rtt: newest.rtt,
                jitter: newest.jitter,
                loss: (settled > 0).then(|| Ratio::of(lost, settled)),
                packets: u32::try_from(settled).unwrap_or(u32::MAX),
            }
        };
        self.paths.iter_mut().map(sample).collect()
    }

    fn drop_stalest(&mut self) {
        let stalest = self.paths.iter().min_by_key(|(_, meter)| meter.heard_at);
        if let Some(peer) = stalest.map(|(peer, _)| *peer) {
            self.paths.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId(7);

    fn counted(settled: u64, lost: u64) -> PathCounters {
        PathCounters {
            settled,
            lost,
            ..PathCounters::default()
        }
    }

    #[test]
    fn a_sample_covers_its_period_alone() {
        let mut meter = PathMeter::new();
        meter.handle_counters(PEER, counted(100, 50), Timestamp::ZERO);
        meter.sample();
        meter.handle_counters(PEER, counted(200, 55), Timestamp::ZERO);
        let sample = meter.sample()[0];
        assert_eq!((sample.loss, sample.packets), (Ratio::new(0.05), 100));
        assert_eq!(meter.sample()[0].loss, None, "nothing was sent since");
    }

    #[test]
    fn counters_that_start_anew_are_no_loss() {
        let mut meter = PathMeter::new();
        meter.handle_counters(PEER, counted(100, 50), Timestamp::ZERO);
        meter.sample();
        meter.handle_counters(PEER, counted(10, 1), Timestamp::ZERO);
        assert_eq!(meter.sample()[0].loss, Ratio::new(0.1));
    }

    #[test]
    fn the_stalest_path_makes_room() {
        let mut meter = PathMeter::new();
        for peer in 0..=NodeSample::MAX_PATHS as u64 {
            let now = Timestamp(1 + peer);
            meter.handle_counters(NodeId(peer), counted(1, 0), now);
        }
        let peers: Vec<NodeId> = meter.sample().iter().map(|path| path.peer).collect();
        assert_eq!(peers.len(), NodeSample::MAX_PATHS);
        assert!(!peers.contains(&NodeId(0)));
    }
}
