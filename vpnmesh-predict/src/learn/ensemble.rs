//! Several forecasts as one, weighted by how they did.

/// Weighs members by their discounted squared errors and what these have in common.
///
/// The weights solve a small ridge problem that is drawn towards `start`, so a member that adds
/// nothing keeps its small share and a bad one loses it; they add up to one and none is negative.
///
/// Source: Granger and Ramanathan 1984 (regression weights); projection on the simplex, Duchi et
/// al. 2008.
#[derive(Clone, Debug)]
pub struct Ensemble {
    weights: Vec<f64>,
    start: Vec<f64>,
    square: Vec<f64>, // [member, member]: discounted products of errors
    keep: f64,
    count: f64,
    age: u32,
}

impl Ensemble {
    /// Starts from the weights `start`, and forgets errors by `keep` an observation.
    #[must_use]
    pub fn new(start: Vec<f64>, keep: f64) -> Self {
        let members = start.len();
        Self {
            weights: start.clone(),
            start,
            square: vec![0.0; members * members],
            keep,
            count: 0.0,
            age: 0,
        }
    }

    /// The weights, adding up to one.
    #[must_use]
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// The weighted mean of `forecasts`.
    #[must_use]
    pub fn combine(&self, forecasts: &[f64]) -> f64 {
        self.weights
            .iter()
            .zip(forecasts)
            .map(|(weight, value)| weight * value)
            .sum()
    }

    /// Learns how far `forecasts` were from `truth`.
    pub fn learn(&mut self, forecasts: &[f64], truth: f64) {
        let errors = || forecasts.iter().map(|forecast| forecast - truth);
        let products = errors().flat_map(|a| errors().map(move |b| a * b));
        for (cell, product) in self.square.iter_mut().zip(products) {
            *cell = self.keep * *cell + product;
        }
        self.count = self.keep * self.count + 1.0;
        self.age = self.age.wrapping_add(1);
        if self.age.is_multiple_of(EVERY) {
            self.settle();
        }
    }

    /// Some steps of projected gradient descent towards the least error of the weighted mean.
    fn settle(&mut self) {
        let members = self.weights.len();
        let trace: f64 = (0..members).map(|at| self.square[at * members + at]).sum();
        let least = (0..members)
            .map(|at| self.square[at * members + at])
            .fold(f64::INFINITY, f64::min);
        let draw = least * PRIOR / (self.count + PRIOR) + 1e-12;
        let step = 1.0 / (trace + draw);
        for _ in 0..STEPS {
            let slope = |a: usize| {
                let row = &self.square[a * members..(a + 1) * members];
                let fit: f64 = row.iter().zip(&self.weights).map(|(s, w)| s * w).sum();
                fit + draw * (self.weights[a] - self.start[a])
            };
            let moved: Vec<f64> = (0..members)
                .map(|a| self.weights[a] - step * slope(a))
                .collect();
            self.weights = on_simplex(moved);
        }
    }
}

/// The nearest weights that are not negative and add up to one.
fn on_simplex(mut weights: Vec<f64>) -> Vec<f64> {
    let mut sorted = weights.clone();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let mut sum = 0.0;
    let mut cut = 0.0;
    for (at, value) in sorted.iter().enumerate() {
        sum += value;
        let candidate = (sum - 1.0) / (at + 1) as f64;
        if *value > candidate {
            cut = candidate;
        }
    }
    weights
        .iter_mut()
        .for_each(|weight| *weight = (*weight - cut).max(0.0));
    weights
}

const EVERY: u32 = 4; // observations between two adjustments
const STEPS: usize = 12;
const PRIOR: f64 = 50.0; // observations that the first weights are worth

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::Dice;

    #[test]
    fn the_weighted_mean_is_not_worse_than_its_best_member() {
        let mut dice = Dice::new(6);
        let mut ensemble = Ensemble::new(vec![1.0 / 3.0; 3], 0.999);
        let mut errors = [0.0; 4];
        for at in 0..4000 {
            let truth = dice.normal();
            let shared = dice.normal() * 0.3;
            let forecasts = [
                truth + shared,
                truth + dice.normal() * 0.3,
                truth + dice.normal() * 2.0,
            ];
            if at > 500 {
                errors[3] += (ensemble.combine(&forecasts) - truth).powi(2);
                (0..3).for_each(|m| errors[m] += (forecasts[m] - truth).powi(2));
            }
            ensemble.learn(&forecasts, truth);
        }
        assert!(errors[3] < 0.6 * errors[0].min(errors[1]), "{errors:?}");
    }

    #[test]
    fn weights_stay_on_the_simplex() {
        let weights = on_simplex(vec![0.9, 0.8, -3.0]);
        assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(weights.iter().all(|weight| *weight >= 0.0));
    }
}
