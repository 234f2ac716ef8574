//! Bytes over time, in buckets of equal width.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vpnmesh_core::Timestamp;

use super::Window;

/// Counts bytes per bucket of time.
#[derive(Debug)]
pub struct ByteSeries {
    width_ns: u64,
    base: u64,              // index of the first bucket, counted from clock zero
    buckets: VecDeque<u64>, // at most `bound`; the oldest go first
    bound: usize,
    total: u64,
}

/// Bytes per bucket from a point in time on.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Buckets {
    /// Start of the first bucket.
    #[serde(rename = "from_ns")]
    pub from: Timestamp,
    /// Width of each.
    pub width_ns: u64,
    /// Bytes in each.
    pub bytes: Vec<u64>,
}

impl ByteSeries {
    /// Buckets of `width`; remembers the newest `bound`.
    #[must_use]
    pub fn new(width: Duration, bound: usize) -> Self {
        Self {
            width_ns: u64::try_from(width.as_nanos()).unwrap_or(u64::MAX).max(1),
            base: 0,
            buckets: VecDeque::new(),
            bound: bound.max(1),
            total: 0,
        }
    }

    /// `bytes` came in.
    pub fn handle_bytes(&mut self, bytes: u64, now: Timestamp) {
        self.total += bytes;
        let index = now.0 / self.width_ns;
        if self.buckets.is_empty()
            || index >= self.base + self.buckets.len() as u64 + self.bound as u64
        {
            self.buckets.clear();
            self.base = index;
        }
        let index = index.max(self.base); // the clock is monotonic; threads may be a little late
        while self.base + self.buckets.len() as u64 <= index {
            self.buckets.push_back(0);
        }
        self.buckets[(index - self.base) as usize] += bytes;
        while self.buckets.len() > self.bound {
            self.buckets.pop_front();
            self.base += 1;
        }
    }

    /// All bytes since the start.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The buckets that start in `window`, until `now` at most; zeros where nothing came in.
    #[must_use]
    pub fn window(&self, window: Window, now: Timestamp) -> Buckets {
        let from = window.from.0.div_ceil(self.width_ns).max(self.base);
        let to = window.to.min(now).0.div_ceil(self.width_ns);
        let to = to.min(from.saturating_add(self.bound as u64));
        let bucket = |index: u64| self.buckets.get((index - self.base) as usize).copied();
        let bytes = if self.buckets.is_empty() {
            Vec::new()
        } else {
            (from..to).map(|index| bucket(index).unwrap_or(0)).collect()
        };
        Buckets {
            from: Timestamp(from.saturating_mul(self.width_ns)),
            width_ns: self.width_ns,
            bytes,
        }
    }
}

impl Buckets {
    /// All bytes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.bytes.iter().sum()
    }

    /// The mean rate, in bit/s; zero if there are no buckets.
    #[must_use]
    pub fn rate_bps(&self) -> u64 {
        let span = self.width_ns as f64 * self.bytes.len() as f64 / 1e9;
        if span > 0.0 {
            (self.total() as f64 * 8.0 / span) as u64
        } else {
            0
        }
    }

    /// Adds another series of the same width, bucket by bucket.
    pub fn add(&mut self, other: &Self) {
        if other.bytes.is_empty() {
            return;
        }
        if self.bytes.is_empty() {
            self.clone_from(other);
            return;
        }
        let width = self.width_ns.max(1);
        let start = self.from.min(other.from);
        let index = |at: Timestamp| ((at.0 - start.0) / width) as usize;
        let len = [&*self, other].map(|it| index(it.from) + it.bytes.len());
        let mut bytes = vec![0; len[0].max(len[1])];
        for series in [&*self, other] {
            let part = &mut bytes[index(series.from)..];
            part.iter_mut()
                .zip(&series.bytes)
                .for_each(|(sum, more)| *sum += more);
        }
        (self.from, self.bytes) = (start, bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIDTH: Duration = Duration::from_nanos(10);

    #[test]
    fn bytes_fall_into_their_bucket_and_pauses_are_zeros() {
        let mut series = ByteSeries::new(WIDTH, 100);
        for (bytes, at) in [(5, 101), (6, 109), (7, 135)] {
            series.handle_bytes(bytes, Timestamp(at));
        }
        let buckets = series.window(Window::all(), Timestamp(155));
        assert_eq!(buckets.from, Timestamp(100));
        assert_eq!(buckets.bytes, [11, 0, 0, 7, 0, 0]);
    }

    #[test]
    fn a_long_pause_does_not_fill_the_memory() {
        let mut series = ByteSeries::new(WIDTH, 4);
        series.handle_bytes(1, Timestamp(0));
        series.handle_bytes(2, Timestamp(1_000_000_000_000));
        assert_eq!(series.buckets.len(), 1);
        assert_eq!(series.total(), 3);
    }

    #[test]
    fn two_series_add_up_by_time() {
        let series = |from, bytes: &[u64]| Buckets {
            from: Timestamp(from),
            width_ns: 10,
            bytes: bytes.to_vec(),
        };
        let mut sum = series(20, &[1, 2]);
        sum.add(&series(10, &[5, 5, 5, 5]));
        assert_eq!(sum, series(10, &[5, 6, 7, 5]));
    }

    proptest! {
        #[test]
        fn neighbouring_windows_hold_every_byte_once(
            mut came in proptest::collection::vec((0_u64..500, 1_u64..9), 0..50), cut in 0_u64..50,
        ) {
            came.sort_unstable();
            let mut series = ByteSeries::new(WIDTH, 1000);
            for (at, bytes) in &came {
                series.handle_bytes(*bytes, Timestamp(*at));
            }
            let sum = |from: u64, to: u64| {
                series.window(Window::new(Timestamp(from), Timestamp(to)), Timestamp(500)).total()
            };
            prop_assert_eq!(sum(0, 500), series.total());
            prop_assert_eq!(sum(0, cut * 10) + sum(cut * 10, 500), series.total());
        }
    }
}
