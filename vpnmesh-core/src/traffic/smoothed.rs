//! The plain predictor: smoothed levels, and the errors seen so far as the interval.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{DemandForecast, DemandSample, SitePair, TrafficPredictor, by_demand};
use crate::{Bandwidth, Ratio, SiteId, Timestamp};

/// Expects of each pair what it asked for of late.
///
/// A pair never seen is expected to ask for the mean of the pairs that share its origin or its
/// destination. The horizon only widens the interval.
#[derive(Clone, Default, Debug)]
pub struct SmoothedDemand {
    pairs: BTreeMap<SitePair, Level>, // at most MAX_PAIRS; the stalest makes room
}

#[derive(Clone, Copy, Debug)]
struct Level {
    rate_bps: f64,
    error_bps: f64, // mean absolute distance of samples from the level before
    samples: u32,
    seen_at: Timestamp,
}

impl SmoothedDemand {
    /// Knows no pair yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The mean over pairs that share an end with `pair`.
    fn neighbours(&self, pair: SitePair) -> Option<Level> {
        let near = self
            .pairs
            .iter()
            .filter(|(known, _)| known.from == pair.from || known.to == pair.to);
        let near: Vec<&Level> = near.map(|(_, level)| level).collect();
        let first = near.first()?;
        let mean = |pick: fn(&Level) -> f64| {
            near.iter().map(|level| pick(level)).sum::<f64>() / near.len() as f64
        };
        let rate_bps = mean(|level| level.rate_bps);
        Some(Level {
            rate_bps,
            error_bps: mean(|level| level.error_bps) + rate_bps,
            samples: 0,
            ..**first
        })
    }
}

impl Level {
    fn forecast(self, pair: SitePair, ahead: Duration) -> DemandForecast {
        // Errors of a random walk grow with the root of the time; three mean errors hold 98 %.
        let half = 3.0 * self.error_bps * (1.0 + ahead.as_secs_f64() / PERIOD.as_secs_f64()).sqrt();
        let rate = |bps: f64| Bandwidth(bps.max(0.0) as u64);
        let samples = f64::from(self.samples);
        DemandForecast {
            pair,
            bandwidth: rate(self.rate_bps),
            low: rate(self.rate_bps - half),
            high: rate(self.rate_bps + half),
            confidence: Ratio::saturating(samples / (samples + HALF_KNOWN)),
        }
    }
}

impl TrafficPredictor for SmoothedDemand {
    fn observe(&mut self, pair: SitePair, sample: &DemandSample, now: Timestamp) {
        let Some(rate) = sample.bandwidth else {
            return;
        };
        let rate_bps = rate.0 as f64;
        if self.pairs.len() >= MAX_PAIRS && !self.pairs.contains_key(&pair) {
            let stalest = self.pairs.iter().min_by_key(|(_, level)| level.seen_at);
            if let Some(stalest) = stalest.map(|(pair, _)| *pair) {
                self.pairs.remove(&stalest);
            }
        }
        let level = self.pairs.entry(pair).or_insert(Level {
            rate_bps,
            error_bps: rate_bps / 2.0,
            samples: 0,
            seen_at: now,
        });
        let off = rate_bps - level.rate_bps;
        level.error_bps += GAIN * (off.abs() - level.error_bps);
        level.rate_bps += GAIN * off;
        level.samples = level.samples.saturating_add(1);
        level.seen_at = now;
    }

    fn forecast(&self, pair: SitePair, ahead: Duration, _now: Timestamp) -> Option<DemandForecast> {
        let known = self.pairs.get(&pair).copied();
        let level = known.or_else(|| self.neighbours(pair))?;
        Some(level.forecast(pair, ahead))
    }

    fn ranked(&self, ahead: Duration, _now: Timestamp, limit: usize) -> Vec<DemandForecast> {
        let all = self
            .pairs
            .iter()
            .map(|(pair, level)| level.forecast(*pair, ahead));
        by_demand(all.collect(), limit)
    }

    fn forget(&mut self, site: SiteId) {
        self.pairs
            .retain(|pair, _| pair.from != site && pair.to != site);
    }
}

const MAX_PAIRS: usize = 65_536; // 256 sites, all with all
const GAIN: f64 = 0.4; // taste: between persistence and a mean of five
const HALF_KNOWN: f64 = 10.0; // samples for a confidence of one half
const PERIOD: Duration = Duration::from_secs(300); // of the usual samples

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: SitePair = SitePair {
        from: SiteId(1),
        to: SiteId(2),
    };

    fn sample(bps: u64) -> DemandSample {
        DemandSample {
            bandwidth: Some(Bandwidth(bps)),
            ..DemandSample::default()
        }
    }

    fn forecast(predictor: &SmoothedDemand, pair: SitePair) -> Option<DemandForecast> {
        predictor.forecast(pair, Duration::from_secs(300), Timestamp(0))
    }

    #[test]
    fn a_steady_demand_is_expected_to_stay() {
        let mut predictor = SmoothedDemand::new();
        (0..50).for_each(|at| predictor.observe(PAIR, &sample(1000), Timestamp(at)));
        let expected = forecast(&predictor, PAIR).unwrap();
        assert_eq!(expected.bandwidth, Bandwidth(1000));
        assert!(expected.high < Bandwidth(1010) && expected.low > Bandwidth(990));
    }

    #[test]
    fn a_new_pair_is_guessed_from_its_neighbours_without_confidence() {
        let mut predictor = SmoothedDemand::new();
        predictor.observe(PAIR, &sample(1000), Timestamp(0));
        let new = SitePair {
            from: SiteId(1),
            to: SiteId(9),
        };
        let guess = forecast(&predictor, new).unwrap();
        assert_eq!(
            (guess.bandwidth, guess.confidence),
            (Bandwidth(1000), Ratio::ZERO)
        );
        assert_eq!(
            forecast(
                &predictor,
                SitePair {
                    from: SiteId(7),
                    to: SiteId(8)
                }
            ),
            None
        );
    }
}
