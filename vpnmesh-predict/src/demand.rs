//! Forecasts of demand that learn while they run.
//!
//! Each pair has a bounded history in steps of one period ([`history`]) and, for one step and for
//! twelve steps ahead, four members whose weighted mean is the forecast ([`horizon`]): the last
//! value, a smoothed one, the change of the day before, and a running ridge regression over lags,
//! loss, delay, kind of traffic and users. No random numbers, no clock.

mod history;
mod horizon;

use std::collections::BTreeMap;
use std::time::Duration;

use vpnmesh_core::{
    Bandwidth, DemandForecast, DemandSample, Ratio, SiteId, SitePair, SmoothedDemand, Timestamp,
    TrafficPredictor, by_demand,
};

use history::History;
use horizon::Horizon;

/// Forecasts the demand of pairs from their own past, updated with every period.
///
/// It is never much worse than the best of its members, as their weights follow their errors.
/// Intervals widen and narrow so that nine truths of ten lie inside. New pairs are guessed from
/// their neighbours until two periods are known. Beyond twelve periods it says what it says for
/// twelve, with less confidence.
#[derive(Clone, Debug)]
pub struct LearnedDemand {
    period: Duration,
    pairs: BTreeMap<SitePair, Pair>, // at most MAX_PAIRS; the stalest makes room
    cold: SmoothedDemand,
}

#[derive(Clone, Debug)]
struct Pair {
    history: History,
    near: Horizon,
    far: Horizon,
}

impl LearnedDemand {
    /// Learns in steps of `period`: five minutes is usual, less than a second is taken for one.
    #[must_use]
    pub fn new(period: Duration) -> Self {
        Self {
            period: period.max(Duration::from_secs(1)),
            pairs: BTreeMap::new(),
            cold: SmoothedDemand::new(),
        }
    }

    fn make_room(&mut self, pair: SitePair) {
        if self.pairs.len() < MAX_PAIRS || self.pairs.contains_key(&pair) {
            return;
        }
        let stalest = self
            .pairs
            .iter()
            .min_by_key(|(_, known)| known.history.seen_at());
        if let Some(stalest) = stalest.map(|(pair, _)| *pair) {
            self.pairs.remove(&stalest);
        }
    }

    fn learnt(&self, pair: SitePair, known: &Pair, ahead: Duration) -> Option<DemandForecast> {
        if known.history.steps() < LEAST {
            return None;
        }
        let steps = ahead.as_secs_f64() / self.period.as_secs_f64();
        let (near, far) = (known.near.forecast(), known.far.forecast());
        let along = ((steps - 1.0) / (FAR - 1) as f64).clamp(0.0, 1.0);
        let between = |near: f64, far: f64| near + along * (far - near);
        let rate = |bps: f64| Bandwidth(bps.max(0.0) as u64);
        let (value, half) = (between(near.value, far.value), between(near.half, far.half));
        let age = known.history.steps() as f64;
        let beyond = (FAR as f64 / steps.max(1.0)).min(1.0);
        let drift = between(near.drift, far.drift);
        Some(DemandForecast {
            pair,
            bandwidth: rate(value),
            low: rate(value - half),
            high: rate(value + half),
            confidence: Ratio::saturating(age / (age + HALF_KNOWN) * beyond * drift),
        })
    }
}

impl TrafficPredictor for LearnedDemand {
    fn observe(&mut self, pair: SitePair, sample: &DemandSample, now: Timestamp) {
        self.cold.observe(pair, sample, now);
        self.make_room(pair);
        let period = self.period;
        let known = self.pairs.entry(pair).or_insert_with(|| Pair {
            history: History::new(period, now),
            near: Horizon::new(1),
            far: Horizon::new(FAR),
        });
        // A gap longer than the memory of a day says nothing of what the demand was: start anew.
        if known.history.is_lost(now) {
            known.history = History::new(period, now);
        }
        while known.history.close_until(now) {
            known.near.handle_step(&known.history);
            known.far.handle_step(&known.history);
        }
        known.history.handle_sample(sample, now);
    }

    fn forecast(&self, pair: SitePair, ahead: Duration, now: Timestamp) -> Option<DemandForecast> {
        let known = self.pairs.get(&pair);
        let learnt = known.and_then(|known| self.learnt(pair, known, ahead));
        learnt.or_else(|| self.cold.forecast(pair, ahead, now))
    }

    fn ranked(&self, ahead: Duration, now: Timestamp, limit: usize) -> Vec<DemandForecast> {
        let all = self
            .pairs
            .keys()
            .filter_map(|pair| self.forecast(*pair, ahead, now));
        by_demand(all.collect(), limit)
    }

    fn forget(&mut self, site: SiteId) {
        self.pairs
            .retain(|pair, _| pair.from != site && pair.to != site);
        self.cold.forget(site);
    }
}

const MAX_PAIRS: usize = 4096; // 64 sites, all with all: some 64 MB
const FAR: usize = 12; // periods: an hour of five minutes
const LEAST: usize = 3; // periods before anything is learnt
const HALF_KNOWN: f64 = 24.0; // periods for a confidence of one half

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::Dice;

    const PAIR: SitePair = SitePair {
        from: SiteId(1),
        to: SiteId(2),
    };
    const PERIOD: Duration = Duration::from_secs(300);

    /// Relative errors one hour ahead of the predictor and of persistence, and the coverage.
    fn live(days: usize, rate: impl Fn(usize, &mut Dice) -> f64) -> (f64, f64, f64) {
        let mut dice = Dice::new(3);
        let truth: Vec<f64> = (0..288 * days).map(|at| rate(at, &mut dice)).collect();
        let mut predictor = LearnedDemand::new(PERIOD);
        let (mut own, mut plain, mut inside, mut count) = (0.0, 0.0, 0.0, 0.0);
        for at in 0..truth.len() - 13 {
            let now = Timestamp::ZERO + PERIOD * at as u32;
            let sample = DemandSample {
                bandwidth: Some(Bandwidth(truth[at] as u64)),
                ..DemandSample::default()
            };
            predictor.observe(PAIR, &sample, now);
            if at > 288 * days / 2 {
                // The open period holds the newest sample: the last known step is the one before.
                let said = predictor.forecast(PAIR, PERIOD * 12, now).unwrap();
                let came = truth[at + 11];
                own += (said.bandwidth.0 as f64 - came).abs();
                plain += (truth[at - 1] - came).abs();
                inside += f64::from(said.low.0 as f64 <= came && came <= said.high.0 as f64);
                count += 1.0;
            }
        }
        (own / count, plain / count, inside / count)
    }

    fn daily(at: usize, dice: &mut Dice) -> f64 {
        let angle = std::f64::consts::TAU * at as f64 / 288.0;
        1e6 * (1.5 + angle.sin() + 0.3 * (3.0 * angle).cos()) * (1.0 + 0.03 * dice.normal())
    }

    #[test]
    fn a_daily_rhythm_is_learnt_and_the_interval_holds() {
        let (own, plain, inside) = live(8, daily);
        assert!(own < 0.5 * plain, "{own} {plain}");
        assert!((inside - 0.9).abs() < 0.05, "{inside}");
    }

    #[test]
    fn pure_noise_is_no_worse_than_persistence() {
        let (own, plain, _) = live(4, |_, dice| 1e6 * (1.0 + 0.2 * dice.normal()));
        assert!(own < plain, "{own} {plain}");
    }
}
