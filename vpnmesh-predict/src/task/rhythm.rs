//! How many steps a day really has.

use ndarray::ArrayView2;

/// The daily and weekly rhythm of series.
///
/// A series whose samples are lost or late has fewer steps a day than its clock says. Over a week
/// some lost steps a day are hours, and what was a week ago is looked up at the wrong time of day.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Rhythm {
    day: f64, // steps; 0: no rhythm
}

impl Rhythm {
    /// Of `day` steps, as the clock says; 0 if there is none.
    pub(super) const fn nominal(day: f64) -> Self {
        Self { day }
    }

    /// The week that repeats itself best in `z`, shape `[step, series]`, near the nominal one; the
    /// nominal one where no other is clearly better, or where there are not three weeks.
    pub(super) fn fit(z: ArrayView2<'_, f64>, nominal: usize) -> Self {
        let asked = Self::nominal(nominal as f64);
        let week = 7 * nominal;
        let (low, high) = (week - week / 14, week + week / 14);
        if nominal == 0 || z.nrows() < 3 * week {
            return asked;
        }
        let reach = (nominal / REACH).max(1);
        let best = (low..=high)
            .map(|lag| (lag, unlike(z, lag, high, reach)))
            .min_by(|a, b| a.1.total_cmp(&b.1));
        match best {
            Some((lag, error)) if error < CLEARLY * unlike(z, week, high, reach) => {
                Self::nominal(lag as f64 / 7.0)
            }
            _ => asked,
        }
    }

    /// Whether there is one.
    pub(super) const fn beats(self) -> bool {
        self.day > 0.0
    }

    /// Steps of so many days.
    pub(super) fn back(self, days: usize) -> usize {
        (self.day * days as f64).round() as usize
    }

    /// Time of day of a step, in `0.0..1.0`.
    pub(super) fn phase(self, step: usize) -> f64 {
        (step as f64 / self.day).fract()
    }
}

/// How unlike the changes over `reach` steps are to those `lag` steps before, over the same steps
/// for all lags up to `high`.
fn unlike(z: ArrayView2<'_, f64>, lag: usize, high: usize, reach: usize) -> f64 {
    let log = |t: usize, k: usize| z[(t, k)].max(1e-3).ln();
    let change = |t: usize, k: usize| log(t, k) - log(t - reach, k);
    let mut sum = 0.0;
    for t in (high + reach..z.nrows()).step_by(reach.div_ceil(4)) {
        for k in 0..z.ncols() {
            sum += (change(t, k) - change(t - lag, k)).powi(2);
        }
    }
    sum
}

const REACH: usize = 24; // changes over an hour show the rhythm, shorter ones noise
const CLEARLY: f64 = 0.9; // of the error of the nominal week

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::learn::Dice;

    fn wave(day: f64) -> Array2<f64> {
        let mut dice = Dice::new(3);
        Array2::from_shape_fn((48 * 28, 2), |(t, k)| {
            let angle = std::f64::consts::TAU * t as f64 / day;
            2.0 + (angle + k as f64).sin() + 0.05 * dice.normal()
        })
    }

    #[test]
    fn a_day_that_lost_steps_is_found() {
        let rhythm = Rhythm::fit(wave(47.0).view(), 48);
        assert_eq!(rhythm.back(7), 7 * 47);
        assert_eq!(rhythm.back(1), 47);
    }

    #[test]
    fn a_day_that_is_whole_stays() {
        assert_eq!(Rhythm::fit(wave(48.0).view(), 48), Rhythm::nominal(48.0));
        assert!(!Rhythm::fit(wave(48.0).view(), 0).beats());
    }
}
