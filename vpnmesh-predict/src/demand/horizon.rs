//! The members of one horizon, their weights and their interval.

use std::collections::VecDeque;

use ndarray::{Array1, ArrayView1};

use super::history::{History, SIDE};
use crate::learn::{Ensemble, RunningRidge};

/// Forecasts `h` periods ahead and learns when the truth comes.
#[derive(Clone, Debug)]
pub(super) struct Horizon {
    h: usize,
    ridge: RunningRidge,
    ensemble: Ensemble,
    smooth: f64,
    scale: f64,              // slow mean of the rate: what the ridge divides by
    pending: VecDeque<Made>, // at most h
    now: Option<Made>,
    half: f64,  // of the interval, relative to the scale
    fresh: f64, // recent error over usual error
    error: f64, // usual absolute error, relative
}

/// What was said, and from what.
#[derive(Clone, Debug)]
struct Made {
    features: [f64; FEATURES],
    base: f64,
    members: [f64; MEMBERS],
    value: f64,
    scale: f64,
}

/// A forecast in bit/s.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Said {
    pub(super) value: f64,
    pub(super) half: f64,
    /// 1 while errors are as usual, less when they grow.
    pub(super) drift: f64,
}

impl Horizon {
    pub(super) fn new(h: usize) -> Self {
        Self {
            h,
            ridge: RunningRidge::new(Array1::zeros(FEATURES), 10.0, KEEP),
            ensemble: Ensemble::new(vec![0.4, 0.2, 0.2, 0.2], 0.998),
            smooth: 0.0,
            scale: 0.0,
            pending: VecDeque::new(),
            now: None,
            half: 0.3,
            fresh: 0.1,
            error: 0.1,
        }
    }

    /// A period was closed.
    pub(super) fn handle_step(&mut self, history: &History) {
        let rate = history.back(0);
        let age = history.steps() as f64;
        self.scale += (rate - self.scale) / age.clamp(1.0, 288.0);
        self.smooth += (rate - self.smooth) / age.clamp(1.0, 8.0);
        if self.pending.len() >= self.h
            && let Some(made) = self.pending.pop_front()
            && history.is_measured()
        {
            self.learn(&made, rate);
        }
        let made = self.make(history);
        self.pending.push_back(made.clone());
        self.now = Some(made);
    }

    pub(super) fn forecast(&self) -> Said {
        self.now.as_ref().map_or(Said::default(), |made| Said {
            value: made.value,
            half: self.half * made.scale,
            drift: (1.5 * self.error / self.fresh.max(1e-9)).min(1.0),
        })
    }

    fn learn(&mut self, made: &Made, truth: f64) {
        let relative = |rate: f64| (rate / made.scale).clamp(0.0, 50.0);
        let change = (relative(truth) - relative(made.base)).clamp(-10.0, 10.0);
        self.ridge
            .learn(ArrayView1::from(&made.features[..]), change);
        let members = made.members.map(relative);
        self.ensemble.learn(&members, relative(truth));
        let error = (relative(truth) - relative(made.value)).abs();
        self.fresh += 0.1 * (error - self.fresh);
        self.error += 0.01 * (error - self.error);
        // Misses widen by nine times what hits narrow: in balance one of ten is a miss.
        let step = if error > self.half { 0.9 } else { -0.1 };
        self.half = (self.half * f64::exp(0.06 * step)).clamp(1e-4, 20.0);
    }

    fn make(&self, history: &History) -> Made {
        let base = history.back(0);
        let scale = self.scale.max(1.0);
        let day = history.change_a_day_ago(self.h);
        let mut features = [0.0; FEATURES];
        for lag in 1..=LAGS {
            features[lag - 1] = ((history.back(lag) - base) / scale).clamp(-10.0, 10.0);
        }
        let (sine, cosine) = history.angle(self.h).sin_cos();
        let rest = [
            (day / scale).clamp(-10.0, 10.0),
            (self.smooth - base) / scale,
            base / scale - 1.0,
            sine,
            cosine,
        ];
        features[LAGS..LAGS + rest.len()]
            .copy_from_slice(&rest.map(|value| value.clamp(-10.0, 10.0)));
        let side = history.side().map(|value| value.clamp(-3.0, 3.0) * 0.1);
        features[LAGS + rest.len()..FEATURES - 1].copy_from_slice(&side);
        features[FEATURES - 1] = 1.0;
        let learnt = base
            + scale
                * self
                    .ridge
                    .value(ArrayView1::from(&features[..]))
                    .clamp(-10.0, 10.0);
        let members = [base, self.smooth, (base + day).max(0.0), learnt.max(0.0)];
        Made {
            features,
            base,
            members,
            value: self.ensemble.combine(&members),
            scale,
        }
    }
}

const LAGS: usize = 8;
const FEATURES: usize = LAGS + 5 + SIDE + 1;
const MEMBERS: usize = 4;
const KEEP: f64 = 0.999; // about three days of five minutes
