//! What prediction costs: microseconds per sample, per forecast and per update of a connection.
//!
//! Times are those of this thread's processor, from `/proc/thread-self/schedstat`, so that other
//! programs on the machine do not count.

use std::hint::black_box;
use std::time::Duration;

use vpnmesh_core::{
    Bandwidth, ConnectionSample, DemandSample, FailurePredictor, NodeId, RiskScorer, SiteId,
    SitePair, Timestamp, TrafficPredictor,
};
use vpnmesh_predict::synthetic::Life;
use vpnmesh_predict::{
    FailureWeights, LearnedDemand, LearnedPredictor, LearnedScorer, TrendPredictor,
};

fn main() {
    let weights = FailureWeights::train(&moments(), 1);
    failure("trend", TrendPredictor::new());
    failure("learned", LearnedPredictor::new(weights));
    demand();
    risk();
}

/// Processor time of this thread in microseconds.
fn spent() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text
        .split_whitespace()
        .next()
        .and_then(|first| first.parse::<f64>().ok());
    nanos.unwrap_or(0.0) / 1e3
}

fn print(what: &str, count: usize, micros: f64) {
    let each = micros / count as f64;
    println!(
        "{what}: {each:.2} µs each, {:.0} a second on one core",
        1e6 / each
    );
}

fn failure(name: &str, mut predictor: impl FailurePredictor) {
    let mut lives: Vec<Life> = (0..200).map(Life::roll).collect();
    let mut samples = Vec::new();
    for _ in 0..40 {
        for (node, life) in lives.iter_mut().enumerate() {
            let (now, sample) = life.node.sample();
            samples.push((NodeId(node as u64), now, sample));
        }
    }
    let begin = spent();
    for (node, now, sample) in &samples {
        predictor.observe(*node, sample, *now);
        black_box(predictor.forecast(*node, Duration::from_secs(10), *now));
    }
    print(
        &format!("failure, {name}: sample and forecast"),
        samples.len(),
        spent() - begin,
    );
}

fn demand() {
    let mut predictor = LearnedDemand::new(Duration::from_secs(300));
    let pairs = 400;
    let begin = spent();
    for step in 0..50_u64 {
        for pair in 0..pairs {
            let pair = SitePair {
                from: SiteId(pair / 20),
                to: SiteId(20 + pair % 20),
            };
            let sample = DemandSample {
                bandwidth: Some(Bandwidth(step * 1000 % 7919)),
                ..DemandSample::default()
            };
            predictor.observe(pair, &sample, Timestamp(step * 300_000_000_000));
        }
    }
    print(
        "demand: closed period of a pair",
        50 * pairs as usize,
        spent() - begin,
    );
}

fn risk() {
    let mut scorer = LearnedScorer::new(65_536);
    let updates = 2_000_000_u64;
    let begin = spent();
    for at in 0..updates {
        let sample = ConnectionSample {
            packets_in: 1 + (at % 3) as u32,
            bytes_in: 60,
            bytes_out: (at % 1400) as u32,
            gap: Some(Duration::from_micros(at % 5000)),
            ..ConnectionSample::default()
        };
        black_box(scorer.observe(at % 50_000, &sample, Timestamp(at)));
    }
    print(
        "risk: update of a connection",
        updates as usize,
        spent() - begin,
    );
}

fn moments() -> Vec<vpnmesh_predict::Moment> {
    let mut found = Vec::new();
    for seed in 0..100 {
        let mut life = Life::roll(seed);
        let mut predictor = LearnedPredictor::default();
        for at in 0_u32.. {
            let (now, sample) = life.node.sample();
            if now > life.ends_at {
                break;
            }
            predictor.observe(NodeId(seed), &sample, now);
            if at % 8 == 0 {
                found.extend(predictor.moment(NodeId(seed), now, life.dies_at));
            }
        }
    }
    found
}
