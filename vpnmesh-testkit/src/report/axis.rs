//! Steps and labels of axes.

/// The smallest of 1, 2, 5 times a power of ten that is not below `least`; 1 for nonsense.
pub(super) fn nice_step(least: f64) -> f64 {
    if !least.is_finite() || least <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let found = steps.into_iter().find(|step| *step >= least * 0.999_999);
    found.unwrap_or(10.0 * power)
}

/// The step of a time axis in seconds: as [`nice_step`], but whole parts of minutes above 10 s.
pub(super) fn time_step(least: f64) -> f64 {
    let whole = [15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0];
    if least <= 10.0 || !least.is_finite() {
        return nice_step(least).max(0.1);
    }
    let found = whole.into_iter().find(|step| *step >= least);
    found.unwrap_or_else(|| nice_step(least))
}

/// A time on an axis that is `span` seconds long: seconds, or minutes and seconds.
pub(super) fn clock_label(seconds: f64, span: f64) -> String {
    if span > 120.0 {
        let whole = seconds.round() as u64;
        format!("{}:{:02}", whole / 60, whole % 60)
    } else {
        let rounded = (seconds * 10.0).round() / 10.0;
        format!("{rounded}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_one_two_or_five() {
        assert_eq!(
            [0.7, 1.0, 3.0, 7.0, 23.0].map(nice_step),
            [1.0, 1.0, 5.0, 10.0, 50.0]
        );
        assert_eq!([0.0, f64::NAN, f64::INFINITY].map(nice_step), [1.0; 3]);
    }

    #[test]
    fn long_time_axes_step_by_parts_of_minutes() {
        assert_eq!(
            [0.0001, 3.0, 11.0, 125.0].map(time_step),
            [0.1, 5.0, 15.0, 300.0]
        );
    }

    #[test]
    fn long_axes_count_minutes() {
        assert_eq!(clock_label(90.0, 60.0), "90");
        assert_eq!(clock_label(90.0, 600.0), "1:30");
    }
}
