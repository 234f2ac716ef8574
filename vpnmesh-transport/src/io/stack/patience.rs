//! When silence means that packets were lost.
//!
//! smoltcp repeats after a second at the earliest. A node's death heals in a fraction of that, so
//! this measures round trips beside it and says sooner when to repeat; [`Connection`] then lets the
//! socket's time run ahead. Source: RFC 6298, with the least wait of Linux.
//!
//! [`Connection`]: super::connection::Connection

use smoltcp::time::{Duration, Instant};

/// Times the acknowledgements of one connection.
#[derive(Debug)]
pub(super) struct Patience {
    /// Round trip and its variation, smoothed.
    measured: Option<(Duration, Duration)>,
    /// The end of what is timed, and when it left.
    sample: Option<(u32, Instant)>,
    /// The end of what was ever sent, and of what is acknowledged of it, as sequence numbers.
    sent: Option<(u32, u32)>,
    /// When something new was acknowledged, or sent after everything was.
    heard: Instant,
    /// Repetitions since.
    tries: u32,
}

impl Patience {
    pub(super) const fn new() -> Self {
        Self {
            measured: None,
            sample: None,
            sent: None,
            heard: Instant::ZERO,
            tries: 0,
        }
    }

    /// Something left whose last sequence number is before `end`.
    pub(super) fn handle_sent(&mut self, end: u32, now: Instant) {
        let (sent, acknowledged) = self
            .sent
            .unwrap_or((end.wrapping_sub(1), end.wrapping_sub(1)));
        if !is_after(end, sent) {
            self.sample = None; // whose acknowledgement would it be? Karn's rule
            return;
        }
        if sent == acknowledged {
            self.heard = now;
        }
        self.sent = Some((end, acknowledged));
        self.sample.get_or_insert((end, now));
    }

    /// The peer acknowledged everything before `number`.
    pub(super) fn handle_acknowledged(&mut self, number: u32, now: Instant) {
        let Some((sent, acknowledged)) = self.sent else {
            return;
        };
        if !is_after(number, acknowledged) || is_after(number, sent) {
            return;
        }
        self.sent = Some((sent, number));
        self.heard = now;
        self.tries = 0;
        if let Some((_, left)) = self.sample.take_if(|(end, _)| !is_after(*end, number)) {
            self.measure(now - left);
        }
    }

    /// What was sent last is sent again.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.heard = now;
        self.tries += 1;
        self.sample = None;
    }

    /// When to send again; `None` while everything is acknowledged.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let (sent, acknowledged) = self.sent?;
        (sent != acknowledged).then(|| self.heard + self.span())
    }

    fn span(&self) -> Duration {
        let once = self.measured.map_or(UNMEASURED, |(trip, variation)| {
            trip + (variation * 4).max(LEAST)
        });
        let doubled = once * (1 << self.tries.min(MOST_DOUBLINGS));
        doubled.min(MOST).max(once)
    }

    fn measure(&mut self, trip: Duration) {
        let (smoothed, variation) = self.measured.unwrap_or((trip, trip));
        let apart = smoothed.max(trip) - smoothed.min(trip);
        let variation = (variation * 3 + apart) / 4;
        self.measured = Some(((smoothed * 7 + trip) / 8, variation));
    }
}

/// Whether a sequence number comes after another one, across the wrap.
const fn is_after(number: u32, other: u32) -> bool {
    (number.wrapping_sub(other) as i32) > 0
}

/// Before there is a measurement. RFC 6298, section 2.1.
const UNMEASURED: Duration = Duration::from_secs(1);
/// Above the round trip, `TCP_RTO_MIN` of Linux: peers may put acknowledgements off.
const LEAST: Duration = Duration::from_millis(200);
/// The longest wait: after an outage a flow goes on within this time. RFC 6298 allows no less than
/// 60 s; that is meant for paths on which everybody waits for the same bottleneck.
const MOST: Duration = Duration::from_secs(10);
const MOST_DOUBLINGS: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    const TRIP: Duration = Duration::from_millis(20);

    fn at(millis: i64) -> Instant {
        Instant::from_millis(1_000_000 + millis)
    }

    #[test]
    fn it_waits_a_round_trip_and_a_bit_and_then_twice_as_long_each_time() {
        let mut patience = Patience::new();
        assert_eq!(patience.poll_timeout(), None);
        patience.handle_sent(u32::MAX, at(0));
        assert_eq!(patience.poll_timeout(), Some(at(1000)));
        patience.handle_acknowledged(u32::MAX, at(20));
        assert_eq!(patience.poll_timeout(), None);

        patience.handle_sent(500, at(100)); // across the wrap
        let first = at(100) + TRIP + LEAST;
        assert_eq!(patience.poll_timeout(), Some(first));
        patience.handle_timeout(first);
        assert_eq!(patience.poll_timeout(), Some(first + (TRIP + LEAST) * 2));
        for _ in 0..20 {
            patience.handle_timeout(first);
        }
        assert_eq!(patience.poll_timeout(), Some(first + MOST));
        patience.handle_acknowledged(300, at(5000));
        assert_eq!(patience.poll_timeout(), Some(at(5000) + TRIP + LEAST));
    }

    #[test]
    fn what_was_sent_twice_is_not_timed() {
        let mut patience = Patience::new();
        patience.handle_sent(100, at(0));
        patience.handle_acknowledged(100, at(20));
        patience.handle_sent(200, at(1000));
        patience.handle_timeout(at(4000));
        patience.handle_sent(200, at(4000));
        patience.handle_acknowledged(200, at(9000));
        patience.handle_sent(300, at(9000));
        assert_eq!(patience.poll_timeout(), Some(at(9000) + TRIP + LEAST));
    }

    #[test]
    fn nonsense_and_old_news_change_nothing() {
        let mut patience = Patience::new();
        patience.handle_acknowledged(7, at(0));
        patience.handle_sent(100, at(0));
        let before = patience.poll_timeout();
        patience.handle_acknowledged(101, at(10));
        patience.handle_acknowledged(99, at(10));
        assert_eq!(patience.poll_timeout(), before);
    }
}
