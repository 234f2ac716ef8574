//! Percentiles with one exact definition.

/// The `percent`-th percentile of `sorted` by nearest rank: the smallest value of which at least
/// `percent` in a hundred values are not greater. No interpolation: the answer is a value that
/// was measured.
///
/// - `sorted`: ascending; `None` if empty
/// - `percent`: 0 gives the least value, 100 the greatest; above 100 counts as 100
#[must_use]
pub fn percentile<T: Copy>(sorted: &[T], percent: u8) -> Option<T> {
    let percent = usize::from(percent.min(100));
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// Sorts `values`, then gives their percentile; see [`percentile`].
#[must_use]
pub fn percentile_of<T: Copy + Ord>(mut values: Vec<T>, percent: u8) -> Option<T> {
    values.sort_unstable();
    percentile(&values, percent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_median_of_an_even_count_is_the_lower_of_the_two() {
        assert_eq!(percentile(&[1, 2, 3, 4], 50), Some(2));
        assert_eq!(percentile(&[1, 2, 3], 50), Some(2));
    }

    #[test]
    fn the_99th_of_a_hundred_is_the_last_but_one() {
        let values: Vec<u32> = (1..=100).collect();
        assert_eq!(percentile(&values, 99), Some(99));
        assert_eq!(percentile(&values, 100), Some(100));
        assert_eq!(percentile(&values, 0), Some(1));
    }

    #[test]
    fn nothing_has_no_percentile() {
        assert_eq!(percentile::<u32>(&[], 50), None);
    }

    proptest! {
        #[test]
        fn enough_values_are_not_greater_and_no_smaller_one_would_do(
            mut values in proptest::collection::vec(0_u32..1000, 1..200), percent in 1_u8..=100,
        ) {
            values.sort_unstable();
            let found = percentile(&values, percent).unwrap();
            let share = |limit: u32| values.iter().filter(|value| **value <= limit).count() * 100;
            let wanted = values.len() * usize::from(percent);
            prop_assert!(share(found) >= wanted);
            let smaller = values.iter().rev().find(|value| **value < found);
            prop_assert!(smaller.is_none_or(|value| share(*value) < wanted));
        }
    }
}
