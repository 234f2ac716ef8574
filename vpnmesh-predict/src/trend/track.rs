//! One metric over time: a robust level and slope, and what is usual.

use std::time::Duration;

use vpnmesh_core::Timestamp;

/// Holt's level and slope, with residuals clipped so that one outlier moves little.
///
/// Source: Gelper, Fried and Croux 2010 (robust exponential smoothing), with gains by time
/// instead of by sample, as samples may be late or missing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Track {
    floor: f64, // residuals below are noise, whatever the past says
    started_at: Option<Timestamp>,
    seen_at: Timestamp,
    level: f64,
    slope: f64,        // per second
    spread: f64,       // mean absolute residual
    usual: f64,        // slow level
    usual_wobble: f64, // slow mean absolute distance of the level from usual
    usual_slope: f64,  // slow mean absolute slope
}

impl Track {
    pub(super) const fn new(floor: f64) -> Self {
        Self {
            floor,
            started_at: None,
            seen_at: Timestamp::ZERO,
            level: 0.0,
            slope: 0.0,
            spread: floor,
            usual: 0.0,
            usual_wobble: 0.0,
            usual_slope: 0.0,
        }
    }

    pub(super) fn handle_value(&mut self, value: f64, now: Timestamp) {
        let Some(started_at) = self.started_at else {
            self.started_at = Some(now);
            self.seen_at = now;
            (self.level, self.usual) = (value, value);
            return;
        };
        let step = now.since(self.seen_at).min(MAX_STEP).as_secs_f64();
        if step <= 0.0 {
            return;
        }
        self.seen_at = now;
        self.follow(value, step);
        // While young, the mean over its life is the best guess of what is usual.
        let age = now.since(started_at).as_secs_f64();
        let slow = gain(step, age.clamp(YOUNG, USUAL));
        self.usual += slow * (self.level - self.usual);
        let wobble = (self.level - self.usual).abs();
        self.usual_wobble += slow * (wobble - self.usual_wobble);
        self.usual_slope += slow * (self.slope.abs() - self.usual_slope);
    }

    fn follow(&mut self, value: f64, step: f64) {
        let expected = self.level + self.slope * step;
        let residual = value - expected;
        let scale = self.spread.max(self.floor);
        let clipped = residual.clamp(-CLIP * scale, CLIP * scale);
        let grown = residual.abs().min(2.0 * CLIP * scale);
        self.spread += gain(step, SPREAD) * (grown - self.spread);
        let level = expected + gain(step, LEVEL) * clipped;
        let seen_slope = (level - self.level) / step;
        self.slope += gain(step, SLOPE) * (seen_slope - self.slope);
        self.level = level;
    }

    /// Where the metric stands, less what it usually wobbles.
    pub(super) fn level(&self) -> f64 {
        self.level
    }

    /// How far it stands above usual, beyond its usual wobble.
    pub(super) fn rise(&self) -> f64 {
        (self.level - self.usual - WOBBLES * self.usual_wobble).max(0.0)
    }

    /// How fast it grows per second, beyond what it usually does.
    pub(super) fn growth(&self) -> f64 {
        (self.slope - SWINGS * self.usual_slope).max(0.0)
    }

    pub(super) fn is_fresh(&self, now: Timestamp) -> bool {
        self.started_at.is_some() && now.since(self.seen_at) <= STALE
    }
}

fn gain(step: f64, span: f64) -> f64 {
    1.0 - (-step / span).exp()
}

const LEVEL: f64 = 0.45; // s; taste: several samples at the usual periods of 100 to 250 ms
const SLOPE: f64 = 0.8; // s; twice the level, as usual for Holt's gains
const SPREAD: f64 = 5.0; // s
const USUAL: f64 = 60.0; // s; ten times the fastest ramps of interest
const YOUNG: f64 = 2.0; // s
const CLIP: f64 = 3.0; // mean absolute residuals
const WOBBLES: f64 = 2.0;
const SWINGS: f64 = 2.0;
const MAX_STEP: Duration = Duration::from_secs(2);
const STALE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    fn run(values: impl Iterator<Item = f64>) -> Track {
        let mut track = Track::new(0.001);
        let mut now = Timestamp::ZERO;
        for value in values {
            now += Duration::from_millis(200);
            track.handle_value(value, now);
        }
        track
    }

    #[test]
    fn a_straight_line_is_followed() {
        let track = run((0..300).map(|at| {
            if at < 200 {
                0.1
            } else {
                0.1 + 0.002 * f64::from(at - 200)
            }
        }));
        assert!((track.level() - 0.3).abs() < 0.02, "{track:?}");
        assert!((track.slope - 0.01).abs() < 0.001, "{track:?}");
    }

    #[test]
    fn a_single_spike_moves_almost_nothing() {
        let track = run((0..300).map(|at| if at == 299 { 50.0 } else { 0.1 }));
        assert!(track.level() < 0.11, "{track:?}");
    }

    #[test]
    fn a_new_level_becomes_usual_in_time() {
        let track = run((0..3000).map(|at| if at < 300 { 0.0 } else { 1.0 }));
        assert!(track.rise() < 0.05, "{track:?}");
    }
}
