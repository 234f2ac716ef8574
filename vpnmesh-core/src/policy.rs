//! What the operator may set about moves of traffic.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{Error, Ratio, Region};

/// When and how fast traffic leaves a node at risk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
pub struct FailoverPolicy {
    /// Risk at which a move begins. Default 60 %. Lower: needless moves; higher: less time to move.
    pub threshold: Ratio,
    /// Risk below which a running move halts; at most `threshold`. Default 30 %. Close to the
    /// threshold: moves start and halt in turn; zero: no move ever turns back.
    pub recede: Ratio,
    /// Span that forecasts speak of. Default 10 s: what a move takes, with as much again to spare.
    /// Shorter: too late to move gently; longer: more false alarms.
    pub horizon: Duration,
    /// Share moved by the first step, more than zero. Default 10 %. Greater: a bad standby hurts more.
    pub initial_weight: Ratio,
    /// Share added by each further step, more than zero. Default 30 %.
    pub step_size: Ratio,
    /// Span between two steps, at least 100 ms. Default 1 s. Longer: gentler, but a fast ramp wins.
    pub step_interval: Duration,
    /// Least span for which the risk must be gone before weights turn back, and between two automatic
    /// moves of one node. Default 10 s. Zero: weights swing.
    pub dwell: Duration,
    /// Span that a standby has to start and synchronise. Default 5 s; more than zero.
    pub warm_timeout: Duration,
    /// Span that an emptied node has to say that it holds nothing; then it is removed all the same.
    /// Default 5 s. Too short: late packets of old flows are lost.
    pub drain_timeout: Duration,
}

impl Default for FailoverPolicy {
    fn default() -> Self {
        Self {
            threshold: Ratio::saturating(0.6),
            recede: Ratio::saturating(0.3),
            horizon: Duration::from_secs(10),
            initial_weight: Ratio::saturating(0.1),
            step_size: Ratio::saturating(0.3),
            step_interval: Duration::from_secs(1),
            dwell: Duration::from_secs(10),
            warm_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

impl FailoverPolicy {
    /// The shortest span between two steps: below it, a step is not measured before the next.
    pub const MIN_STEP_INTERVAL: Duration = Duration::from_millis(100);

    /// Checks that the fields make sense together.
    ///
    /// # Errors
    /// [`Error::Policy`] for the first field that does not.
    pub fn check(&self) -> Result<(), Error> {
        let checks = [
            (
                "threshold",
                ratio(self.threshold),
                "more than zero",
                self.threshold > Ratio::ZERO,
            ),
            (
                "recede",
                ratio(self.recede),
                "at most the threshold",
                self.recede <= self.threshold,
            ),
            (
                "horizon",
                span(self.horizon),
                "more than zero",
                self.horizon > Duration::ZERO,
            ),
            (
                "initial_weight",
                ratio(self.initial_weight),
                "more than zero",
                self.initial_weight > Ratio::ZERO,
            ),
            (
                "step_size",
                ratio(self.step_size),
                "more than zero",
                self.step_size > Ratio::ZERO,
            ),
            (
                "step_interval",
                span(self.step_interval),
                "at least 100 ms",
                self.step_interval >= Self::MIN_STEP_INTERVAL,
            ),
            (
                "warm_timeout",
                span(self.warm_timeout),
                "more than zero",
                self.warm_timeout > Duration::ZERO,
            ),
        ];
        checks
            .into_iter()
            .try_for_each(|(field, value, wanted, fine)| {
                fine.then_some(()).ok_or(Error::Policy {
                    field,
                    value,
                    wanted,
                })
            })
    }
}

/// How many automatic moves may happen. Operators and clients are never budgeted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
pub struct BudgetPolicy {
    /// Moves that run at the same time. Default 2. Zero: no automatic moves at all.
    pub concurrent: u32,
    /// Moves begun within `window`. Default 8.
    pub per_window: u32,
    /// That window. Default 60 s.
    pub window: Duration,
}

impl Default for BudgetPolicy {
    fn default() -> Self {
        Self {
            concurrent: 2,
            per_window: 8,
            window: Duration::from_secs(60),
        }
    }
}

/// When automation stops to trust itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
pub struct FreezePolicy {
    /// Window within which nodes fall sick "at once". Default 10 s. Longer: unrelated trouble
    /// freezes the mesh; shorter: a common cause goes unseen.
    pub window: Duration,
    /// Share of the nodes that may fall sick within it; one node always may. Default 30 %.
    pub share: Ratio,
    /// Calm span after which a freeze ends by itself. Default 60 s.
    pub thaw_after: Duration,
}

impl Default for FreezePolicy {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
            share: Ratio::saturating(0.3),
            thaw_after: Duration::from_secs(60),
        }
    }
}

/// When the word of other nodes counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
pub struct WitnessPolicy {
    /// Witnesses that a death needs, at least 2. Default 2.
    pub needed: u32,
    /// Span for which a report counts. Default 3 s. Longer: stale accusations add up; shorter than
    /// two reporting periods: nobody ever agrees.
    pub memory: Duration,
    /// Silence towards the engine itself after which it is a witness too. Default 2 s.
    pub silence: Duration,
    /// Span for which trouble must be reported before it counts as a risk. Default 2 s.
    pub persistence: Duration,
    /// The same where one node alone reports it, and must be known not to be sick itself. Default
    /// 5 s, at least `persistence`. Shorter: a bad moment of one path moves sessions; longer: they
    /// stay with a node that this shadow hardly reaches.
    pub lone_persistence: Duration,
    /// A reporter that runs later than this is no witness. Default 250 ms.
    pub max_own_delay: Duration,
    /// Span after the engine's start in which loss does not count, as it was measured before, maybe
    /// in a network that is healed by now; silence counts at once. Default 16 s: the 64 probes, four
    /// a second, that a node's loss is made of. Shorter: a controller that starts after an outage
    /// drains nodes that are well; longer: it sees loss later.
    pub stale_loss: Duration,
}

impl Default for WitnessPolicy {
    fn default() -> Self {
        Self {
            needed: 2,
            memory: Duration::from_secs(3),
            silence: Duration::from_secs(2),
            persistence: Duration::from_secs(2),
            lone_persistence: Duration::from_secs(5),
            max_own_delay: Duration::from_millis(250),
            stale_loss: Duration::from_secs(16),
        }
    }
}

/// All that the engine goes by.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
pub struct EnginePolicy {
    /// Moves in regions that are not named below.
    pub failover: FailoverPolicy,
    /// Moves in single regions.
    pub regions: BTreeMap<Region, FailoverPolicy>,
    /// How many moves.
    pub budget: BudgetPolicy,
    /// When to stop.
    pub freeze: FreezePolicy,
    /// Whom to believe.
    pub witness: WitnessPolicy,
}

impl EnginePolicy {
    /// The policy that holds in `region`.
    #[must_use]
    pub fn failover_in(&self, region: &Region) -> FailoverPolicy {
        *self.regions.get(region).unwrap_or(&self.failover)
    }

    /// Checks all parts.
    ///
    /// # Errors
    /// [`Error::Policy`] for the first field that makes no sense.
    pub fn check(&self) -> Result<(), Error> {
        self.failover.check()?;
        self.regions.values().try_for_each(FailoverPolicy::check)?;
        if self.witness.needed < 2 {
            return Err(Error::Policy {
                field: "witness.needed",
                value: self.witness.needed.to_string(),
                wanted: "at least 2",
            });
        }
        if self.witness.lone_persistence < self.witness.persistence {
            return Err(Error::Policy {
                field: "witness.lone_persistence",
                value: span(self.witness.lone_persistence),
                wanted: "at least witness.persistence",
            });
        }
        Ok(())
    }
}

fn ratio(value: Ratio) -> String {
    value.to_string()
}

fn span(value: Duration) -> String {
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_make_sense() {
        assert_eq!(EnginePolicy::default().check(), Ok(()));
    }

    #[test]
    fn steps_faster_than_they_can_be_measured_are_refused() {
        let policy = FailoverPolicy {
            step_interval: Duration::from_millis(99),
            ..FailoverPolicy::default()
        };
        let refused = policy.check().unwrap_err().to_string();
        assert_eq!(
            refused,
            "step_interval is 99ms, which is not at least 100 ms"
        );
    }

    #[test]
    fn a_region_has_its_own_policy_or_the_meshs() {
        let own = FailoverPolicy {
            threshold: Ratio::ONE,
            ..FailoverPolicy::default()
        };
        let eu = Region("eu".into());
        let policy = EnginePolicy {
            regions: BTreeMap::from([(eu.clone(), own)]),
            ..EnginePolicy::default()
        };
        assert_eq!(policy.failover_in(&eu), own);
        assert_eq!(
            policy.failover_in(&Region("us".into())),
            FailoverPolicy::default()
        );
    }

    #[test]
    fn a_lone_voice_that_counts_sooner_than_two_is_refused() {
        let mut policy = EnginePolicy::default();
        policy.witness.lone_persistence = Duration::from_secs(1);
        assert!(policy.check().is_err());
    }

    #[test]
    fn one_witness_is_refused() {
        let mut policy = EnginePolicy::default();
        policy.witness.needed = 1;
        assert!(policy.check().is_err());
    }
}
