//! Each path against its own past; the middle path speaks for the node.

use std::collections::BTreeMap;
use std::time::Duration;

use vpnmesh_core::{NodeId, NodeSample, PathSample, Ratio, Timestamp};

/// What is usual on each path of a node, and how it is now.
#[derive(Clone, Default, Debug)]
pub(super) struct Paths {
    paths: BTreeMap<NodeId, Path>, // at most NodeSample::MAX_PATHS; a stale one makes room
}

#[derive(Clone, Copy, Debug)]
struct Path {
    opened_at: Timestamp,
    seen_at: Timestamp,
    rtt: Option<f64>, // s, now
    usual_rtt: f64,   // s, slow
    lost: f64,        // packets, fading
    packets: f64,     // packets, fading
    silence: u32,     // packets lost in a row
}

impl Paths {
    pub(super) fn handle_samples(&mut self, samples: &[PathSample], now: Timestamp) {
        for sample in samples.iter().take(NodeSample::MAX_PATHS) {
            if self.has_room_for(sample.peer, now) {
                let path = self.paths.entry(sample.peer);
                path.or_insert_with(|| Path::new(now))
                    .handle_sample(sample, now);
            }
        }
    }

    /// The middle of all paths' delays above what is usual for each, in seconds.
    pub(super) fn delay_above_usual(&self, now: Timestamp) -> Option<f64> {
        let delays = self
            .fresh(now)
            .filter_map(|path| Some(path.rtt? - path.usual_rtt));
        middle(delays.collect())
    }

    /// The middle of all paths' losses over the last seconds.
    pub(super) fn loss(&self, now: Timestamp) -> Option<f64> {
        middle(self.voices(now).filter_map(Path::loss).collect())
    }

    /// The paths that count. A silent path accuses its other end, unless all are silent.
    fn voices(&self, now: Timestamp) -> impl Iterator<Item = &Path> {
        let all_silent = self.fresh(now).all(Path::is_silent);
        self.fresh(now)
            .filter(move |path| all_silent || !path.is_silent())
    }

    fn fresh(&self, now: Timestamp) -> impl Iterator<Item = &Path> {
        self.paths
            .values()
            .filter(move |path| now.since(path.seen_at) <= STALE)
    }

    fn has_room_for(&mut self, peer: NodeId, now: Timestamp) -> bool {
        if self.paths.contains_key(&peer) || self.paths.len() < NodeSample::MAX_PATHS {
            return true;
        }
        self.paths
            .retain(|_, path| now.since(path.seen_at) <= STALE);
        self.paths.len() < NodeSample::MAX_PATHS
    }
}

impl Path {
    const fn new(now: Timestamp) -> Self {
        Self {
            opened_at: now,
            seen_at: now,
            rtt: None,
            usual_rtt: 0.0,
            lost: 0.0,
            packets: 0.0,
            silence: 0,
        }
    }

    fn handle_sample(&mut self, sample: &PathSample, now: Timestamp) {
        let step = now.since(self.seen_at).as_secs_f64();
        self.seen_at = now;
        let kept = (-step / LOSS_SPAN).exp();
        let packets = f64::from(sample.packets.max(1));
        let lost = sample.loss.map_or(0.0, Ratio::get) * packets;
        self.lost = self.lost * kept + lost;
        self.packets = self.packets * kept + sample.loss.map_or(0.0, |_| packets);
        self.silence = match sample.loss {
            Some(loss) if loss < Ratio::ONE => 0,
            Some(_) => self.silence.saturating_add(sample.packets.max(1)),
            None => self.silence,
        };
        let Some(rtt) = sample.rtt.map(|rtt| rtt.as_secs_f64()) else {
            return;
        };
        if self.rtt.is_none() {
            self.usual_rtt = rtt;
        }
        // The rise itself shall not become usual: what lies above counts less.
        let age = now.since(self.opened_at).as_secs_f64().clamp(2.0, USUAL);
        let gain = 1.0 - (-step / age).exp();
        let above = (rtt - self.usual_rtt).clamp(-SURPRISE, SURPRISE);
        self.usual_rtt += gain * above;
        self.rtt = Some(rtt);
    }

    const fn is_silent(&self) -> bool {
        self.silence >= SILENT
    }

    fn loss(&self) -> Option<f64> {
        (self.packets > 0.0).then(|| self.lost / (self.packets + DOUBT))
    }
}

fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[half]),
        _ => Some(f64::midpoint(values[half - 1], values[half])),
    }
}

/// What all paths of a node may take; a tree's nodes are half empty at worst.
pub(super) const MAX_BYTES: usize = NodeSample::MAX_PATHS * 2 * (size_of::<Path>() + 16);

const SILENT: u32 = 5; // packets in a row; at 10 % loss that is one in 100,000
const LOSS_SPAN: f64 = 1.0; // s; shorter sees single packets, longer comes late
const DOUBT: f64 = 10.0; // packets believed to have arrived before any was counted
const USUAL: f64 = 60.0; // s
const SURPRISE: f64 = 0.05; // s
const STALE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(peer: u64, rtt_ms: u64, loss: f64) -> PathSample {
        PathSample {
            peer: NodeId(peer),
            rtt: Some(Duration::from_millis(rtt_ms)),
            jitter: None,
            loss: Ratio::new(loss),
            packets: 20,
        }
    }

    #[test]
    fn each_path_is_compared_with_itself() {
        let mut paths = Paths::default();
        let mut now = Timestamp::ZERO;
        for round in 0..100 {
            now += Duration::from_millis(200);
            let more = if round < 99 { 0 } else { 30 };
            paths.handle_samples(&[sample(1, 10 + more, 0.0), sample(2, 90 + more, 0.0)], now);
        }
        let delay = paths.delay_above_usual(now).unwrap();
        assert!((delay - 0.03).abs() < 0.002, "{delay}");
    }

    #[test]
    fn one_dead_path_of_three_is_not_the_node() {
        let mut paths = Paths::default();
        let now = Timestamp::ZERO;
        paths.handle_samples(
            &[sample(1, 10, 1.0), sample(2, 10, 0.0), sample(3, 10, 0.0)],
            now,
        );
        assert_eq!(paths.loss(now), Some(0.0));
    }

    #[test]
    fn silent_peers_are_not_the_node_until_all_are_silent() {
        let mut paths = Paths::default();
        let now = Timestamp::ZERO;
        paths.handle_samples(
            &[sample(1, 10, 1.0), sample(2, 10, 1.0), sample(3, 10, 0.0)],
            now,
        );
        assert_eq!(paths.loss(now), Some(0.0));
        paths.handle_samples(&[sample(3, 10, 1.0)], now);
        assert!(paths.loss(now).unwrap() > 0.4);
    }

    #[test]
    fn stale_paths_are_silent() {
        let mut paths = Paths::default();
        paths.handle_samples(&[sample(1, 10, 1.0)], Timestamp::ZERO);
        assert_eq!(paths.loss(Timestamp::ZERO + Duration::from_secs(4)), None);
    }
}
