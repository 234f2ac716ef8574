//! Measures how many expensive handshake openings come, to know when cookies are due.

use std::time::Duration;

use vpnmesh_core::Timestamp;

/// A bucket that each opening fills a little and time empties.
#[derive(Debug)]
pub(super) struct LoadMeter {
    /// When the bucket will be empty.
    empty_at: Timestamp,
    heavy: bool,
}

impl LoadMeter {
    pub(super) const fn new() -> Self {
        Self {
            empty_at: Timestamp::ZERO,
            heavy: false,
        }
    }

    /// An A costs Diffie-Hellman operations now.
    pub(super) fn count(&mut self, now: Timestamp) {
        self.empty_at = self.empty_at.max(now) + PER_OPENING;
    }

    /// Whether cookies are due: from a full bucket on, until it is half empty.
    pub(super) fn is_heavy(&mut self, now: Timestamp) -> bool {
        let filled = self.empty_at.since(now);
        self.heavy = filled > if self.heavy { CAPACITY / 2 } else { CAPACITY };
        self.heavy
    }
}

/// A thousand openings a second are about a fifth of a core. Measurement.
const PER_OPENING: Duration = Duration::from_millis(1);
/// A burst of a thousand is served without cookies.
const CAPACITY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_makes_the_load_heavy_and_quiet_makes_it_normal() {
        let mut meter = LoadMeter::new();
        let now = Timestamp::ZERO + Duration::from_secs(100);
        for _ in 0..1000 {
            meter.count(now);
            assert!(!meter.is_heavy(now));
        }
        meter.count(now);
        assert!(meter.is_heavy(now));
        assert!(meter.is_heavy(now + CAPACITY / 4));
        assert!(!meter.is_heavy(now + CAPACITY * 3 / 4));
    }

    #[test]
    fn a_steady_stream_below_the_limit_stays_normal() {
        let mut meter = LoadMeter::new();
        let mut now = Timestamp::ZERO;
        for _ in 0..5000 {
            now += PER_OPENING * 11 / 10;
            meter.count(now);
            assert!(!meter.is_heavy(now));
        }
    }
}
