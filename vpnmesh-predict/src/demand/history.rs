//! What one pair asked for, in steps of one period.

use std::collections::VecDeque;
use std::time::Duration;

use vpnmesh_core::{DemandSample, Ratio, Timestamp};

/// Closed periods, oldest first, and the one that is open.
#[derive(Clone, Debug)]
pub(super) struct History {
    period: Duration,
    day: usize, // steps of a day
    opened_at: Timestamp,
    seen_at: Timestamp,
    open: Means,
    closed: VecDeque<f32>, // bit/s; at most a day and MARGIN steps
    side: [f64; SIDE],     // smoothed loss, delay, interactive share, users
    usual: [f64; SIDE],
    total: usize,
    measured: bool, // whether the last closed period had a sample
}

#[derive(Clone, Copy, Default, Debug)]
struct Means {
    rate: f64,
    samples: f64,
}

impl History {
    pub(super) fn new(period: Duration, now: Timestamp) -> Self {
        let day = (86_400.0 / period.as_secs_f64()).round() as usize;
        Self {
            period,
            day: if day <= MAX_DAY { day.max(2) } else { 0 },
            opened_at: now,
            seen_at: now,
            open: Means::default(),
            closed: VecDeque::new(),
            side: [0.0; SIDE],
            usual: [0.0; SIDE],
            total: 0,
            measured: false,
        }
    }

    pub(super) fn handle_sample(&mut self, sample: &DemandSample, now: Timestamp) {
        self.seen_at = now;
        if let Some(rate) = sample.bandwidth {
            self.open.rate += rate.0 as f64;
            self.open.samples += 1.0;
        }
        let share = |ratio: Option<Ratio>| ratio.map(Ratio::get);
        let measured = [
            share(sample.loss),
            sample.rtt.map(|rtt| rtt.as_secs_f64()),
            share(sample.interactive),
            sample.active_users.map(f64::from),
        ];
        for (at, value) in measured.into_iter().enumerate() {
            if let Some(value) = value {
                self.side[at] += 0.3 * (value - self.side[at]);
                self.usual[at] += 0.01 * (value - self.usual[at]);
            }
        }
    }

    /// Closes one period that ended by `now`; says whether it did.
    pub(super) fn close_until(&mut self, now: Timestamp) -> bool {
        if now.since(self.opened_at) < self.period {
            return false;
        }
        self.opened_at += self.period;
        self.measured = self.open.samples > 0.0;
        let before = self.closed.back().copied().unwrap_or(0.0);
        let rate = if self.measured {
            (self.open.rate / self.open.samples) as f32
        } else {
            before
        };
        self.open = Means::default();
        self.closed.push_back(rate);
        if self.closed.len() > self.day + MARGIN {
            self.closed.pop_front();
        }
        self.total = self.total.saturating_add(1);
        true
    }

    /// Whether so much is missing that the past says nothing.
    pub(super) fn is_lost(&self, now: Timestamp) -> bool {
        now.since(self.seen_at) > self.period * LOST
    }

    pub(super) const fn seen_at(&self) -> Timestamp {
        self.seen_at
    }

    /// How many periods were closed in all.
    pub(super) const fn steps(&self) -> usize {
        self.total
    }

    /// Whether the last period was measured at all.
    pub(super) const fn is_measured(&self) -> bool {
        self.measured
    }

    /// The rate `lag` periods before the last closed one; the oldest known beyond.
    pub(super) fn back(&self, lag: usize) -> f64 {
        let at = self.closed.len().saturating_sub(lag + 1);
        f64::from(self.closed.get(at).copied().unwrap_or(0.0))
    }

    /// How the rate changed over the same `h` periods a day ago; zero while that is not known.
    pub(super) fn change_a_day_ago(&self, h: usize) -> f64 {
        if self.day > h && self.closed.len() > self.day {
            self.back(self.day - h) - self.back(self.day)
        } else {
            0.0
        }
    }

    /// Part of the day at which the step `h` ahead lies, as an angle.
    pub(super) fn angle(&self, h: usize) -> f64 {
        let day = self.day.max(1);
        std::f64::consts::TAU * ((self.total + h) % day) as f64 / day as f64
    }

    /// How far loss, delay, interactive share and users are off their usual.
    pub(super) fn side(&self) -> [f64; SIDE] {
        std::array::from_fn(|at| (self.side[at] - self.usual[at]) / (self.usual[at].abs() + 0.01))
    }
}

pub(super) const SIDE: usize = 4;
const MARGIN: usize = 32; // steps beyond a day
const MAX_DAY: usize = 1440; // shorter periods than a minute: no rhythm of days
const LOST: u32 = 288;
