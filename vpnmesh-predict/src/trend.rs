//! A calibrated trend model: where is each metric heading, and how bad is that together?
//!
//! Per metric a robust level and slope ([`track`]), per path its own usual round-trip time and loss
//! ([`paths`]), and one logistic combination of the levels that are expected within the horizon
//! ([`model`]). No random numbers, no clock, no allocation per sample but the sorting of paths.

mod model;
mod paths;
#[cfg(test)]
mod tests;
mod track;

use std::collections::BTreeMap;
use std::time::Duration;

use vpnmesh_core::{FailurePredictor, Forecast, Metric, NodeId, NodeSample, Ratio, Timestamp};

use model::Outlook;
use paths::Paths;
use track::Track;

/// Forecasts failures from levels and trends of everything that is measured.
///
/// It speaks after eight samples over at least one second. Metrics that are missing or stale add
/// nothing and lower the confidence. A busy processor alone never alarms, neither does one bad
/// path of several, nor a single spike. Risk never falls as the horizon grows.
#[derive(Clone, Default, Debug)]
pub struct TrendPredictor {
    nodes: BTreeMap<NodeId, Node>, // at most MAX_NODES; the stalest makes room
}

#[derive(Clone, Debug)]
struct Node {
    samples: u32,
    first_at: Timestamp,
    seen_at: Timestamp,
    tracks: [Track; Metric::SAMPLED.len()],
    paths: Paths,
}

impl TrendPredictor {
    /// Knows no node yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Level, rise and growth of every metric, then the score of the trend model: what a learned
    /// judgement rests on. Metrics that are missing or stale are NaN.
    pub(crate) fn features(&self, node: NodeId, now: Timestamp) -> Option<[f64; FEATURES]> {
        let known = self.nodes.get(&node).filter(|known| known.is_known())?;
        let mut features = [f64::NAN; FEATURES];
        for (track, slot) in known.tracks.iter().zip(features.chunks_exact_mut(3)) {
            if track.is_fresh(now) {
                slot.copy_from_slice(&[track.level(), track.rise(), track.growth()]);
            }
        }
        let tracks = Metric::SAMPLED.into_iter().zip(&known.tracks);
        let fresh = tracks.filter(|(_, track)| track.is_fresh(now));
        features[FEATURES - 1] = Outlook::of(fresh, USUAL_HORIZON).score();
        Some(features)
    }

    fn make_room(&mut self, node: NodeId) {
        if self.nodes.len() < MAX_NODES || self.nodes.contains_key(&node) {
            return;
        }
        let stalest = self.nodes.iter().min_by_key(|(_, known)| known.seen_at);
        if let Some(stalest) = stalest.map(|(node, _)| *node) {
            self.nodes.remove(&stalest);
        }
    }
}

impl Node {
    fn new(now: Timestamp) -> Self {
        Self {
            samples: 0,
            first_at: now,
            seen_at: now,
            tracks: Metric::SAMPLED.map(|metric| Track::new(model::noise_floor(metric))),
            paths: Paths::default(),
        }
    }

    fn handle_sample(&mut self, sample: &NodeSample, now: Timestamp) {
        self.paths.handle_samples(&sample.paths, now);
        for (metric, track) in Metric::SAMPLED.into_iter().zip(&mut self.tracks) {
            let value = match metric {
                Metric::Rtt => self.paths.delay_above_usual(now),
                Metric::Loss => self.paths.loss(now),
                _ => sample.metric(metric),
            };
            if let Some(value) = value {
                track.handle_value(value, now);
            }
        }
        self.samples = self.samples.saturating_add(1);
        self.seen_at = now;
    }

    fn is_known(&self) -> bool {
        self.samples >= MIN_SAMPLES && self.seen_at.since(self.first_at) >= MIN_SPAN
    }

    /// How much of what it could know it knows, and how fresh and long that is.
    fn confidence(&self, now: Timestamp) -> Ratio {
        let fresh = |track: &&Track| track.is_fresh(now);
        let known = self.tracks.iter().filter(fresh).count();
        let share = known as f64 / self.tracks.len() as f64;
        let age = self.seen_at.since(self.first_at).as_secs_f64();
        Ratio::saturating(share * (age / (age + MATURE.as_secs_f64())).sqrt())
    }
}

impl FailurePredictor for TrendPredictor {
    fn observe(&mut self, node: NodeId, sample: &NodeSample, now: Timestamp) {
        self.make_room(node);
        let known = self.nodes.entry(node).or_insert_with(|| Node::new(now));
        if now.since(known.seen_at) > FORGET {
            *known = Node::new(now);
        }
        known.handle_sample(sample, now);
    }

    fn forecast(&self, node: NodeId, horizon: Duration, now: Timestamp) -> Option<Forecast> {
        let known = self.nodes.get(&node)?;
        if !known.is_known() {
            return None;
        }
        let tracks = Metric::SAMPLED.into_iter().zip(&known.tracks);
        let fresh = tracks.filter(|(_, track)| track.is_fresh(now));
        let outlook = Outlook::of(fresh, horizon);
        Some(Forecast {
            probability: outlook.probability(),
            horizon,
            lead: outlook.lead,
            evidence: outlook.evidence(),
            confidence: known.confidence(now),
        })
    }

    fn forget(&mut self, node: NodeId) {
        self.nodes.remove(&node);
    }
}

/// Numbers that [`TrendPredictor::features`] gives.
pub(crate) const FEATURES: usize = 3 * Metric::SAMPLED.len() + 1;

const USUAL_HORIZON: Duration = Duration::from_secs(10); // that of the calibration
const MAX_NODES: usize = 16_384; // 16 KB each at most: 256 MB
const MIN_SAMPLES: u32 = 8; // taste: below, noise and trend look alike
const MIN_SPAN: Duration = Duration::from_secs(1);
const MATURE: Duration = Duration::from_secs(10); // half of all trust in usual levels
const FORGET: Duration = Duration::from_secs(60); // a node that paused this long starts anew

const _: () = assert!(size_of::<Node>() + paths::MAX_BYTES <= 16 * 1024);
