//! The plain scorer: rates and one-sidedness against limits.

use crate::{ConnectionSample, Ratio, RiskScore, RiskScorer, Timestamp};

/// Takes one-sided, fast or failing connections for abuse, and many bytes for heavy load.
///
/// Connections live in a table of fixed size, four to a bucket; the stalest of a full bucket makes
/// room.
#[derive(Clone, Debug)]
pub struct PlainScorer {
    slots: Vec<Slot>, // WAYS per bucket
    tracked: usize,
}

#[derive(Clone, Copy, Default, Debug)]
struct Slot {
    connection: u64,
    seen_at: Timestamp,
    used: bool,
    packets_in: f32,
    packets_out: f32,
    bytes: f32,
    failures: f32,
    seconds: f32,
}

impl PlainScorer {
    /// Tracks at most about `connections` at once; at least four.
    #[must_use]
    pub fn new(connections: usize) -> Self {
        let buckets = connections.div_ceil(WAYS).max(1).next_power_of_two();
        Self {
            slots: vec![Slot::default(); buckets * WAYS],
            tracked: 0,
        }
    }

    fn bucket(&self, connection: u64) -> usize {
        let buckets = self.slots.len() / WAYS;
        (connection.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % buckets * WAYS
    }

    /// The slot of `connection`: its own, a free one, or that of the stalest.
    fn slot(&mut self, connection: u64) -> &mut Slot {
        let begin = self.bucket(connection);
        let ways = &mut self.slots[begin..begin + WAYS];
        let own = ways
            .iter()
            .position(|slot| slot.used && slot.connection == connection);
        let at = own.or_else(|| ways.iter().position(|slot| !slot.used));
        let at = at.unwrap_or_else(|| {
            let stalest = ways.iter().enumerate().min_by_key(|(_, slot)| slot.seen_at);
            stalest.map_or(0, |(at, _)| at)
        });
        let slot = &mut ways[at];
        if own.is_none() {
            self.tracked += usize::from(!slot.used);
            *slot = Slot {
                connection,
                used: true,
                ..Slot::default()
            };
        }
        slot
    }
}

impl Slot {
    fn handle(&mut self, sample: &ConnectionSample, now: Timestamp) {
        self.seen_at = now;
        self.packets_in += sample.packets_in as f32;
        self.packets_out += sample.packets_out as f32;
        self.bytes += sample.bytes_in as f32 + sample.bytes_out as f32;
        self.failures += f32::from(sample.failures);
        self.seconds += sample.gap.map_or(0.0, |gap| gap.as_secs_f32());
    }

    fn score(&self) -> RiskScore {
        let seconds = f64::from(self.seconds).max(0.1);
        let (from, to) = (f64::from(self.packets_in), f64::from(self.packets_out));
        let share = |value: f64, half: f64| value / (value + half);
        let one_sided = (from - to).max(0.0) / (from + to).max(1.0);
        let flood = one_sided * share(from / seconds, FLOOD);
        let failing = share(f64::from(self.failures), FAILING);
        let heavy = share(f64::from(self.bytes) * 8.0 / seconds, HEAVY);
        let abuse = 1.0 - (1.0 - flood) * (1.0 - failing);
        RiskScore {
            risk: Ratio::saturating(1.0 - (1.0 - abuse) * (1.0 - heavy)),
            abuse: Ratio::saturating(abuse),
            heavy: Ratio::saturating(heavy),
            novelty: Ratio::ZERO,
        }
    }
}

impl RiskScorer for PlainScorer {
    fn observe(&mut self, connection: u64, sample: &ConnectionSample, now: Timestamp) -> RiskScore {
        let slot = self.slot(connection);
        slot.handle(sample, now);
        slot.score()
    }

    fn forget(&mut self, connection: u64) {
        let begin = self.bucket(connection);
        let ways = &mut self.slots[begin..begin + WAYS];
        if let Some(slot) = ways
            .iter_mut()
            .find(|slot| slot.used && slot.connection == connection)
        {
            slot.used = false;
            self.tracked -= 1;
        }
    }

    fn tracked(&self) -> usize {
        self.tracked
    }
}

const WAYS: usize = 4;
const FLOOD: f64 = 200.0; // packets/s without answers; taste
const FAILING: f64 = 4.0; // failures; taste
const HEAVY: f64 = 50e6; // bit/s; taste

const _: () = assert!(size_of::<Slot>() <= 256);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn run(sample: ConnectionSample) -> RiskScore {
        let mut scorer = PlainScorer::new(16);
        (0..20)
            .map(|at| scorer.observe(1, &sample, Timestamp(at)))
            .last()
            .unwrap()
    }

    #[test]
    fn a_flood_is_abuse_and_a_download_is_heavy() {
        let second = Some(Duration::from_secs(1));
        let flood = run(ConnectionSample {
            packets_in: 5000,
            bytes_in: 300_000,
            gap: second,
            ..ConnectionSample::default()
        });
        let load = run(ConnectionSample {
            packets_in: 9000,
            packets_out: 18_000,
            bytes_out: 27_000_000,
            gap: second,
            ..ConnectionSample::default()
        });
        assert!(flood.abuse > Ratio::saturating(0.8) && flood.heavy < Ratio::saturating(0.3));
        assert!(load.abuse < Ratio::saturating(0.2) && load.heavy > Ratio::saturating(0.7));
    }

    #[test]
    fn a_storm_of_connections_does_not_grow_the_table() {
        let mut scorer = PlainScorer::new(64);
        for connection in 0..10_000 {
            scorer.observe(
                connection,
                &ConnectionSample::default(),
                Timestamp(connection),
            );
        }
        assert!(scorer.tracked() <= 64);
        scorer.forget(9999);
        scorer.forget(9999);
        assert!(scorer.tracked() <= 64);
    }
}
