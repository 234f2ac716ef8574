//! Logistic regression.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};

use super::solve_positive;

/// Brings each feature to mean 0 and deviation 1; a constant one to 0.
#[derive(Clone, PartialEq, Debug)]
pub struct Standardizer {
    pub(crate) mean: Array1<f64>,
    pub(crate) scale: Array1<f64>,
}

impl Standardizer {
    /// Takes mean and deviation from `x`, shape `[row, feature]`; NaN is left out.
    #[must_use]
    pub fn fit(x: ArrayView2<'_, f64>) -> Self {
        let moments = x.columns().into_iter().map(|column| {
            let known = || column.iter().copied().filter(|value| value.is_finite());
            let count = known().count().max(1) as f64;
            let mean = known().sum::<f64>() / count;
            let variance = known().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
            (
                mean,
                if variance > 1e-18 {
                    variance.sqrt()
                } else {
                    f64::INFINITY
                },
            )
        });
        let (mean, scale): (Vec<f64>, Vec<f64>) = moments.unzip();
        Self {
            mean: mean.into(),
            scale: scale.into(),
        }
    }

    /// The standardised rows; NaN becomes the mean.
    #[must_use]
    pub fn apply(&self, x: ArrayView2<'_, f64>) -> Array2<f64> {
        let mut out = x.to_owned();
        for mut row in out.rows_mut() {
            for (at, value) in row.iter_mut().enumerate() {
                let moved = (*value - self.mean[at]) / self.scale[at];
                *value = if moved.is_finite() { moved } else { 0.0 };
            }
        }
        out
    }
}

/// Log-odds as a straight line over the features; the last weight is the constant.
#[derive(Clone, PartialEq, Debug)]
pub struct Logistic {
    pub(crate) weights: Array1<f64>, // [feature + 1]
}

impl Logistic {
    /// Fits labels 0 and 1 by at most 30 steps of Newton's method with penalty `l2`.
    #[must_use]
    pub fn fit(x: ArrayView2<'_, f64>, y: &[f64], l2: f64) -> Self {
        let features = x.ncols();
        let mut model = Self {
            weights: Array1::zeros(features + 1),
        };
        for _ in 0..30 {
            let (slope, bend) = model.slopes(x, y, l2);
            let step = solve_positive(bend, slope);
            let longest = step.iter().fold(0.0_f64, |most, part| most.max(part.abs()));
            model.weights.scaled_add(-(4.0 / longest.max(4.0)), &step);
            if longest < 1e-6 {
                break;
            }
        }
        model
    }

    /// Gradient and Hessian (lower triangle) of the penalised loss.
    fn slopes(&self, x: ArrayView2<'_, f64>, y: &[f64], l2: f64) -> (Array1<f64>, Array2<f64>) {
        let size = self.weights.len();
        let mut slope = &self.weights * l2;
        slope[size - 1] = 0.0;
        let mut bend = Array2::from_diag_elem(size, l2.max(1e-9));
        let mut full = Array1::<f64>::ones(size);
        for (row, y) in x.rows().into_iter().zip(y) {
            full.slice_mut(ndarray::s![..size - 1]).assign(&row);
            let p = 1.0 / (1.0 + (-self.weights.dot(&full)).exp());
            slope.scaled_add(p - y, &full);
            let weight = (p * (1.0 - p)).max(1e-6);
            for at in 0..size {
                let scaled = full[at] * weight;
                if scaled != 0.0 {
                    let part = full.slice(ndarray::s![..=at]);
                    bend.row_mut(at)
                        .slice_mut(ndarray::s![..=at])
                        .scaled_add(scaled, &part);
                }
            }
        }
        (slope, bend)
    }

    /// The log-odds of one row.
    #[must_use]
    pub fn score(&self, row: ArrayView1<'_, f64>) -> f64 {
        let features = self.weights.len() - 1;
        let sum: f64 = row.iter().zip(&self.weights).map(|(x, w)| x * w).sum();
        sum + self.weights[features]
    }

    /// The log-odds of all rows of `x`.
    #[must_use]
    pub fn scores(&self, x: ArrayView2<'_, f64>) -> Vec<f64> {
        x.rows().into_iter().map(|row| self.score(row)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::Dice;

    fn loss(model: &Logistic, x: ArrayView2<'_, f64>, y: &[f64], l2: f64) -> f64 {
        let fit: f64 = model
            .scores(x)
            .iter()
            .zip(y)
            .map(|(s, y)| (1.0 + s.exp()).ln() - y * s)
            .sum();
        let size = model.weights.len() - 1;
        fit + l2 / 2.0 * model.weights.iter().take(size).map(|w| w * w).sum::<f64>()
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let mut dice = Dice::new(3);
        let x = Array2::from_shape_fn((50, 3), |_| dice.normal());
        let y: Vec<f64> = (0..50).map(|_| f64::from(dice.unit() < 0.4)).collect();
        let model = Logistic {
            weights: Array1::from_shape_fn(4, |_| dice.normal()),
        };
        let (slope, bend) = model.slopes(x.view(), &y, 0.7);
        for at in 0..4 {
            let moved = |by: f64| {
                let mut near = model.clone();
                near.weights[at] += by;
                near
            };
            let at_loss = |by| loss(&moved(by), x.view(), &y, 0.7);
            let seen = (at_loss(1e-5) - at_loss(-1e-5)) / 2e-5;
            assert!((seen - slope[at]).abs() < 1e-5, "{seen} {}", slope[at]);
            if at < 3 {
                let slope_at = |by| moved(by).slopes(x.view(), &y, 0.7).0[at];
                let seen = (slope_at(1e-5) - slope_at(-1e-5)) / 2e-5;
                assert!((seen - bend[(at, at)]).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn a_border_is_found() {
        let mut dice = Dice::new(3);
        let x = Array2::from_shape_fn((500, 2), |_| dice.normal());
        let y: Vec<f64> = x
            .rows()
            .into_iter()
            .map(|row| f64::from(row[0] + row[1] > 0.3))
            .collect();
        let model = Logistic::fit(x.view(), &y, 0.1);
        let right = model
            .scores(x.view())
            .iter()
            .zip(&y)
            .filter(|(s, y)| (**s > 0.0) == (**y > 0.5))
            .count();
        assert!(right > 490, "{right}");
    }
}
