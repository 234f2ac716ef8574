//! The Numenta benchmark: single metrics, one threshold for all.

use super::report::{Finding, Report};
use super::single::Single;
use crate::learn::Novelty;
use crate::measure::{NabScore, Series};

/// Scores `test` at the threshold that is best on `train`; without `train` each half at the other's.
pub(super) fn evaluate(train: Option<&[Single]>, test: &[Single]) -> Report {
    let rated = |rate: fn(&Single) -> Vec<f64>, files: &[Single]| -> Vec<Series> {
        let of = |file: &Single| Series {
            scores: rate(file),
            windows: file.windows.clone(),
        };
        files.iter().map(of).collect()
    };
    let score = |rate: fn(&Single) -> Vec<f64>| {
        let test = rated(rate, test);
        match train {
            Some(train) => NabScore::at(&test, NabScore::best(&rated(rate, train)).threshold),
            None => halves(test),
        }
    };
    let mut report = Report::new("nab");
    let baselines = [("EWMA deviation", score(deviation)), ("silence", 0.0)];
    report.findings.push(
        Finding::more("NAB score, standard profile", &[score(novelty)])
            .beside(&baselines)
            .reach(78.0),
    );
    report
}

/// Every second file at the threshold of the others, and the other way round.
fn halves(files: Vec<Series>) -> f64 {
    let side = |odd: usize| {
        files
            .iter()
            .skip(odd)
            .step_by(2)
            .cloned()
            .collect::<Vec<Series>>()
    };
    let (even, odd) = (side(0), side(1));
    let windows =
        |files: &[Series]| files.iter().map(|file| file.windows.len()).sum::<usize>() as f64;
    let of_even = NabScore::at(&even, NabScore::best(&odd).threshold) * windows(&even);
    let of_odd = NabScore::at(&odd, NabScore::best(&even).threshold) * windows(&odd);
    (of_even + of_odd) / (windows(&even) + windows(&odd)).max(1.0)
}

fn novelty(file: &Single) -> Vec<f64> {
    let learning = ((0.15 * file.values.len() as f64) as usize).min(750); // the benchmark's probation
    let mut novelty = Novelty::new(learning);
    file.values
        .iter()
        .map(|value| novelty.rate(*value))
        .collect()
}

/// Distance from a slow mean in slow deviations.
fn deviation(file: &Single) -> Vec<f64> {
    let (mut mean, mut square) = (0.0, 0.0);
    let rate = |(at, value): (usize, &f64)| {
        let gain = f64::max(0.02, 1.0 / (at + 1) as f64);
        let spread = f64::max(square - mean * mean, 1e-12_f64).sqrt();
        let score = (value - mean).abs() / spread;
        mean += gain * (value - mean);
        square += gain * (value * value - square);
        score
    };
    file.values.iter().enumerate().map(rate).collect()
}
