//! When the packet thread looks again instead of going to sleep.
//!
//! A processor that slept needs tens of microseconds to wake up, often longer than the answer to a
//! lone packet takes. So after input that came out of an idle time the thread stays awake for a
//! moment, within a budget: under load there is always input, and nothing to gain.

use std::time::Duration;

use vpnmesh_core::Timestamp;

/// Decides how long the thread stays awake.
#[derive(Debug)]
pub(super) struct Alert {
    stay: Duration,
    until: Timestamp,
    slept_at: Timestamp,
    /// Time that may be spent awake; at most [`SAVINGS`].
    budget: Duration,
    paid_at: Timestamp,
}

impl Alert {
    pub(super) const fn new(stay: Duration, now: Timestamp) -> Self {
        Self {
            stay,
            until: Timestamp::ZERO,
            slept_at: now,
            budget: SAVINGS,
            paid_at: now,
        }
    }

    /// The thread is about to sleep.
    pub(super) const fn handle_sleep(&mut self, now: Timestamp) {
        self.slept_at = now;
    }

    /// Input woke the thread up.
    pub(super) fn handle_input(&mut self, now: Timestamp) {
        let idle = now.since(self.slept_at);
        let earned = now.since(self.paid_at) / SHARE;
        self.budget = (self.budget + earned).min(SAVINGS);
        self.paid_at = now;
        if idle >= IDLE && self.budget >= self.stay {
            self.until = now + self.stay;
        }
    }

    /// The thread stayed awake from `since` to `now`.
    pub(super) fn handle_spent(&mut self, since: Timestamp, now: Timestamp) {
        self.budget = self.budget.saturating_sub(now.since(since));
    }

    /// Until when the thread looks again.
    pub(super) const fn until(&self) -> Timestamp {
        self.until
    }
}

/// Input after so long a time was not part of a stream. Taste.
const IDLE: Duration = Duration::from_millis(1);
/// One part in so many of the time may be spent awake.
const SHARE: u32 = 100;
/// So much unspent time is kept: enough for some packets in a row.
const SAVINGS: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    const STAY: Duration = Duration::from_micros(150);

    #[test]
    fn lone_packets_keep_it_awake_and_a_stream_does_not() {
        let mut now = Timestamp::ZERO + Duration::from_secs(1);
        let mut alert = Alert::new(STAY, now);
        now += Duration::from_millis(50);
        alert.handle_input(now);
        assert_eq!(alert.until(), now + STAY);
        now += Duration::from_micros(200);
        alert.handle_sleep(now);
        now += Duration::from_micros(300);
        alert.handle_input(now);
        assert!(alert.until() < now);
    }

    #[test]
    fn it_never_spends_more_than_its_share() {
        let start = Timestamp::ZERO + Duration::from_secs(1);
        let mut alert = Alert::new(STAY, start);
        let (mut now, mut spent) = (start, Duration::ZERO);
        for _ in 0..10_000 {
            alert.handle_sleep(now);
            now += Duration::from_millis(2);
            alert.handle_input(now);
            if alert.until() > now {
                alert.handle_spent(now, now + STAY);
                spent += STAY;
            }
        }
        let share = now.since(start) / SHARE + SAVINGS;
        assert!(
            spent <= share && spent >= share / 2,
            "{spent:?} of {share:?}"
        );
    }
}
