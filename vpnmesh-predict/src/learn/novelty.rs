//! How new the shape of a single metric is: distance to every shape seen before.

use std::collections::VecDeque;

/// Rates each value of one metric by how unlike all before its recent shape is.
///
/// For windows of several lengths the level, spread, extremes, drift and roughness of the last
/// values are compared with those of all windows before; a window that is far from all becomes
/// known itself, so the same shape is new only once. A rating must beat those of the recent past
/// to count: one incident is one alarm.
///
/// After the idea of adaptive resonance (Carpenter and Grossberg 1987): a new category is an alarm.
#[derive(Clone, Debug)]
pub struct Novelty {
    values: VecDeque<f64>, // at most the longest window
    low: f64,
    high: f64,
    scales: Vec<Scale>,
    seen: usize,
    learning: usize, // values that only teach
    held: f64,       // decaying height of the last alarms
}

#[derive(Clone, Debug)]
struct Scale {
    window: usize,
    known: VecDeque<[f64; SHAPE]>, // at most KNOWN
    mean: f64,                     // slow mean of the distances
    square: f64,                   // of their squares
}

impl Novelty {
    /// The first `learning` values only teach what is usual.
    #[must_use]
    pub fn new(learning: usize) -> Self {
        let scales = WINDOWS.map(|window| Scale {
            window,
            known: VecDeque::new(),
            mean: 0.0,
            square: 0.0,
        });
        Self {
            values: VecDeque::new(),
            low: f64::INFINITY,
            high: f64::NEG_INFINITY,
            scales: scales.into(),
            seen: 0,
            learning,
            held: 0.0,
        }
    }

    /// Rates `value`: around one is new, zero is known; a missing value rates zero.
    pub fn rate(&mut self, value: f64) -> f64 {
        if !value.is_finite() {
            return 0.0;
        }
        self.values.push_back(value);
        if self.values.len() > WINDOWS[WINDOWS.len() - 1] {
            self.values.pop_front();
        }
        self.seen += 1;
        if self.seen <= self.learning {
            (self.low, self.high) = (self.low.min(value), self.high.max(value));
        }
        if self.seen < self.learning.min(LEAST) {
            return 0.0;
        }
        let range = (self.high - self.low).max(1e-9 + 0.01 * self.high.abs());
        let (values, low) = (&self.values, self.low);
        let ratings = self.scales.iter_mut().map(|scale| {
            let recent = values.len().min(scale.window);
            let window: Vec<f64> = values
                .range(values.len() - recent..)
                .map(|v| (v - low) / range)
                .collect();
            scale.rate(&shape(&window))
        });
        let rating = ratings.fold(0.0, f64::max);
        self.held *= HOLD;
        let counts = rating > self.held && self.seen > self.learning;
        self.held = self.held.max(rating);
        if counts { rating } else { 0.0 }
    }
}

impl Scale {
    fn rate(&mut self, shape: &[f64; SHAPE]) -> f64 {
        let far = |known: &[f64; SHAPE]| {
            let parts = known.iter().zip(shape).map(|(a, b)| (a - b).abs());
            parts.fold(0.0, f64::max)
        };
        let nearest = self.known.iter().map(far).fold(f64::INFINITY, f64::min);
        if nearest > SAME {
            if self.known.len() >= KNOWN {
                self.known.pop_front();
            }
            self.known.push_back(*shape);
        }
        if !nearest.is_finite() {
            return 0.0;
        }
        let spread = (self.square - self.mean * self.mean).max(0.0).sqrt();
        let rating = nearest / (FLOOR + self.mean + 3.0 * spread);
        self.mean += SLOW * (nearest - self.mean);
        self.square += SLOW * (nearest * nearest - self.square);
        rating
    }
}

/// Level, spread, greatest, least, drift and roughness.
fn shape(window: &[f64]) -> [f64; SHAPE] {
    let count = window.len() as f64;
    let mean = window.iter().sum::<f64>() / count;
    let spread = (window
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / count)
        .sqrt();
    let (low, high) = window
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(*value), high.max(*value))
        });
    let half = window.len() / 2;
    let part = |part: &[f64]| part.iter().sum::<f64>() / part.len().max(1) as f64;
    let drift = if half > 0 {
        part(&window[half..]) - part(&window[..half])
    } else {
        0.0
    };
    let steps = window.windows(2).map(|pair| (pair[1] - pair[0]).abs());
    let rough = steps.sum::<f64>() / (count - 1.0).max(1.0);
    [mean, 2.0 * spread, high, low, drift, 2.0 * rough]
}

const WINDOWS: [usize; 3] = [1, 8, 48];
const SHAPE: usize = 6;
const KNOWN: usize = 600;
const LEAST: usize = 50; // values before a distance means anything
const SAME: f64 = 0.02; // of the range: nearer is the same shape
const FLOOR: f64 = 0.04; // of the range
const SLOW: f64 = 0.01; // of the usual distances: about a hundred values
const HOLD: f64 = 0.99; // an alarm raises the bar for about a hundred values

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::Dice;

    #[test]
    fn a_new_shape_is_new_once() {
        let mut dice = Dice::new(1);
        let mut novelty = Novelty::new(300);
        let mut ratings = Vec::new();
        for at in 0..3000_usize {
            let odd = at % 1000 > 980 && at > 1000; // twice the same odd shape
            let wave = (at as f64 / 20.0).sin() + 0.05 * dice.normal();
            ratings.push(novelty.rate(if odd { wave + 4.0 } else { wave }));
        }
        let most = |range: std::ops::Range<usize>| {
            ratings[range].iter().fold(0.0, |most: f64, r| most.max(*r))
        };
        assert!(
            most(1981..2010) > 3.0 * most(400..1900),
            "{} {}",
            most(1981..2010),
            most(400..1900)
        );
        assert!(most(2981..3000) < 0.5 * most(1981..2010));
    }
}
