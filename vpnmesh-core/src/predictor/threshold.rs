//! The plain predictor: smoothed levels against limits.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{Evidence, FailurePredictor, Forecast, Metric, NodeId, NodeSample, Ratio, Timestamp};

/// Takes a node for failing when smoothed loss, delay, stalls or drops near a limit.
///
/// Levels are exponentially smoothed by time; round-trip time and jitter count relative to the
/// slowly smoothed level of the same node. It sees no trends, so the horizon changes nothing and
/// no lead time is named. Busy processors or full memory alone never reach one half.
#[derive(Clone, Default, Debug)]
pub struct ThresholdPredictor {
    nodes: BTreeMap<NodeId, Levels>, // until forgotten: callers observe known nodes only
}

#[derive(Clone, Default, Debug)]
struct Levels {
    samples: u32,
    seen_at: Timestamp,
    fast: [Option<f64>; Metric::SAMPLED.len()],
    slow: [Option<f64>; Metric::SAMPLED.len()],
}

/// From which level on a metric counts, from which on it counts fully, and how much.
struct Limit {
    from: f64,
    to: f64,
    weight: f64,
}

impl ThresholdPredictor {
    /// Knows no node yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl FailurePredictor for ThresholdPredictor {
    fn observe(&mut self, node: NodeId, sample: &NodeSample, now: Timestamp) {
        let levels = self.nodes.entry(node).or_default();
        let step = now.since(levels.seen_at);
        for (at, metric) in Metric::SAMPLED.into_iter().enumerate() {
            if let Some(value) = sample.metric(metric) {
                smooth(&mut levels.fast[at], value, step, FAST);
                smooth(&mut levels.slow[at], value, step, SLOW);
            }
        }
        levels.samples = levels.samples.saturating_add(1);
        levels.seen_at = now;
    }

    fn forecast(&self, node: NodeId, horizon: Duration, now: Timestamp) -> Option<Forecast> {
        let levels = self.nodes.get(&node)?;
        if levels.samples < MIN_SAMPLES {
            return None;
        }
        let known = Metric::SAMPLED.into_iter().enumerate();
        let rated = known.filter_map(|(at, metric)| {
            let value = levels.fast[at]?;
            let risk = risk(metric, value, levels.slow[at]?);
            Some((metric, value, risk))
        });
        let rated: Vec<(Metric, f64, f64)> = rated.collect();
        let survival: f64 = rated.iter().map(|(.., risk)| 1.0 - risk).product();
        let mut evidence: Vec<Evidence> = rated
            .iter()
            .filter(|(.., risk)| *risk > 0.0)
            .map(|&(metric, value, risk)| Evidence {
                metric,
                value,
                contribution: -(1.0 - risk).ln(),
            })
            .collect();
        evidence.sort_by(|a, b| b.contribution.total_cmp(&a.contribution));
        let fresh = if now.since(levels.seen_at) < STALE {
            1.0
        } else {
            0.5
        };
        let share = rated.len() as f64 / Metric::SAMPLED.len() as f64;
        Some(Forecast {
            probability: Ratio::saturating(1.0 - survival),
            horizon,
            lead: None,
            evidence,
            confidence: Ratio::saturating(share * fresh),
        })
    }

    fn forget(&mut self, node: NodeId) {
        self.nodes.remove(&node);
    }
}

fn smooth(level: &mut Option<f64>, value: f64, step: Duration, span: Duration) {
    let gain = 1.0 - (-step.as_secs_f64() / span.as_secs_f64()).exp();
    *level = Some(level.map_or(value, |old| old + gain * (value - old)));
}

/// Probability that this metric alone gives, below one.
fn risk(metric: Metric, value: f64, usual: f64) -> f64 {
    let Limit { from, to, weight } = limit(metric);
    let excess = match metric {
        Metric::Rtt | Metric::Jitter => value - usual,
        _ => value,
    };
    weight * ((excess - from) / (to - from)).clamp(0.0, 1.0)
}

/// Taste, leaning on what makes interactive traffic useless: 5 % loss, 100 ms more delay.
const fn limit(metric: Metric) -> Limit {
    let (from, to, weight) = match metric {
        Metric::Cpu | Metric::Memory => (0.9, 1.0, 0.15),
        Metric::Load => (2.0, 8.0, 0.1),
        Metric::CpuStall | Metric::IoStall => (0.4, 1.0, 0.1),
        Metric::MemoryStall => (0.1, 0.5, 0.8),
        Metric::SchedulingDelay => (0.1, 0.5, 0.7),
        Metric::ForwardingDrops => (0.02, 0.08, 0.9),
        Metric::Rtt => (0.03, 0.1, 0.6),
        Metric::Jitter => (0.02, 0.1, 0.4),
        Metric::Loss => (0.02, 0.07, 0.9),
        Metric::Reports => (0.5, 1.0, 0.0),
    };
    Limit { from, to, weight }
}

const FAST: Duration = Duration::from_secs(2); // taste: a few samples at every usual period
const SLOW: Duration = Duration::from_secs(120); // taste: what is usual for this node
const STALE: Duration = Duration::from_secs(10);
const MIN_SAMPLES: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn run(samples: impl Iterator<Item = NodeSample>) -> Option<Ratio> {
        let mut predictor = ThresholdPredictor::new();
        let mut now = Timestamp::ZERO;
        for sample in samples {
            now += Duration::from_millis(200);
            predictor.observe(NodeId(1), &sample, now);
        }
        let forecast = predictor.forecast(NodeId(1), Duration::from_secs(10), now);
        forecast.map(|forecast| forecast.probability)
    }

    fn sample(cpu: f64, drops: f64) -> NodeSample {
        NodeSample {
            cpu: Ratio::new(cpu),
            forwarding_drops: Ratio::new(drops),
            ..NodeSample::default()
        }
    }

    #[test]
    fn nothing_is_said_while_little_is_known() {
        assert_eq!(run((0..2).map(|_| sample(1.0, 1.0))), None);
    }

    #[test]
    fn a_busy_processor_alone_is_no_alarm() {
        let risk = run((0..1000).map(|_| sample(1.0, 0.01))).unwrap();
        assert!(risk < Ratio::saturating(0.3), "{risk}");
    }

    #[test]
    fn lasting_drops_are_an_alarm_and_a_spike_is_none() {
        let lasting = run((0..50).map(|at| sample(0.5, if at < 25 { 0.0 } else { 0.1 })));
        assert!(lasting.unwrap() > Ratio::saturating(0.8));
        let spike = run((0..50).map(|at| sample(0.5, if at == 49 { 0.1 } else { 0.0 })));
        assert!(spike.unwrap() < Ratio::saturating(0.3));
    }
}
