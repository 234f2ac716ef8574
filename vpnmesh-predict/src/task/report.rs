//! What an evaluation found.

use std::fmt;

use serde_json::{Value, json};

use super::page::Plot;
use crate::measure::mean_and_spread;

/// The figures of one task.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Report {
    /// Name of the task.
    pub task: String,
    /// One entry per metric.
    pub findings: Vec<Finding>,
    /// What a page shows beside them.
    pub plots: Vec<Plot>,
}

/// One figure, beside what others reach.
#[derive(Clone, PartialEq, Debug)]
pub struct Finding {
    /// What was measured.
    pub metric: String,
    /// Mean over the seeds.
    pub value: f64,
    /// Standard deviation over the seeds; zero where nothing is random.
    pub spread: f64,
    /// The best of the baselines, computed on the same data; none where there is no baseline.
    pub baseline: Option<f64>,
    /// Which baseline that was.
    pub best: &'static str,
    /// The figure to reach, if one was set.
    pub target: Option<f64>,
    /// Less is better.
    pub less: bool,
}

impl Finding {
    /// A figure over seeds of which more is better.
    #[must_use]
    pub fn more(metric: impl Into<String>, values: &[f64]) -> Self {
        let (value, spread) = mean_and_spread(values);
        Self {
            metric: metric.into(),
            value,
            spread,
            baseline: None,
            best: "",
            target: None,
            less: false,
        }
    }

    /// A figure over seeds of which less is better.
    #[must_use]
    pub fn less(metric: impl Into<String>, values: &[f64]) -> Self {
        Self {
            less: true,
            ..Self::more(metric, values)
        }
    }

    /// Beside the best of `baselines`.
    #[must_use]
    pub fn beside(mut self, baselines: &[(&'static str, f64)]) -> Self {
        for &(name, value) in baselines {
            let better = self
                .baseline
                .is_none_or(|best| (value < best) == self.less && value != best);
            if better && value.is_finite() {
                self.baseline = Some(value);
                self.best = name;
            }
        }
        self
    }

    /// With a figure to reach.
    #[must_use]
    pub const fn reach(mut self, target: f64) -> Self {
        self.target = Some(target);
        self
    }

    /// Whether the target is reached.
    #[must_use]
    pub fn held(&self) -> Option<bool> {
        self.target.map(|target| {
            if self.less {
                self.value <= target
            } else {
                self.value >= target
            }
        })
    }
}

impl Report {
    /// No figures yet.
    #[must_use]
    pub fn new(task: &str) -> Self {
        Self {
            task: task.to_owned(),
            findings: Vec::new(),
            plots: Vec::new(),
        }
    }

    /// As one JSON object.
    #[must_use]
    pub fn json(&self) -> Value {
        let results = self.findings.iter().map(|finding| {
            json!({
                "metric": finding.metric,
                "value": finding.value,
                "spread": finding.spread,
                "baseline": finding.baseline,
                "target": finding.target,
                "held": finding.held(),
            })
        });
        json!({ "task": self.task, "results": results.collect::<Vec<Value>>() })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = self
            .findings
            .iter()
            .map(|finding| finding.metric.len())
            .max()
            .unwrap_or(0);
        for finding in &self.findings {
            let Finding {
                metric,
                value,
                spread,
                best,
                ..
            } = finding;
            write!(
                f,
                "{} {metric:widest$}  {value:.4} ± {spread:.4}",
                self.task
            )?;
            if let Some(baseline) = finding.baseline {
                write!(f, "  baseline {baseline:.4} ({best})")?;
            }
            if let Some(target) = finding.target {
                let held = if finding.held() == Some(true) {
                    "held"
                } else {
                    "missed"
                };
                write!(f, "  target {target:.4}: {held}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_baseline_is_shown_and_the_target_judged() {
        let error = Finding::less("rmse", &[1.0, 3.0])
            .beside(&[("a", 5.0), ("b", 4.0)])
            .reach(2.0);
        assert_eq!(
            (error.baseline, error.best, error.held()),
            (Some(4.0), "b", Some(true))
        );
        let area = Finding::more("area", &[0.5])
            .beside(&[("a", 0.4), ("b", 0.3)])
            .reach(0.6);
        assert_eq!((area.baseline, area.held()), (Some(0.4), Some(false)));
    }
}
