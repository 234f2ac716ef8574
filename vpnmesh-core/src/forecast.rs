//! What is expected: the risk that a node fails, and what speaks for it.

use std::time::Duration;

use crate::{Metric, Ratio};

/// The risk that a node fails within a span.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Forecast {
    /// Probability of failure within `horizon`.
    pub probability: Ratio,
    /// The span that `probability` speaks of.
    pub horizon: Duration,
    /// Expected time to the failure, if a trend points at one.
    pub lead: Option<Duration>,
    /// What drove the forecast, greatest contribution first; at most one entry per metric.
    pub evidence: Vec<Evidence>,
    /// How much the predictor knows: 0 is a guess, 1 is all it could wish for.
    pub confidence: Ratio,
}

/// One reason for a forecast.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Evidence {
    /// The metric.
    pub metric: Metric,
    /// Its present level: a share in `0.0..=1.0`, or seconds.
    pub value: f64,
    /// What it added to the log-odds of failure.
    pub contribution: f64,
}
