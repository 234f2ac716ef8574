//! When to send next.

use std::time::Duration;

use vpnmesh_core::{Bandwidth, Timestamp};

/// An even beat that never catches up: beats missed while a thread was starved are left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beat {
    every: Duration,
    next: Timestamp,
}

impl Beat {
    /// One beat per `every`, the first at `start`.
    pub(crate) fn new(every: Duration, start: Timestamp) -> Self {
        Self { every, next: start }
    }

    /// When the next beat is due.
    pub(crate) fn due(&self) -> Timestamp {
        self.next
    }

    /// The beat was given at `now`.
    pub(crate) fn handle_given(&mut self, now: Timestamp) {
        self.next = (self.next + self.every).max(now);
    }
}

/// Lets bytes go at a rate, with a bounded burst after a pause.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    rate: Bandwidth,
    last: Timestamp,
    credit: f64, // bytes; at most BURST of the rate
}

impl Pace {
    /// `rate` from `now` on.
    pub(crate) fn new(rate: Bandwidth, now: Timestamp) -> Self {
        Self {
            rate,
            last: now,
            credit: 0.0,
        }
    }

    /// How many bytes may go at `now`, at most `most`; they count as gone.
    pub(crate) fn allow(&mut self, most: usize, now: Timestamp) -> usize {
        let per_second = self.rate.0 as f64 / 8.0;
        self.credit += per_second * now.since(self.last).as_secs_f64();
        self.credit = self.credit.min(per_second * BURST.as_secs_f64());
        self.last = now;
        let bytes = (self.credit as usize).min(most);
        self.credit -= bytes as f64;
        bytes
    }
}

// Enough for a starved thread to keep its rate, too little to flood a path that came back.
const BURST: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Timestamp {
        Timestamp(ms * 1_000_000)
    }

    #[test]
    fn a_missed_beat_is_left_out() {
        let mut beat = Beat::new(Duration::from_millis(10), ms(0));
        beat.handle_given(ms(1));
        assert_eq!(beat.due(), ms(10));
        beat.handle_given(ms(55));
        assert_eq!(beat.due(), ms(55));
    }

    #[test]
    fn a_pause_gives_one_bounded_burst() {
        let mut pace = Pace::new(Bandwidth(8_000_000), ms(0));
        assert_eq!(pace.allow(usize::MAX, ms(10)), 10_000);
        assert_eq!(pace.allow(usize::MAX, ms(1000)), 100_000);
        assert_eq!(pace.allow(500, ms(1010)), 500);
        assert_eq!(pace.allow(usize::MAX, ms(1010)), 9_500);
    }
}
