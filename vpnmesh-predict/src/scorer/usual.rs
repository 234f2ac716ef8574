//! How rare each number of a fingerprint is.

use super::fingerprint::SIZE;

/// Counts by number and by pairs of neighbouring numbers, halved when they grow too great.
///
/// Source: Goldstein and Dengel 2012 (histogram-based outlier score), with pairs added.
#[derive(Clone, Debug)]
pub(super) struct Usual {
    single: [[f32; BINS]; SIZE],
    pairs: Vec<f32>, // [number, bin of it, bin of the next]
    learnt: f32,
    surprise: f32,        // smoothed surprise of what was learnt
    surprise_spread: f32, // its mean absolute deviation
}

impl Default for Usual {
    fn default() -> Self {
        Self {
            single: [[0.0; BINS]; SIZE],
            pairs: vec![0.0; SIZE * BINS * BINS],
            learnt: 0.0,
            surprise: 0.0,
            surprise_spread: 1.0,
        }
    }
}

impl Usual {
    /// In `0.0..=1.0`; zero while little is known.
    pub(super) fn novelty(&self, numbers: &[f64; SIZE]) -> f64 {
        if self.learnt < LEAST {
            return 0.0;
        }
        let above = (self.surprise(numbers) - self.surprise) / self.surprise_spread.max(0.1);
        1.0 / (1.0 + f64::from(-(above - 4.0)).exp())
    }

    pub(super) fn learn(&mut self, numbers: &[f64; SIZE]) {
        if self.learnt >= LEAST {
            let surprise = self.surprise(numbers);
            self.surprise += 0.01 * (surprise - self.surprise);
            let off = (surprise - self.surprise).abs();
            self.surprise_spread += 0.01 * (off - self.surprise_spread);
        }
        let bins = bins(numbers);
        for at in 0..SIZE {
            self.single[at][bins[at]] += 1.0;
            self.pairs[pair(at, &bins)] += 1.0;
        }
        self.learnt += 1.0;
        if self.learnt > MOST {
            self.learnt /= 2.0;
            self.single
                .iter_mut()
                .flatten()
                .for_each(|count| *count /= 2.0);
            self.pairs.iter_mut().for_each(|count| *count /= 2.0);
        }
    }

    /// Sum of the negative logarithms of how often such numbers, and such pairs, were seen.
    fn surprise(&self, numbers: &[f64; SIZE]) -> f32 {
        let bins = bins(numbers);
        let rare = |count: f32| -((count + 0.5) / (self.learnt + 1.0)).ln();
        let each = (0..SIZE)
            .map(|at| rare(self.single[at][bins[at]]) + 0.5 * rare(self.pairs[pair(at, &bins)]));
        each.sum()
    }
}

fn bins(numbers: &[f64; SIZE]) -> [usize; SIZE] {
    std::array::from_fn(|at| {
        let (low, high) = RANGES[at];
        let along = (numbers[at] - low) / (high - low) * BINS as f64;
        along.clamp(0.0, BINS as f64 - 1.0) as usize
    })
}

const fn pair(at: usize, bins: &[usize; SIZE]) -> usize {
    (at * BINS + bins[at]) * BINS + bins[(at + 1) % SIZE]
}

const BINS: usize = 16;
const LEAST: f32 = 200.0; // fingerprints before novelty means anything
const MOST: f32 = 200_000.0;
/// Logarithms of seconds and bytes, shares, the place.
const RANGES: [(f64, f64); SIZE] = [
    (-14.0, 6.0),
    (0.0, 5.0),
    (0.0, 24.0),
    (3.0, 10.0),
    (0.0, 1.0),
    (0.0, 1.0),
    (0.0, 1.0),
    (0.0, 64.0),
];
