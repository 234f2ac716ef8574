//! How far a machine jumped: sudden moves of many metrics, in the size of their usual range.

use std::collections::VecDeque;

use ndarray::{Array1, ArrayView1, ArrayView2};

use super::watch::{moments, standardised};

/// Rates how far each row is from the rows just before it.
///
/// Metrics count in deviations of their level, not of their usual move: a metric that hardly ever
/// moves must move far to count. Where the start of an incident matters this ranks better than
/// what [`Watch`](super::Watch) says of the state, which stays high for as long as it lasts.
#[derive(Clone, Debug)]
pub struct Jump {
    mean: Array1<f64>,
    scale: Array1<f64>,
    recent: VecDeque<Array1<f64>>, // at most `ROWS`
}

impl Jump {
    /// Learns the usual range from `past`, shape `[row, metric]`.
    #[must_use]
    pub fn fit(past: ArrayView2<'_, f64>) -> Self {
        let (mean, scale) = moments(past);
        Self {
            mean,
            scale,
            recent: VecDeque::new(),
        }
    }

    /// Rates `row`, which follows the one before; missing metrics count as their mean.
    pub fn rate(&mut self, row: ArrayView1<'_, f64>) -> f64 {
        let z = standardised(row, &self.mean, &self.scale);
        let moved = z.iter().enumerate().map(|(metric, level)| {
            let usual = self.median(metric).unwrap_or(*level);
            (level - usual).abs().powf(POWER)
        });
        let rating = moved.sum::<f64>() / z.len().max(1) as f64;
        if self.recent.len() == ROWS {
            self.recent.pop_front();
        }
        self.recent.push_back(z);
        rating
    }

    /// Of the rows just before.
    fn median(&self, metric: usize) -> Option<f64> {
        let mut levels: Vec<f64> = self.recent.iter().map(|row| row[metric]).collect();
        levels.sort_by(f64::total_cmp);
        levels.get(levels.len() / 2).copied()
    }
}

const ROWS: usize = 5; // looked back; 3, 5 and 15 rank alike on the servers of `smd`
const POWER: f64 = 1.5; // between many metrics a little and one metric far

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    #[test]
    fn a_jump_is_rated_when_it_begins_and_no_more_once_it_lasts() {
        let past = Array2::from_shape_fn((200, 2), |(row, _)| (row % 5) as f64);
        let mut jump = Jump::fit(past.view());
        let ratings: Vec<f64> = (0..20)
            .map(|at| if at < 10 { 2.0 } else { 9.0 })
            .map(|level| jump.rate(array![level, 2.0].view()))
            .collect();
        assert_eq!(ratings[9], 0.0);
        assert!(ratings[10] > 4.0, "{ratings:?}");
        assert_eq!(ratings[15], 0.0);
    }

    #[test]
    fn missing_metrics_are_borne() {
        let past = Array2::from_shape_fn((100, 2), |(row, _)| (row % 7) as f64);
        let mut jump = Jump::fit(past.view());
        assert!(jump.rate(array![f64::NAN, 3.0].view()).is_finite());
    }
}
