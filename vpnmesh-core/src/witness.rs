//! What other nodes say about a node: one voice is a rumour, two are a fact.
//!
//! A rumour that lasts and comes from a node that is known to be well may still be acted upon, by
//! whoever can do so without harm if it is wrong: see [`Witnesses::lone_trouble`].

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

    /// A forecast made of the lasting trouble that `reporter` alone sees with `node`.
    ///
    /// Both ends of a bad path see the same, so the word of one counts only while others vouch for
    /// it: it says that at least one third node is well and speaks ill of none, and at least one
    /// third node says that the reporter is well while none speaks ill of it. With two nodes in the
    /// mesh nobody can vouch, and a lone report never counts.
    #[must_use]
    pub fn lone_trouble(
        &self,
        node: NodeId,
        reporter: NodeId,
        horizon: Duration,
        now: Timestamp,
    ) -> Option<Forecast> {
        let lasts = |s: &Statement| {
            s.verdict != Verdict::Well && s.at.since(s.since) >= self.policy.lone_persistence
        };
        let says = self.who(node, now, lasts).contains(&reporter);
        (says && self.is_vouched_for(reporter, node, now)).then(|| Forecast {
            probability: Ratio::ONE,
            horizon,
            lead: None,
            evidence: vec![Evidence {
                metric: Metric::Reports,
                value: 1.0,
                contribution: 1.0,
            }],
            confidence: Ratio::of(1, u64::from(self.policy.needed)),
        })
    }

    /// Whether third nodes and `reporter` are well in each other's eyes; `node` has no say.
    fn is_vouched_for(&self, reporter: NodeId, node: NodeId, now: Timestamp) -> bool {
        let others = self.heard.keys().filter(|other| **other != node);
        let seen = others.filter_map(|other| {
            let said = self.heard.get(other)?.get(&reporter)?;
            (now.since(said.at) <= self.policy.memory).then_some(said.verdict)
        });
        let seen: Vec<Verdict> = seen.collect();
        let third = |what: fn(Verdict) -> bool| {
            let of = self.who(reporter, now, |s| what(s.verdict));
            of.into_iter().any(|from| from != node)
        };
        seen.contains(&Verdict::Well)
            && seen.iter().all(|verdict| *verdict == Verdict::Well)
            && third(|verdict| verdict == Verdict::Well)
            && !third(|verdict| verdict != Verdict::Well)
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

    /// What three nodes say about each other each second, up to `seconds`: 1 finds `troubled` bad.
    fn three_nodes(troubled: &[u64], of_one: Verdict, seconds: u64) -> Witnesses {
        let mut witnesses = Witnesses::new(WitnessPolicy::default());
        for second in 0..=seconds {
            let mut say = |from: u64, about: u64, verdict| {
                let about = NodeId(about);
                let report = HealthReport {
                    about,
                    ..report(from, verdict)
                };
                witnesses.handle_report(&report, at(second * 1000));
            };
            for about in [2, 9] {
                let verdict = if troubled.contains(&about) {
                    Verdict::Troubled
                } else {
                    Verdict::Well
                };
                say(1, about, verdict);
            }
            say(2, 1, of_one);
            say(2, 9, Verdict::Well);
            say(9, 1, Verdict::Troubled); // the other end of the path sees the same
        }
        witnesses
    }

    fn lone(witnesses: &Witnesses, seconds: u64) -> Option<Forecast> {
        let horizon = Duration::from_secs(10);
        witnesses.lone_trouble(NodeId(9), NodeId(1), horizon, at(seconds * 1000))
    }

    #[test]
    fn a_lone_voice_counts_once_it_lasts_and_others_vouch_for_it() {
        let witnesses = three_nodes(&[9], Verdict::Well, 4);
        assert_eq!(lone(&witnesses, 4), None, "not yet");
        let witnesses = three_nodes(&[9], Verdict::Well, 5);
        let forecast = lone(&witnesses, 5).unwrap();
        assert_eq!(forecast.probability, Ratio::ONE);
        assert_eq!(lone(&witnesses, 9), None, "old words do not count");
        let two = witnesses.trouble(NodeId(9), Duration::from_secs(10), at(5000));
        assert_eq!(two, None, "for those who need two it is a rumour");
    }

    #[test]
    fn a_lone_voice_that_may_be_sick_itself_does_not_count() {
        let everybody = three_nodes(&[2, 9], Verdict::Well, 6);
        assert_eq!(lone(&everybody, 6), None, "it finds everybody bad");
        let unwell = three_nodes(&[9], Verdict::Troubled, 6);
        assert_eq!(lone(&unwell, 6), None, "others find it bad");
    }

    #[test]
    fn between_two_nodes_nobody_vouches() {
        let mut witnesses = Witnesses::new(WitnessPolicy::default());
        for second in 0..10 {
            witnesses.handle_report(&report(1, Verdict::Troubled), at(second * 1000));
        }
        assert_eq!(lone(&witnesses, 9), None);
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
