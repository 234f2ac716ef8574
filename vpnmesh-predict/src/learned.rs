//! The trend model with a learned judgement on top.
//!
//! Levels, rises and growths of all metrics, as the trend model follows them, go into boosted trees
//! for three horizons, each calibrated. Weights are versioned and checked; without sound weights
//! the trend model serves alone.

use std::time::Duration;

use ndarray::{Array2, ArrayView1};
use vpnmesh_core::{FailurePredictor, Forecast, NodeId, NodeSample, Ratio, Timestamp};

use crate::Error;
use crate::learn::{BoostSettings, Boosted, Isotonic, Reader, Weights, Writer};
use crate::trend::{FEATURES, TrendPredictor};

/// Forecasts failures by what was learnt from lives with known ends.
///
/// Evidence, lead time and confidence are those of the [`TrendPredictor`]; only the probability is
/// learnt. Risk never falls as the horizon grows.
#[derive(Clone, Default, Debug)]
pub struct LearnedPredictor {
    trend: TrendPredictor,
    weights: Option<FailureWeights>,
}

/// One set of trees and what their scores mean, for each of [`FailureWeights::HORIZONS`].
#[derive(Clone, PartialEq, Debug)]
pub struct FailureWeights {
    models: Vec<(Boosted, Isotonic)>,
}

/// What was seen of one node at one time, and when it died.
#[derive(Clone, PartialEq, Debug)]
pub struct Moment {
    features: [f64; FEATURES],
    dies_in: Option<Duration>,
    life: u64,
}

impl LearnedPredictor {
    /// Judges by `weights`.
    #[must_use]
    pub fn new(weights: FailureWeights) -> Self {
        Self {
            trend: TrendPredictor::new(),
            weights: Some(weights),
        }
    }

    /// Judges by the weights in `bytes`, or by the trend alone if they are refused; says why.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> (Self, Option<Error>) {
        match FailureWeights::from_bytes(bytes) {
            Ok(weights) => (Self::new(weights), None),
            Err(refused) => (Self::default(), Some(refused)),
        }
    }

    /// Whether learned weights are in use.
    #[must_use]
    pub const fn is_learned(&self) -> bool {
        self.weights.is_some()
    }

    /// What is known of `node`, as an example to learn from; `None` while too little is known.
    #[must_use]
    pub fn moment(
        &self,
        node: NodeId,
        now: Timestamp,
        dies_at: Option<Timestamp>,
    ) -> Option<Moment> {
        Some(Moment {
            features: self.trend.features(node, now)?,
            dies_in: dies_at.map(|dies_at| dies_at.since(now)),
            life: node.0,
        })
    }
}

impl FailurePredictor for LearnedPredictor {
    fn observe(&mut self, node: NodeId, sample: &NodeSample, now: Timestamp) {
        self.trend.observe(node, sample, now);
    }

    fn forecast(&self, node: NodeId, horizon: Duration, now: Timestamp) -> Option<Forecast> {
        let forecast = self.trend.forecast(node, horizon, now)?;
        let Some(weights) = &self.weights else {
            return Some(forecast);
        };
        let features = self.trend.features(node, now)?;
        let probability = Ratio::saturating(weights.probability(&features, horizon));
        Some(Forecast {
            probability,
            ..forecast
        })
    }

    fn forget(&mut self, node: NodeId) {
        self.trend.forget(node);
    }
}

impl FailureWeights {
    /// The horizons that are learnt; between them the probability is interpolated.
    pub const HORIZONS: [Duration; 3] = [
        Duration::from_secs(3),
        Duration::from_secs(10),
        Duration::from_secs(30),
    ];

    /// Learns from `moments`; every fourth life calibrates.
    #[must_use]
    pub fn train(moments: &[Moment], seed: u64) -> Self {
        let models = Self::HORIZONS.map(|horizon| {
            let side = |calibrates: bool| {
                let rows: Vec<&Moment> = moments
                    .iter()
                    .filter(|moment| (moment.life % 4 == 0) == calibrates)
                    .collect();
                let x = Array2::from_shape_fn((rows.len(), FEATURES), |(row, at)| {
                    rows[row].features[at]
                });
                let dies = |moment: &&Moment| {
                    f64::from(moment.dies_in.is_some_and(|dies_in| dies_in <= horizon))
                };
                let y: Vec<f64> = rows.iter().map(dies).collect();
                (x, y)
            };
            let (x, y) = side(false);
            let settings = BoostSettings {
                trees: 60,
                leaves: 12,
                rate: 0.12,
                min_rows: 40,
                seed,
                ..BoostSettings::default()
            };
            let trees = Boosted::fit(x.view(), &y, None, &settings);
            let (x, y) = side(true);
            let calibration = Isotonic::fit(&trees.scores(x.view()), &y);
            (trees, calibration)
        });
        Self {
            models: models.into(),
        }
    }

    fn probability(&self, features: &[f64; FEATURES], horizon: Duration) -> f64 {
        let row = ArrayView1::from(&features[..]);
        let mut before = (0.0, 0.0); // horizon in seconds, probability
        for (at, (trees, calibration)) in Self::HORIZONS.iter().zip(&self.models) {
            let here = (
                at.as_secs_f64(),
                calibration.probability(trees.score(row)).max(before.1),
            );
            if horizon <= *at {
                let along = (horizon.as_secs_f64() - before.0) / (here.0 - before.0);
                return before.1 + along * (here.1 - before.1);
            }
            before = here;
        }
        before.1
    }
}

impl Weights for FailureWeights {
    const KIND: u16 = 5;

    fn write(&self, out: &mut Writer) {
        for (trees, calibration) in &self.models {
            trees.write(out);
            calibration.write(out);
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Error> {
        let mut models = Vec::new();
        for _ in Self::HORIZONS {
            let trees = Boosted::read(from)?;
            if trees.features != FEATURES {
                return Err(Error::Weights {
                    reason: "trees over other features",
                });
            }
            models.push((trees, Isotonic::read(from)?));
        }
        Ok(Self { models })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{average_precision, calibration_error};
    use crate::synthetic::Life;

    const HORIZON: Duration = Duration::from_secs(10);

    /// Moments of the lives of these seeds, every second or so.
    fn moments(seeds: std::ops::Range<u64>) -> Vec<Moment> {
        let mut found = Vec::new();
        for seed in seeds {
            walk(seed, LearnedPredictor::default(), |predictor, life, now| {
                found.extend(predictor.moment(NodeId(seed), now, life.dies_at));
            });
        }
        found
    }

    fn walk(
        seed: u64,
        mut predictor: LearnedPredictor,
        mut each: impl FnMut(&LearnedPredictor, &Life, Timestamp),
    ) {
        let mut life = Life::roll(seed);
        for at in 0_u32.. {
            let (now, sample) = life.node.sample();
            if now > life.ends_at {
                return;
            }
            predictor.observe(NodeId(seed), &sample, now);
            if at % 6 == 0 {
                each(&predictor, &life, now);
            }
        }
    }

    #[test]
    fn learned_risks_rank_better_than_trends_and_mean_what_they_say() {
        let weights = FailureWeights::train(&moments(0..300), 1);
        let (mut labels, mut learned, mut trend) = (Vec::new(), Vec::new(), Vec::new());
        for seed in 100_000..100_200 {
            walk(
                seed,
                LearnedPredictor::new(weights.clone()),
                |predictor, life, now| {
                    let node = NodeId(seed);
                    let both = predictor
                        .forecast(node, HORIZON, now)
                        .zip(predictor.trend.forecast(node, HORIZON, now));
                    if let Some((own, plain)) = both {
                        learned.push(own.probability.get());
                        trend.push(plain.probability.get());
                        labels.push(life.dies_at.is_some_and(|at| at.since(now) <= HORIZON));
                    }
                },
            );
        }
        let (own, plain) = (
            average_precision(&learned, &labels),
            average_precision(&trend, &labels),
        );
        let error = calibration_error(&learned, &labels, 10);
        println!("AUC-PR learned {own:.3}, trend {plain:.3}; calibration error {error:.4}");
        assert!(own > plain, "{own} {plain}");
        assert!(error <= 0.02, "{error}");
    }

    #[test]
    fn damaged_weights_are_refused_and_the_trend_serves() {
        let mut bytes = FailureWeights::train(&moments(0..20), 1).to_bytes();
        assert!(LearnedPredictor::from_bytes(&bytes).0.is_learned());
        bytes[40] ^= 1;
        let (mut predictor, refused) = LearnedPredictor::from_bytes(&bytes);
        assert!(!predictor.is_learned() && refused.is_some());
        let mut life = Life::roll(3);
        let mut now = Timestamp::ZERO;
        for _ in 0..50 {
            let (at, sample) = life.node.sample();
            predictor.observe(NodeId(1), &sample, at);
            now = at;
        }
        assert!(predictor.forecast(NodeId(1), HORIZON, now).is_some());
    }
}
