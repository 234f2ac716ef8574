//! What went through the emulator, and how punctually.

use std::time::Duration;

/// What one direction of one link did so far.
///
/// `rx` is what went in; once the link is empty it equals `tx + lost + tail_dropped + cut`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
pub struct Counters {
    /// Packets that went in.
    pub rx: u64,
    /// Bytes that went in, IP headers included.
    pub rx_bytes: u64,
    /// Packets that came out.
    pub tx: u64,
    /// Bytes that came out.
    pub tx_bytes: u64,
    /// Packets lost at random.
    pub lost: u64,
    /// Packets dropped because the bottleneck's queue was full.
    pub tail_dropped: u64,
    /// Packets dropped because the link was cut.
    pub cut: u64,
    /// On paths: the time from entering to leaving the emulator, summed over delivered packets.
    pub held: Duration,
    /// On paths: the longest time a packet left the emulator after its due time.
    pub late_max: Duration,
}

/// What the uplink of one host did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
pub struct UplinkCounters {
    /// From the host into the network.
    pub up: Counters,
    /// From the network to the host.
    pub down: Counters,
    /// Packets the host sent to an address nobody has, or that were no IP packets.
    pub unroutable: u64,
    /// Packets of the host dropped because the emulator held its most packets already.
    pub overflowed: u64,
    /// Packets the host's kernel did not take.
    pub refused: u64,
}

/// How late packets left the emulator, compared with when the links wanted them to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lateness {
    packets: u64,
    total: Duration,
    max: Duration,
    /// Bucket `n` counts less than 2^n microseconds; the last one everything above.
    buckets: [u64; BUCKETS],
}

impl Lateness {
    pub(super) fn record(&mut self, late: Duration) {
        let micros = late.as_micros() as u64;
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        self.buckets[bucket.min(BUCKETS - 1)] += 1;
        self.packets += 1;
        self.total += late;
        self.max = self.max.max(late);
    }

    /// How many packets were delivered.
    #[must_use]
    pub const fn packets(&self) -> u64 {
        self.packets
    }

    /// The mean over all packets; zero if there were none.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_secs_f64(self.total.as_secs_f64() / self.packets.max(1) as f64)
    }

    /// The latest packet.
    #[must_use]
    pub const fn max(&self) -> Duration {
        self.max
    }

    /// No more than this late were `percent` (0 to 100) of all packets, up to a factor of two.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Duration {
        let wanted = self.packets * percent.min(100) / 100;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_micros(1 << bucket).min(self.max);
            }
        }
        self.max
    }
}

/// Up to half a second in powers of two of a microsecond.
const BUCKETS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_bound_what_was_recorded() {
        let mut lateness = Lateness::default();
        for micros in 0..1000 {
            lateness.record(Duration::from_micros(micros));
        }
        assert_eq!(lateness.packets(), 1000);
        assert_eq!(lateness.max(), Duration::from_micros(999));
        let median = lateness.percentile(50).as_micros();
        assert!((500..=1000).contains(&median), "{median}");
        assert_eq!(lateness.percentile(100), lateness.max());
        assert!((lateness.mean().as_nanos() as i64 - 499_500).abs() < 10);
    }
}
