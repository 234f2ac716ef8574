//! When many packets flow, wake up for a few at once, as network cards do.
//!
//! A wake-up costs as much as several packets, and on few cores it takes the time from the very
//! processes that send. The price is a delay of at most [`QUANTUM`] at high rates only.

use std::time::Duration;

use vpnmesh_core::Timestamp;

/// Counts packets and says how long to rest before looking for more.
#[derive(Debug, Default)]
pub(super) struct Pace {
    window_ends: Timestamp,
    packets: u32,
    busy: bool,
}

impl Pace {
    /// One packet was read or written.
    pub(super) const fn handle_packet(&mut self) {
        self.packets = self.packets.saturating_add(1);
    }

    /// How long to rest at `now` after having worked since `woke`; zero at low rates.
    pub(super) fn rest(&mut self, woke: Timestamp, now: Timestamp) -> Duration {
        if now >= self.window_ends {
            self.busy = self.packets > BUSY;
            self.packets = 0;
            self.window_ends = now + WINDOW;
        }
        if self.busy {
            QUANTUM.saturating_sub(now.since(woke))
        } else {
            Duration::ZERO
        }
    }
}

const WINDOW: Duration = Duration::from_millis(1);
/// Packets in a window, in and out, from which on it pays: measured on two cores.
const BUSY: u32 = 30;
/// The least time between two wake-ups when busy: well under what any test can tell.
const QUANTUM: Duration = Duration::from_micros(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_many_packets_bring_a_rest_and_it_ends_with_them() {
        let at = |micros: u64| Timestamp(micros * 1000);
        let mut pace = Pace::default();
        assert_eq!(pace.rest(at(0), at(10)), Duration::ZERO);
        for _ in 0..100 {
            pace.handle_packet();
        }
        assert_eq!(
            pace.rest(at(2000), at(2030)),
            QUANTUM - Duration::from_micros(30)
        );
        assert_eq!(
            pace.rest(at(2000), at(2500)),
            Duration::ZERO,
            "it worked long enough"
        );
        assert_eq!(
            pace.rest(at(4000), at(4000)),
            Duration::ZERO,
            "nothing came since"
        );
    }
}
