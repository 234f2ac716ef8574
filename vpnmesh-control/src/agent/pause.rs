//! Pauses that grow, and differ from agent to agent.

use std::time::Duration;

/// Exponential back-off with full jitter.
#[derive(Debug)]
pub(super) struct Pause {
    min_ms: u64,
    max_ms: u64,
    next_ms: u64, // in min_ms..=max_ms
}

impl Pause {
    pub(super) const fn new(min_ms: u64, max_ms: u64) -> Self {
        Self {
            min_ms,
            max_ms,
            next_ms: min_ms,
        }
    }

    /// All is well again: the next pause is short.
    pub(super) const fn reset(&mut self) {
        self.next_ms = self.min_ms;
    }

    /// Haste is no use: the next pause is long.
    pub(super) const fn lengthen(&mut self) {
        self.next_ms = self.max_ms;
    }

    /// The next pause: more than nothing, at most what it has grown to.
    pub(super) fn next(&mut self) -> Duration {
        let limit_ms = self.next_ms;
        self.next_ms = limit_ms.saturating_mul(2).min(self.max_ms);
        let mut random = [0; 8];
        // Without randomness the pause is the whole limit: late rather than never.
        let drawn = getrandom::fill(&mut random).map(|()| u64::from_le_bytes(random) % limit_ms);
        Duration::from_millis(drawn.map_or(limit_ms, |drawn| drawn + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_within_bounds_that_double() {
        let mut pause = Pause::new(10, 50);
        for limit_ms in [10, 20, 40, 50, 50] {
            let span = pause.next();
            assert!(span > Duration::ZERO && span <= Duration::from_millis(limit_ms));
        }
        pause.reset();
        assert!(pause.next() <= Duration::from_millis(10));
    }
}
