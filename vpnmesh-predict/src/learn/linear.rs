//! Straight lines: ridge regression, fitted at once or row by row.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};

/// Least squares with a penalty on the weights; the last weight is the constant, free of penalty.
#[derive(Clone, PartialEq, Debug)]
pub struct Ridge {
    pub(crate) weights: Array1<f64>, // [feature + 1]
}

impl Ridge {
    /// Fits `y` over `x`, shape `[row, feature]`, rows weighted by `weight`.
    #[must_use]
    pub fn fit(x: ArrayView2<'_, f64>, y: &[f64], weight: Option<&[f64]>, penalty: f64) -> Self {
        let features = x.ncols();
        let mut square = Array2::<f64>::zeros((features + 1, features + 1));
        let mut cross = Array1::<f64>::zeros(features + 1);
        let mut full = Array1::<f64>::ones(features + 1);
        for (at, (row, y)) in x.rows().into_iter().zip(y).enumerate() {
            let weight = weight.map_or(1.0, |weight| weight[at]);
            full.slice_mut(ndarray::s![..features]).assign(&row);
            add_outer(&mut square, full.view(), weight);
            cross.scaled_add(weight * y, &full);
        }
        for at in 0..features {
            square[(at, at)] += penalty;
        }
        square[(features, features)] += 1e-9;
        Self {
            weights: solve_positive(square, cross),
        }
    }

    /// The weights, the constant last.
    #[must_use]
    pub const fn weights(&self) -> &Array1<f64> {
        &self.weights
    }

    /// The value on the line.
    #[must_use]
    pub fn value(&self, row: ArrayView1<'_, f64>) -> f64 {
        let features = self.weights.len() - 1;
        let sum: f64 = row.iter().zip(&self.weights).map(|(x, w)| x * w).sum();
        sum + self.weights[features]
    }
}

/// Adds `weight · row · rowᵀ` to the lower triangle.
fn add_outer(square: &mut Array2<f64>, row: ArrayView1<'_, f64>, weight: f64) {
    for at in 0..row.len() {
        let scaled = row[at] * weight;
        if scaled != 0.0 {
            let mut line = square.row_mut(at);
            for to in 0..=at {
                line[to] += scaled * row[to];
            }
        }
    }
}

/// Solves `a · w = b` for a symmetric `a` of which the lower triangle is given (Cholesky).
///
/// A direction in which `a` is not positive gets the weight zero.
#[must_use]
pub fn solve_positive(mut a: Array2<f64>, mut b: Array1<f64>) -> Array1<f64> {
    let size = b.len();
    for at in 0..size {
        for to in 0..=at {
            let sum: f64 = (0..to).map(|k| a[(at, k)] * a[(to, k)]).sum();
            let left = a[(at, to)] - sum;
            a[(at, to)] = if at == to {
                if left > 1e-12 {
                    left.sqrt()
                } else {
                    f64::INFINITY
                }
            } else {
                left / a[(to, to)]
            };
        }
    }
    for at in 0..size {
        let sum: f64 = (0..at).map(|k| a[(at, k)] * b[k]).sum();
        b[at] = (b[at] - sum) / a[(at, at)];
    }
    for at in (0..size).rev() {
        let sum: f64 = (at + 1..size).map(|k| a[(k, at)] * b[k]).sum();
        b[at] = (b[at] - sum) / a[(at, at)];
    }
    b
}

/// Ridge regression that forgets: recursive least squares with a forgetting factor.
///
/// Source: Ljung 1999, chapter 11. Its matrix is bounded: where nothing excites a direction, it is
/// not blown up further.
#[derive(Clone, Debug)]
pub struct RunningRidge {
    weights: Array1<f64>, // [feature + 1]
    inverse: Array2<f64>, // [feature + 1, feature + 1]
    keep: f64,
    ceiling: f64, // of the trace of `inverse`
}

impl RunningRidge {
    /// Starts from `ridge` and the rows it was fitted on, which it forgets by `keep` a row.
    #[must_use]
    pub fn new(weights: Array1<f64>, certainty: f64, keep: f64) -> Self {
        let size = weights.len();
        let inverse = Array2::from_diag_elem(size, 1.0 / certainty);
        Self {
            weights,
            ceiling: 4.0 * size as f64 / certainty,
            inverse,
            keep,
        }
    }

    /// The value on the line; `row` ends with the constant 1.
    #[must_use]
    pub fn value(&self, row: ArrayView1<'_, f64>) -> f64 {
        self.weights.dot(&row)
    }

    /// Takes in what came true for `row`.
    pub fn learn(&mut self, row: ArrayView1<'_, f64>, truth: f64) {
        let error = truth - self.value(row);
        let direction = self.inverse.dot(&row);
        let along = row.dot(&direction);
        let gain = &direction / (self.keep + along);
        self.weights.scaled_add(error, &gain);
        for (at, &gain) in gain.iter().enumerate() {
            self.inverse.row_mut(at).scaled_add(-gain, &direction);
        }
        if self.inverse.diag().sum() < self.ceiling {
            self.inverse /= self.keep;
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::learn::Dice;

    #[test]
    fn a_plane_is_found() {
        let mut dice = Dice::new(1);
        let x = Array2::from_shape_fn((200, 2), |_| dice.normal());
        let y: Vec<f64> = x
            .rows()
            .into_iter()
            .map(|row| 3.0 * row[0] - row[1] + 2.0)
            .collect();
        let ridge = Ridge::fit(x.view(), &y, None, 1e-6);
        assert!((ridge.value(array![1.0, 1.0].view()) - 4.0).abs() < 1e-5);
    }

    #[test]
    fn a_moving_line_is_followed() {
        let mut dice = Dice::new(1);
        let mut running = RunningRidge::new(Array1::zeros(2), 0.01, 0.99);
        for at in 0..2000 {
            let x = dice.normal();
            let slope = if at < 1000 { 1.0 } else { -2.0 };
            running.learn(array![x, 1.0].view(), slope * x + 0.5);
        }
        assert!((running.value(array![1.0, 1.0].view()) + 1.5).abs() < 1e-3);
    }
}
