//! The clock that all processes of one machine share.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};
use vpnmesh_core::Timestamp;

/// Now, on `CLOCK_MONOTONIC`: the same clock in every process of this machine, whatever its
/// network namespace, so that one-way delays are exact.
#[must_use]
pub fn monotonic() -> Timestamp {
    Timestamp(nanos(clock_gettime(ClockId::Monotonic)))
}

/// Now, on the calendar clock, in nanoseconds; the kernel stamps datagrams with it.
pub(crate) fn realtime_nanos() -> u64 {
    nanos(clock_gettime(ClockId::Realtime))
}

/// Waits until `at`; returns at once if that is past.
pub(crate) fn sleep_until(at: Timestamp) {
    let left = at.since(monotonic());
    if left > Duration::ZERO {
        std::thread::sleep(left);
    }
}

fn nanos(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}
