//! A connection as eight numbers.

use vpnmesh_core::{ConnectionSample, Timestamp};

/// Running sums of one connection.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Fingerprint {
    seen_at: Timestamp,
    packets_in: u32,
    packets_out: u32,
    bytes_in: f32,
    bytes_out: f32,
    requests: u32,
    failures: u32,
    updates: f32,
    gap: f32,        // seconds in all
    gap_log: f32,    // sum of the logarithms of the gaps
    gap_square: f32, // of their squares
    place: u32,
}

impl Fingerprint {
    pub(super) fn of(samples: &[ConnectionSample]) -> Self {
        let mut print = Self::default();
        samples
            .iter()
            .for_each(|sample| print.handle(sample, Timestamp::ZERO));
        print
    }

    pub(super) fn handle(&mut self, sample: &ConnectionSample, now: Timestamp) {
        self.seen_at = now;
        self.packets_in = self.packets_in.saturating_add(sample.packets_in);
        self.packets_out = self.packets_out.saturating_add(sample.packets_out);
        self.bytes_in += sample.bytes_in as f32;
        self.bytes_out += sample.bytes_out as f32;
        self.requests = self.requests.saturating_add(u32::from(sample.requests));
        self.failures = self.failures.saturating_add(u32::from(sample.failures));
        self.place = sample.place;
        if let Some(gap) = sample.gap {
            let log = (gap.as_secs_f32() + 1e-6).ln();
            self.updates += 1.0;
            self.gap += gap.as_secs_f32();
            self.gap_log += log;
            self.gap_square += log * log;
        }
    }

    pub(super) const fn seen_at(&self) -> Timestamp {
        self.seen_at
    }

    pub(super) const fn packets(&self) -> u32 {
        self.packets_in.saturating_add(self.packets_out)
    }

    /// Pace of arrivals and its unevenness, rate, sizes and sides, requests, failures, place.
    pub(super) fn numbers(&self) -> [f64; SIZE] {
        let updates = f64::from(self.updates).max(1.0);
        let pace = f64::from(self.gap_log) / updates;
        let uneven = (f64::from(self.gap_square) / updates - pace * pace)
            .max(0.0)
            .sqrt();
        let packets = f64::from(self.packets()).max(1.0);
        let bytes = f64::from(self.bytes_in + self.bytes_out);
        let rate = bytes / f64::from(self.gap).max(1e-3);
        [
            pace,
            uneven,
            rate.ln_1p(),
            (bytes / packets).ln_1p(),
            f64::from(self.packets_in) / packets,
            f64::from(self.requests) / packets,
            f64::from(self.failures) / packets,
            f64::from(self.place % 64),
        ]
    }
}

pub(super) const SIZE: usize = 8;
