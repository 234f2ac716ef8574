//! The one clock of the dataplane.

use rustix::time::{ClockId, Timespec, clock_gettime};
use vpnmesh_core::Timestamp;

/// Reads `CLOCK_MONOTONIC` without any offset, so that all processes of one machine agree.
///
/// It goes on while a process is stopped and stands still while the machine sleeps.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

impl Clock {
    /// The current time.
    #[must_use]
    pub fn now(self) -> Timestamp {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Monotonic);
        Timestamp((tv_sec as u64) * NANOS_PER_SECOND + tv_nsec as u64)
    }
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clocks_share_one_start() {
        let (a, b) = (Clock.now(), Clock.now());
        assert!(a <= b);
        assert!(b.since(a).as_secs() < 60);
    }
}
