//! Feature values as small numbers: what the histograms of boosted trees count.

use ndarray::ArrayView2;

use super::Dice;

/// Borders between the bins of each feature. Bin 0 holds what is missing.
#[derive(Clone, Debug)]
pub(super) struct Bins {
    borders: Vec<Vec<f64>>, // [feature][border], ascending, at most MAX_BORDERS
}

impl Bins {
    /// Borders at quantiles of at most [`SAMPLE`] rows of `x`, shape `[row, feature]`.
    pub(super) fn fit(x: ArrayView2<'_, f64>, seed: u64) -> Self {
        let rows = if x.nrows() > SAMPLE {
            Dice::new(seed).choose(x.nrows(), SAMPLE)
        } else {
            (0..x.nrows()).collect()
        };
        let borders = x.columns().into_iter().map(|column| {
            let mut values: Vec<f64> = rows.iter().map(|&row| column[row]).collect();
            values.retain(|value| !value.is_nan());
            values.sort_by(f64::total_cmp);
            borders(&values)
        });
        Self {
            borders: borders.collect(),
        }
    }

    /// The bins of all rows, shape `[feature][row]`.
    pub(super) fn apply(&self, x: ArrayView2<'_, f64>) -> Vec<Vec<u8>> {
        let columns = x.columns().into_iter().zip(&self.borders);
        let binned = columns.map(|(column, borders)| {
            let bin = |value: &f64| {
                if value.is_nan() {
                    0
                } else {
                    1 + borders.partition_point(|border| border < value) as u8
                }
            };
            column.iter().map(bin).collect()
        });
        binned.collect()
    }

    /// The greatest value of `bin`; everything above goes right.
    pub(super) fn border(&self, feature: usize, bin: usize) -> f64 {
        self.borders[feature][bin - 1]
    }

    /// Bins of a feature, the missing one among them.
    pub(super) fn count(&self, feature: usize) -> usize {
        self.borders[feature].len() + 2
    }
}

/// Between each two of few values, else at quantiles.
fn borders(sorted: &[f64]) -> Vec<f64> {
    let mut distinct = sorted.to_vec();
    distinct.dedup();
    if distinct.len() <= MAX_BORDERS {
        return distinct
            .windows(2)
            .map(|pair| f64::midpoint(pair[0], pair[1]))
            .collect();
    }
    let step = sorted.len() as f64 / (MAX_BORDERS + 1) as f64;
    let mut chosen: Vec<f64> = (1..=MAX_BORDERS)
        .map(|at| {
            let low = sorted[(at as f64 * step) as usize];
            let next = distinct.partition_point(|value| *value <= low);
            f64::midpoint(low, distinct.get(next).copied().unwrap_or(low))
        })
        .collect();
    chosen.dedup();
    chosen
}

const MAX_BORDERS: usize = 253; // with the missing bin and the one above all borders: 255
const SAMPLE: usize = 100_000;
