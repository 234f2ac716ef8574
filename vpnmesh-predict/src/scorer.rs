//! Scores connections by what is usual in this mesh, and by labels where there were any.
//!
//! A connection is a fingerprint of eight numbers ([`fingerprint`]). How rare each of them is tells
//! novelty ([`usual`]); trees that were trained on labelled fingerprints tell abuse. Without trees
//! the plain limits of [`PlainScorer`] do.

mod fingerprint;
mod usual;

use ndarray::ArrayView1;
use vpnmesh_core::{ConnectionSample, PlainScorer, Ratio, RiskScore, RiskScorer, Timestamp};

use crate::Error;
use crate::learn::{BoostSettings, Boosted, Isotonic, Reader, Weights, Writer};
use fingerprint::{Fingerprint, SIZE};
use usual::Usual;

/// Scores connections by fingerprint: novelty without labels, abuse with them.
///
/// The table has a fixed size, four connections to a bucket; the stalest of a full bucket makes
/// room, so a storm costs no memory. What is usual is learnt from every connection, each counted
/// once per doubling of its packets, so a few talkative ones do not become the norm.
#[derive(Clone, Debug)]
pub struct LearnedScorer {
    plain: PlainScorer,
    slots: Vec<Slot>, // WAYS per bucket
    usual: Usual,
    weights: Option<RiskWeights>,
}

/// Trees over fingerprints, and what their scores mean.
#[derive(Clone, PartialEq, Debug)]
pub struct RiskWeights {
    trees: Boosted,
    calibration: Isotonic,
}

#[derive(Clone, Copy, Default, Debug)]
struct Slot {
    connection: u64,
    used: bool,
    learns_at: u32, // packets at which it counts for the usual again
    print: Fingerprint,
    novelty: f32,
    abuse: f32,
}

impl LearnedScorer {
    /// Tracks at most about `connections` at once; nothing is labelled.
    #[must_use]
    pub fn new(connections: usize) -> Self {
        let buckets = connections.div_ceil(WAYS).max(1).next_power_of_two();
        Self {
            plain: PlainScorer::new(connections),
            slots: vec![Slot::default(); buckets * WAYS],
            usual: Usual::default(),
            weights: None,
        }
    }

    /// Lets `weights` tell abuse.
    #[must_use]
    pub fn with_weights(mut self, weights: RiskWeights) -> Self {
        self.weights = Some(weights);
        self
    }

    fn slot(&mut self, connection: u64) -> usize {
        let buckets = self.slots.len() / WAYS;
        let hash = connection.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let begin = hash as usize % buckets * WAYS;
        let ways = &self.slots[begin..begin + WAYS];
        let own = ways
            .iter()
            .position(|slot| slot.used && slot.connection == connection);
        let free = || ways.iter().position(|slot| !slot.used);
        let stalest = || {
            let by_age = ways
                .iter()
                .enumerate()
                .min_by_key(|(_, slot)| slot.print.seen_at());
            by_age.map_or(0, |(at, _)| at)
        };
        let at = begin + own.or_else(free).unwrap_or_else(stalest);
        if own.is_none() {
            self.slots[at] = Slot {
                connection,
                used: true,
                ..Slot::default()
            };
        }
        at
    }
}

impl RiskScorer for LearnedScorer {
    fn observe(&mut self, connection: u64, sample: &ConnectionSample, now: Timestamp) -> RiskScore {
        let plain = self.plain.observe(connection, sample, now);
        let at = self.slot(connection);
        let slot = &mut self.slots[at];
        slot.print.handle(sample, now);
        // The costly part at every doubling of its packets: twenty times in a million packets.
        if slot.print.packets() >= slot.learns_at {
            slot.learns_at = slot.print.packets().saturating_mul(2).max(1);
            let numbers = slot.print.numbers();
            slot.novelty = self.usual.novelty(&numbers) as f32;
            self.usual.learn(&numbers);
            if let Some(weights) = &self.weights {
                slot.abuse = weights.probability(&numbers) as f32;
            }
        }
        let known = self
            .weights
            .as_ref()
            .map_or(plain.abuse, |_| Ratio::saturating(f64::from(slot.abuse)));
        let novelty = Ratio::saturating(f64::from(slot.novelty));
        let safe = known.complement().get() * plain.heavy.complement().get();
        RiskScore {
            risk: Ratio::saturating(1.0 - safe * (1.0 - STRANGE * novelty.get())),
            abuse: known,
            heavy: plain.heavy,
            novelty,
        }
    }

    fn forget(&mut self, connection: u64) {
        self.plain.forget(connection);
        let buckets = self.slots.len() / WAYS;
        let hash = connection.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let begin = hash as usize % buckets * WAYS;
        let ways = &mut self.slots[begin..begin + WAYS];
        if let Some(slot) = ways
            .iter_mut()
            .find(|slot| slot.used && slot.connection == connection)
        {
            slot.used = false;
        }
    }

    fn tracked(&self) -> usize {
        self.plain.tracked()
    }
}

impl RiskWeights {
    /// Trains on labelled connections: what each of them did, sample by sample, and whether it was
    /// abuse. One of five calibrates.
    #[must_use]
    pub fn train(connections: &[(Vec<ConnectionSample>, bool)], seed: u64) -> Self {
        let rows: Vec<[f64; SIZE]> = connections
            .iter()
            .map(|(samples, _)| Fingerprint::of(samples).numbers())
            .collect();
        let labels: Vec<f64> = connections
            .iter()
            .map(|(_, abuse)| f64::from(*abuse))
            .collect();
        let matrix = |wanted: fn(usize) -> bool| {
            let at: Vec<usize> = (0..rows.len()).filter(|at| wanted(*at)).collect();
            let x = ndarray::Array2::from_shape_fn((at.len(), SIZE), |(row, column)| {
                rows[at[row]][column]
            });
            let y: Vec<f64> = at.iter().map(|&at| labels[at]).collect();
            (x, y)
        };
        let (x, y) = matrix(|at| at % 5 != 0);
        let settings = BoostSettings {
            trees: 40,
            leaves: 12,
            rate: 0.15,
            seed,
            ..BoostSettings::default()
        };
        let trees = Boosted::fit(x.view(), &y, None, &settings);
        let (x, y) = matrix(|at| at % 5 == 0);
        let calibration = Isotonic::fit(&trees.scores(x.view()), &y);
        Self { trees, calibration }
    }

    fn probability(&self, numbers: &[f64; SIZE]) -> f64 {
        self.calibration
            .probability(self.trees.score(ArrayView1::from(&numbers[..])))
    }
}

impl Weights for RiskWeights {
    const KIND: u16 = 4;

    fn write(&self, out: &mut Writer) {
        self.trees.write(out);
        self.calibration.write(out);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Error> {
        let trees = Boosted::read(from)?;
        if trees.features != SIZE {
            return Err(Error::Weights {
                reason: "trees over other features",
            });
        }
        Ok(Self {
            trees,
            calibration: Isotonic::read(from)?,
        })
    }
}

const WAYS: usize = 4;
const STRANGE: f64 = 0.3; // taste: what is merely new is no proof

const _: () = assert!(size_of::<Slot>() <= 256 - 64); // the plain scorer keeps some 56 more

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::learn::Dice;

    fn browse(dice: &mut Dice) -> ConnectionSample {
        ConnectionSample {
            packets_in: 1 + dice.below(4) as u32,
            packets_out: 1 + dice.below(8) as u32,
            bytes_in: 200 + dice.below(600) as u32,
            bytes_out: 500 + dice.below(9000) as u32,
            gap: Some(Duration::from_millis(20 + dice.below(200) as u64)),
            requests: 1,
            ..ConnectionSample::default()
        }
    }

    fn scan(_dice: &mut Dice) -> ConnectionSample {
        ConnectionSample {
            packets_in: 1,
            bytes_in: 40,
            failures: 1,
            gap: Some(Duration::from_micros(300)),
            ..ConnectionSample::default()
        }
    }

    #[test]
    fn what_was_never_seen_is_novel_and_the_usual_is_not() {
        let mut dice = Dice::new(1);
        let mut scorer = LearnedScorer::new(4096);
        let mut last = 1.0;
        for connection in 0..3000 {
            for step in 0..20 {
                let now = Timestamp(connection * 1_000_000 + step);
                last = scorer
                    .observe(connection, &browse(&mut dice), now)
                    .novelty
                    .get();
            }
        }
        let strange = (0..20)
            .map(|step| scorer.observe(1 << 40, &scan(&mut dice), Timestamp(u64::MAX / 2 + step)));
        let strange = strange.last().unwrap().novelty.get();
        assert!(strange > 0.9 && last < 0.9, "{strange} {last}");
    }

    #[test]
    fn labels_teach_abuse_and_survive_as_bytes() {
        let mut dice = Dice::new(2);
        let labelled: Vec<(Vec<ConnectionSample>, bool)> = (0..1000)
            .map(|at| {
                let make = if at % 3 == 0 { scan } else { browse };
                ((0..10).map(|_| make(&mut dice)).collect(), at % 3 == 0)
            })
            .collect();
        let weights = RiskWeights::train(&labelled, 1);
        let weights = RiskWeights::from_bytes(&weights.to_bytes()).unwrap();
        let mut scorer = LearnedScorer::new(64).with_weights(weights);
        let mut score = |connection, make: fn(&mut Dice) -> ConnectionSample| {
            (0..10)
                .map(|at| scorer.observe(connection, &make(&mut dice), Timestamp(at)))
                .last()
                .unwrap()
                .abuse
        };
        assert!(score(1, scan) > Ratio::saturating(0.9));
        assert!(score(2, browse) < Ratio::saturating(0.1));
    }
}
