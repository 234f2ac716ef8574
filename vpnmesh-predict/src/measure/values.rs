//! Forecast values against truth.

/// Sums for the relative errors of forecasts over many series and steps.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Errors {
    square: f64,
    truth_square: f64,
    absolute: f64,
    truth: f64,
}

impl Errors {
    /// One forecast and what came.
    pub fn add(&mut self, forecast: f64, truth: f64) {
        self.square += (forecast - truth).powi(2);
        self.truth_square += truth * truth;
        self.absolute += (forecast - truth).abs();
        self.truth += truth;
    }

    /// Root of the squared error over the squared truth.
    #[must_use]
    pub fn nrmse(&self) -> f64 {
        (self.square / self.truth_square.max(1e-300)).sqrt()
    }

    /// Absolute error over truth.
    #[must_use]
    pub fn wape(&self) -> f64 {
        self.absolute / self.truth.max(1e-300)
    }
}

/// Root of the mean squared error.
#[must_use]
pub fn rmse(forecasts: &[f64], truth: &[f64]) -> f64 {
    let squares = forecasts.iter().zip(truth).map(|(a, b)| (a - b).powi(2));
    (squares.sum::<f64>() / truth.len().max(1) as f64).sqrt()
}

/// The score of the PHM 2008 challenge: late forecasts of remaining life cost more than early.
///
/// Source: Saxena et al. 2008.
#[must_use]
pub fn phm_score(forecasts: &[f64], truth: &[f64]) -> f64 {
    let costs = forecasts.iter().zip(truth).map(|(forecast, truth)| {
        let late = forecast - truth;
        let scale = if late < 0.0 { -13.0 } else { 10.0 };
        (late / scale).exp_m1()
    });
    costs.sum()
}

/// Mean, and standard deviation over the sample.
#[must_use]
pub fn mean_and_spread(values: &[f64]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_relative_to_the_truth() {
        let mut errors = Errors::default();
        errors.add(3.0, 4.0);
        errors.add(3.0, 3.0);
        assert!((errors.nrmse() - 0.2).abs() < 1e-12);
        assert!((errors.wape() - 1.0 / 7.0).abs() < 1e-12);
    }

    #[test]
    fn late_costs_more_than_early() {
        assert!(phm_score(&[20.0], &[10.0]) > phm_score(&[10.0], &[20.0]));
        assert_eq!(phm_score(&[5.0], &[5.0]), 0.0);
    }
}
