//! What other nodes say about a node: one voice is a rumour, two are a fact.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{
    Cause, Evidence, Forecast, HealthReport, Metric, NodeId, Ratio, Timestamp, Verdict,
    WitnessPolicy,
};

/// Gathers reports about nodes and says which nodes are dead or in lasting trouble.
///
/// Usable by the engine and by a node alone.
#[derive(Clone, Debug)]
pub struct Witnesses {
    policy: WitnessPolicy,
    /// By node, then reporter: at most [`Witnesses::MAX_REPORTERS`] each; callers report known nodes only.
    heard: BTreeMap<NodeId, BTreeMap<NodeId, Statement>>,
}

#[derive(Clone, Copy, Debug)]
struct Statement {
    verdict: Verdict,
    since: Timestamp, // of the first statement that was not `Well`, without a pause
    at: Timestamp,
}

impl Witnesses {
    /// Further reporters about one node are not heard.
    pub const MAX_REPORTERS: usize = 64;

    /// Nobody said anything yet.
    #[must_use]
    pub const fn new(policy: WitnessPolicy) -> Self {
        Self {
            policy,
            heard: BTreeMap::new(),
        }
    }

    /// A node said something about another. Starved reporters and reports about oneself do not count.
    pub fn handle_report(&mut self, report: &HealthReport, now: Timestamp) {
        if report.from == report.about || report.own_delay > self.policy.max_own_delay {
            return;
        }
        let memory = self.policy.memory;
        let reporters = self.heard.entry(report.about).or_default();
        let known = reporters.get(&report.from).copied();
        if known.is_none() && reporters.len() >= Self::MAX_REPORTERS {
            return;
        }
        let lasting = known.filter(|s| s.verdict != Verdict::Well && now.since(s.at) <= memory);
        let statement = Statement {
            verdict: report.verdict,
            since: lasting.map_or(now, |s| s.since),
            at: now,
        };
        reporters.insert(report.from, statement);
    }

    /// The node left or started anew: nothing that was said counts.
    pub fn forget(&mut self, node: NodeId) {
        self.heard.remove(&node);
    }

    /// Why `node` is dead, if enough witnesses agree: more see silence than see life.
    ///
    /// `unheard`: the caller is a witness itself.
    #[must_use]
    pub fn dead(&self, node: NodeId, unheard: bool, now: Timestamp) -> Option<Cause> {
        let silent = self.who(node, now, |s| s.verdict == Verdict::Silent);
        let alive = self.who(node, now, |s| s.verdict != Verdict::Silent);
        let witnesses = silent.len() + usize::from(unheard);
        let enough = witnesses >= self.policy.needed as usize && witnesses > alive.len();
        (enough && !silent.is_empty()).then_some(Cause::Dead {
            witnesses: silent,
            unheard,
        })
    }

    /// A forecast made of lasting trouble that enough nodes report.
    #[must_use]
    pub fn trouble(&self, node: NodeId, horizon: Duration, now: Timestamp) -> Option<Forecast> {
        let persists = |s: &Statement| {
            s.verdict != Verdict::Well && s.at.since(s.since) >= self.policy.persistence
        };
        let troubled = self.who(node, now, persists).len();
        let all = self.who(node, now, |_| true).len();
        let share = Ratio::of(troubled as u64, all as u64);
        (troubled >= self.policy.needed as usize).then(|| Forecast {
            // Half of the reporters are as good as a coin, all of them as good as certain.
            probability: share,
            horizon,
            lead: None,
            evidence: vec![Evidence {
                metric: Metric::Reports,
                value: share.get(),
                contribution: troubled as f64,
            }],
            confidence: share,
        })
    }

    fn who(&self, node: NodeId, now: Timestamp, what: impl Fn(&Statement) -> bool) -> Vec<NodeId> {
        let said = self.heard.get(&node).into_iter().flatten();
        let fresh = said.filter(|(_, s)| now.since(s.at) <= self.policy.memory);
        fresh
            .filter(|(_, s)| what(s))
            .map(|(from, _)| *from)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(from: u64, verdict: Verdict) -> HealthReport {
        HealthReport {
            from: NodeId(from),
            about: NodeId(9),
            verdict,
            risk: None,
            path: None,
            own_delay: Duration::ZERO,
        }
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn one_witness_is_not_enough_and_two_are() {
        let mut witnesses = Witnesses::new(WitnessPolicy::default());
        witnesses.handle_report(&report(1, Verdict::Silent), at(0));
        assert_eq!(witnesses.dead(NodeId(9), false, at(1)), None);
        assert!(witnesses.dead(NodeId(9), true, at(1)).is_some());
        witnesses.handle_report(&report(2, Verdict::Silent), at(1));
        assert!(witnesses.dead(NodeId(9), false, at(1)).is_some());
    }

    #[test]
    fn own_silence_alone_is_never_a_death() {
        let witnesses = Witnesses::new(WitnessPolicy::default());
        assert_eq!(witnesses.dead(NodeId(9), true, at(1)), None);
    }

    #[test]
    fn a_starved_node_must_not_accuse_others() {
        let mut witnesses = Witnesses::new(WitnessPolicy::default());
        let starved = HealthReport {
            own_delay: Duration::from_secs(1),
            ..report(1, Verdict::Silent)
        };
        witnesses.handle_report(&starved, at(0));
        assert_eq!(witnesses.dead(NodeId(9), true, at(1)), None);
    }

    #[test]
    fn whoever_is_still_heard_by_as_many_is_not_dead() {
        let mut witnesses = Witnesses::new(WitnessPolicy::default());
        for (from, verdict) in [
            (1, Verdict::Silent),
            (2, Verdict::Silent),
            (3, Verdict::Well),
            (4, Verdict::Troubled),
        ] {
            witnesses.handle_report(&report(from, verdict), at(0));
        }
        assert_eq!(witnesses.dead(NodeId(9), false, at(1)), None);
    }

    #[test]
    fn old_words_do_not_count() {
        let mut witnesses = Witnesses::new(WitnessPolicy::default());
        witnesses.handle_report(&report(1, Verdict::Silent), at(0));
        witnesses.handle_report(&report(2, Verdict::Silent), at(4000));
        assert_eq!(witnesses.dead(NodeId(9), false, at(4000)), None);
    }

    #[test]
    fn only_lasting_trouble_becomes_a_forecast() {
        let mut witnesses = Witnesses::new(WitnessPolicy::default());
        let horizon = Duration::from_secs(10);
        for millis in [0, 1000, 2000] {
            assert_eq!(witnesses.trouble(NodeId(9), horizon, at(millis)), None);
            witnesses.handle_report(&report(1, Verdict::Troubled), at(millis));
            witnesses.handle_report(&report(2, Verdict::Troubled), at(millis));
        }
        let forecast = witnesses.trouble(NodeId(9), horizon, at(2000)).unwrap();
        assert_eq!(forecast.probability, Ratio::ONE);
    }
}
