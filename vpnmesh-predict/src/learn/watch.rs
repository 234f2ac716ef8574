//! How unlike itself a machine behaves: three views on many metrics at once, without labels.

use std::collections::VecDeque;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};

use super::{Dice, solve_positive};

/// Knows one machine from an unlabelled past and rates every next row.
///
/// A linear step from the row before says what is expected; the errors, each in its own metric's
/// usual error, are looked at in three ways, standardised by what the end of the past gave: their
/// mean size, the sum of the three greatest, and how far level and errors together are from
/// anything seen before.
#[derive(Clone, Debug)]
pub struct Watch {
    mean: Array1<f64>,
    scale: Array1<f64>,
    memory: Array2<f32>, // [row, level and half the error of each metric]
    memory_square: Vec<f32>,
    step: Array2<f64>,          // [metric before, metric]
    error: Array1<f64>,         // usual error of the step by metric
    usual: [(f64, f64); VIEWS], // median and spread of each view
    before: Option<Array1<f64>>,
    recent: [VecDeque<f64>; VIEWS], // at most `smooth`
    smooth: usize,
    missed: Vec<f64>, // last step's error by metric
}

/// What one row is worth.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rating {
    /// The views at this row, in deviations above usual.
    pub now: [f64; VIEWS],
    /// Their means over the last rows.
    pub smooth: [f64; VIEWS],
}

impl Watch {
    /// Learns from `past`, shape `[row, metric]`; its last `tail` share standardises the views.
    /// Ratings are smoothed over `smooth` rows.
    #[must_use]
    pub fn fit(past: ArrayView2<'_, f64>, tail: f64, smooth: usize, seed: u64) -> Self {
        let rows = past.nrows();
        let cut = ((rows as f64 * (1.0 - tail)) as usize).clamp(2, rows);
        let early = past.slice(s![..cut, ..]);
        let (mean, scale) = moments(early);
        let mut watch = Self {
            mean,
            scale,
            memory: Array2::zeros((0, 2 * past.ncols())),
            memory_square: Vec::new(),
            step: Array2::zeros((past.ncols(), past.ncols())),
            error: Array1::ones(past.ncols()),
            usual: [(0.0, 1.0); VIEWS],
            before: None,
            recent: Default::default(),
            smooth: smooth.max(1),
            missed: Vec::new(),
        };
        let z = watch.standardised(early);
        watch.step = linear_step(&z);
        let errors = watch.learn_errors(&z);
        watch.remember(&z, &errors, seed);
        watch.usual = watch.usual_views(past.slice(s![cut.min(rows - 1).., ..]));
        watch
    }

    /// Rates `row`, which follows the one before; missing metrics count as their mean.
    pub fn rate(&mut self, row: ArrayView1<'_, f64>) -> Rating {
        let raw = self.views(row);
        let now: [f64; VIEWS] = std::array::from_fn(|view| {
            let (median, spread) = self.usual[view];
            ((raw[view] - median) / spread).clamp(-3.0, 30.0)
        });
        let smooth = std::array::from_fn(|view| {
            let recent = &mut self.recent[view];
            recent.push_back(now[view]);
            if recent.len() > self.smooth {
                recent.pop_front();
            }
            recent.iter().sum::<f64>() / recent.len() as f64
        });
        Rating { now, smooth }
    }

    /// Error of the last step by metric, in usual errors: what drove the rating.
    #[must_use]
    pub fn missed(&self) -> &[f64] {
        &self.missed
    }

    fn usual_views(&mut self, tail: ArrayView2<'_, f64>) -> [(f64, f64); VIEWS] {
        let rated: Vec<[f64; VIEWS]> = tail.rows().into_iter().map(|row| self.views(row)).collect();
        std::array::from_fn(|view| {
            let mut values: Vec<f64> = rated.iter().map(|raw| raw[view]).collect();
            values.sort_by(f64::total_cmp);
            let at = |share: f64| values[((values.len() - 1) as f64 * share) as usize];
            (at(0.5), ((at(0.99) - at(0.5)) / NORMAL_99).max(1e-6))
        })
    }

    fn views(&mut self, row: ArrayView1<'_, f64>) -> [f64; VIEWS] {
        let z = self.standardised(row.insert_axis(Axis(0)));
        let z = z.row(0);
        let expected = self.before.as_ref().map(|before| before.dot(&self.step));
        let missed = expected.map_or_else(|| Array1::zeros(z.len()), |expected| &z - &expected);
        let missed = (missed / &self.error).mapv(|error| error.clamp(-MISSED, MISSED));
        self.before = Some(z.to_owned());
        self.missed = missed.iter().map(|error| error.abs()).collect();
        let mean = self.missed.iter().sum::<f64>() / self.missed.len() as f64;
        let mut greatest = self.missed.clone();
        greatest.sort_by(|a, b| b.total_cmp(a));
        let greatest = greatest.iter().take(3).sum();
        [mean, greatest, self.nearest(&beside(z, missed.view()))]
    }

    /// The errors of the step over `z`, and from them what is usual for each metric.
    fn learn_errors(&mut self, z: &Array2<f64>) -> Array2<f64> {
        let rows = z.nrows();
        let mut errors = Array2::zeros(z.raw_dim());
        let expected = z.slice(s![..rows - 1, ..]).dot(&self.step);
        errors
            .slice_mut(s![1.., ..])
            .assign(&(&z.slice(s![1.., ..]) - &expected));
        let square = errors.mapv(|error| error * error).mean_axis(Axis(0));
        if let Some(square) = square {
            self.error = square.mapv(|square| square.sqrt().max(LEAST_ERROR));
        }
        (errors / &self.error).mapv(|error| error.clamp(-MISSED, MISSED))
    }

    fn standardised(&self, rows: ArrayView2<'_, f64>) -> Array2<f64> {
        let mut z = rows.to_owned();
        for mut row in z.rows_mut() {
            let own = standardised(row.view(), &self.mean, &self.scale);
            row.assign(&own);
        }
        z
    }

    fn remember(&mut self, z: &Array2<f64>, errors: &Array2<f64>, seed: u64) {
        let chosen = Dice::new(seed).choose(z.nrows(), MEMORY);
        let rows = chosen.iter().map(|&at| beside(z.row(at), errors.row(at)));
        self.memory = Array2::zeros((chosen.len(), 2 * z.ncols()));
        for (mut to, row) in self.memory.rows_mut().into_iter().zip(rows) {
            to.assign(&row);
        }
        self.memory_square = self
            .memory
            .rows()
            .into_iter()
            .map(|row| row.dot(&row))
            .collect();
    }

    /// Distance to the fifth nearest row of the memory.
    fn nearest(&self, z: &Array1<f32>) -> f64 {
        let own = z.dot(z);
        let mut best = [f32::INFINITY; NEIGHBOURS];
        for (cross, square) in self.memory.dot(z).iter().zip(&self.memory_square) {
            let distance = (own + square - 2.0 * cross).max(0.0);
            if distance < best[NEIGHBOURS - 1] {
                best[NEIGHBOURS - 1] = distance;
                best.sort_by(f32::total_cmp);
            }
        }
        f64::from(best[NEIGHBOURS - 1]).sqrt()
    }
}

/// Deviations from the mean; a missing value is none.
pub(super) fn standardised(
    row: ArrayView1<'_, f64>,
    mean: &Array1<f64>,
    scale: &Array1<f64>,
) -> Array1<f64> {
    let mut z = (&row - mean) / scale;
    z.mapv_inplace(|value| {
        if value.is_nan() {
            0.0
        } else {
            value.clamp(-FAR, FAR)
        }
    });
    z
}

/// Mean and deviation; a constant metric gets 5 % of its mean, at least 0.02.
pub(super) fn moments(z: ArrayView2<'_, f64>) -> (Array1<f64>, Array1<f64>) {
    let parts = z.columns().into_iter().map(|column| {
        let known: Vec<f64> = column
            .iter()
            .copied()
            .filter(|value| value.is_finite())
            .collect();
        let count = known.len().max(1) as f64;
        let mean = known.iter().sum::<f64>() / count;
        let spread = (known
            .iter()
            .map(|value| (value - mean).powi(2))
            .sum::<f64>()
            / count)
            .sqrt();
        (
            mean,
            if spread < 1e-6 {
                (0.05 * mean.abs()).max(0.02)
            } else {
                spread
            },
        )
    });
    let (mean, scale): (Vec<f64>, Vec<f64>) = parts.unzip();
    (mean.into(), scale.into())
}

/// Levels, and half the errors behind them.
fn beside(z: ArrayView1<'_, f64>, errors: ArrayView1<'_, f64>) -> Array1<f32> {
    let errors = errors.iter().map(|error| (error * 0.5) as f32);
    z.iter().map(|level| *level as f32).chain(errors).collect()
}

/// The linear step from one row to the next, with a penalty.
fn linear_step(z: &Array2<f64>) -> Array2<f64> {
    let rows = z.nrows();
    let (before, after) = (z.slice(s![..rows - 1, ..]), z.slice(s![1.., ..]));
    let mut square = before.t().dot(&before);
    square.diag_mut().mapv_inplace(|value| value + PENALTY);
    let cross = before.t().dot(&after);
    let mut step = Array2::zeros(cross.raw_dim());
    for (mut to, cross) in step.columns_mut().into_iter().zip(cross.columns()) {
        to.assign(&solve_positive(square.clone(), cross.to_owned()));
    }
    step
}

/// Mean error, three greatest errors, distance from all seen before.
pub const VIEWS: usize = 3;

const MEMORY: usize = 3000;
const NEIGHBOURS: usize = 5;
const PENALTY: f64 = 10.0;
const MISSED: f64 = 15.0; // usual errors; more counts no more
const LEAST_ERROR: f64 = 0.02; // deviations
const FAR: f64 = 10.0; // deviations; further counts no more
const NORMAL_99: f64 = 2.326; // of a normal distribution

#[cfg(test)]
mod tests {
    use super::*;

    /// Three metrics that follow one slow rhythm.
    fn row(at: usize, dice: &mut Dice) -> [f64; 3] {
        let rhythm = (at as f64 / 40.0).sin();
        [rhythm, 2.0 * rhythm, -rhythm].map(|value| value + 0.05 * dice.normal())
    }

    #[test]
    fn a_broken_relation_stands_out_though_every_metric_is_in_range() {
        let mut dice = Dice::new(1);
        let past: Vec<f64> = (0..2000).flat_map(|at| row(at, &mut dice)).collect();
        let past = Array2::from_shape_vec((2000, 3), past).unwrap();
        let mut watch = Watch::fit(past.view(), 0.3, 5, 1);
        let mut quiet = 0.0_f64;
        for at in 2000..2200 {
            let rating = watch.rate(Array1::from(row(at, &mut dice).to_vec()).view());
            quiet = quiet.max(rating.now.iter().sum());
        }
        let broken = watch.rate(ndarray::array![-1.0, 2.0, 1.0].view());
        assert!(
            broken.now.iter().sum::<f64>() > quiet + 5.0,
            "{broken:?} {quiet}"
        );
        assert!(watch.missed()[1] > watch.missed()[0]);
    }

    #[test]
    fn missing_metrics_are_borne() {
        let past = Array2::from_shape_fn((100, 2), |(row, _)| (row % 7) as f64);
        let mut watch = Watch::fit(past.view(), 0.3, 3, 1);
        let rating = watch.rate(ndarray::array![f64::NAN, 3.0].view());
        assert!(rating.now.iter().all(|value| value.is_finite()));
    }
}
