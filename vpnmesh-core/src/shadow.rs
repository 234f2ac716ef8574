//! Which nodes stand ready for a session: by region diversity, load and latency to the client.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::{NodeId, Ratio, Region, Tier};

/// A node that might become a shadow.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ShadowCandidate {
    /// The node.
    pub node: NodeId,
    /// Where it stands.
    pub region: Region,
    /// How busy it is.
    pub load: Ratio,
    /// Round-trip time between it and the client; `None` if nobody measured it.
    pub rtt_to_client: Option<Duration>,
    /// Whether it may be chosen at all.
    pub healthy: bool,
}

/// What counts how much in the choice. All costs are in milliseconds of round-trip time.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
pub struct ShadowPolicy {
    /// Cost of each further holder in a region that has one already. Default 200 ms: a detour
    /// around half the world is worth surviving the loss of a region.
    pub same_region_ms: f64,
    /// Cost of a fully loaded node. Default 100 ms.
    pub full_load_ms: f64,
    /// Cost of an unknown round-trip time. Default 300 ms: known is better.
    pub unknown_rtt_ms: f64,
    /// A newcomer must be better than a present shadow by this much. Default 20 ms. Zero: the set
    /// follows every change of load.
    pub margin_ms: f64,
}

impl Default for ShadowPolicy {
    fn default() -> Self {
        Self {
            same_region_ms: 200.0,
            full_load_ms: 100.0,
            unknown_rtt_ms: 300.0,
            margin_ms: 20.0,
        }
    }
}

/// The holder of a session for which shadows are wanted, and those it has.
#[derive(Clone, Copy, Debug)]
pub struct Primary<'a> {
    /// The primary; never its own shadow.
    pub node: NodeId,
    /// Where it stands.
    pub region: &'a Region,
    /// Its shadows so far, best first.
    pub present: &'a [NodeId],
}

/// The shadows that a session should have, best first: as many as its tier wants and there are.
///
/// Present shadows that are healthy stay unless a swap betters the whole set by the policy's
/// margin. The order of `candidates` does not matter.
///
/// Cost of a set: round-trip times and loads of its members, and a penalty for each pair of
/// holders, the primary included, that share a region.
#[must_use]
pub fn choose_shadows(
    candidates: &[ShadowCandidate],
    primary: Primary<'_>,
    tier: Tier,
    policy: &ShadowPolicy,
) -> Vec<NodeId> {
    let mut pool = usable(candidates, primary.node);
    let mut chosen = take_present(&mut pool, primary.present);
    let cost = |set: &[&ShadowCandidate]| set_cost(set, primary.region, policy);
    while chosen.len() > tier.shadows() {
        let without = |at: usize| cost(&others(&chosen, at));
        let worst = (0..chosen.len())
            .rev()
            .min_by(|a, b| without(*a).total_cmp(&without(*b)));
        chosen.remove(worst.expect("more shadows than the tier wants, so at least one"));
    }
    while chosen.len() < tier.shadows()
        && let Some(best) = best_addition(&pool, &chosen, &cost)
    {
        chosen.push(pool.remove(best));
    }
    // Each swap lowers the cost by more than the margin; the bound holds for margin zero too.
    for _ in 0..chosen.len() {
        let Some((out, in_, gain)) = best_swap(&pool, &chosen, &cost) else {
            break;
        };
        if gain <= policy.margin_ms.max(f64::EPSILON) {
            break;
        }
        std::mem::swap(&mut chosen[out], &mut pool[in_]);
    }
    rank(&mut chosen, primary.region, policy);
    chosen.into_iter().map(|candidate| candidate.node).collect()
}

/// All healthy candidates for taking over from a node in `region`, best first.
#[must_use]
pub fn rank_candidates(
    candidates: &[ShadowCandidate],
    node: NodeId,
    region: &Region,
    policy: &ShadowPolicy,
) -> Vec<NodeId> {
    let mut ranked = usable(candidates, node);
    let cost = |candidate: &ShadowCandidate| set_cost(&[candidate], region, policy);
    ranked.sort_by(|a, b| cost(a).total_cmp(&cost(b)).then(a.node.cmp(&b.node)));
    ranked.into_iter().map(|candidate| candidate.node).collect()
}

/// Healthy candidates, one per node, ordered by id.
fn usable(candidates: &[ShadowCandidate], primary: NodeId) -> Vec<&ShadowCandidate> {
    let mut seen = BTreeSet::new();
    let mut pool: Vec<&ShadowCandidate> = candidates
        .iter()
        .filter(|c| c.healthy && c.node != primary && seen.insert(c.node))
        .collect();
    pool.sort_by_key(|candidate| candidate.node);
    pool
}

fn take_present<'a>(
    pool: &mut Vec<&'a ShadowCandidate>,
    present: &[NodeId],
) -> Vec<&'a ShadowCandidate> {
    let mut take = |node: &NodeId| {
        let at = pool.iter().position(|candidate| candidate.node == *node)?;
        Some(pool.remove(at))
    };
    present.iter().filter_map(&mut take).collect()
}

fn set_cost(set: &[&ShadowCandidate], primary: &Region, policy: &ShadowPolicy) -> f64 {
    let single = |candidate: &&ShadowCandidate| {
        let rtt = candidate.rtt_to_client;
        let rtt_ms = rtt.map_or(policy.unknown_rtt_ms, |rtt| rtt.as_secs_f64() * 1e3);
        rtt_ms + candidate.load.get() * policy.full_load_ms
    };
    let shared = |at: usize| {
        let region = &set[at].region;
        let before = set[..at].iter().filter(|other| other.region == *region);
        before.count() + usize::from(region == primary)
    };
    let pairs: usize = (0..set.len()).map(shared).sum();
    set.iter().map(single).sum::<f64>() + pairs as f64 * policy.same_region_ms
}

fn others<'a>(set: &[&'a ShadowCandidate], at: usize) -> Vec<&'a ShadowCandidate> {
    let mut rest = set.to_vec();
    rest.remove(at);
    rest
}

fn best_addition<'a>(
    pool: &[&'a ShadowCandidate],
    chosen: &[&'a ShadowCandidate],
    cost: &impl Fn(&[&'a ShadowCandidate]) -> f64,
) -> Option<usize> {
    let with = |at: usize| cost(&[chosen, &[pool[at]]].concat());
    (0..pool.len()).min_by(|a, b| with(*a).total_cmp(&with(*b)))
}

fn best_swap<'a>(
    pool: &[&'a ShadowCandidate],
    chosen: &[&'a ShadowCandidate],
    cost: &impl Fn(&[&'a ShadowCandidate]) -> f64,
) -> Option<(usize, usize, f64)> {
    let now = cost(chosen);
    let swaps = (0..chosen.len()).flat_map(|out| (0..pool.len()).map(move |in_| (out, in_)));
    let gained = swaps.map(|(out, in_)| {
        let mut set = chosen.to_vec();
        set[out] = pool[in_];
        (out, in_, now - cost(&set))
    });
    gained.max_by(|a, b| a.2.total_cmp(&b.2).then((b.0, b.1).cmp(&(a.0, a.1))))
}

/// Orders by single cost, but turns two neighbours only around for more than the margin.
fn rank(set: &mut [&ShadowCandidate], primary: &Region, policy: &ShadowPolicy) {
    let cost = |candidate: &ShadowCandidate| set_cost(&[candidate], primary, policy);
    for end in (1..set.len()).rev() {
        for at in 0..end {
            if cost(set[at]) > cost(set[at + 1]) + policy.margin_ms {
                set.swap(at, at + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(node: u64, region: &str, load: f64, rtt_ms: u64) -> ShadowCandidate {
        ShadowCandidate {
            node: NodeId(node),
            region: Region(region.into()),
            load: Ratio::saturating(load),
            rtt_to_client: Some(Duration::from_millis(rtt_ms)),
            healthy: true,
        }
    }

    fn choose(candidates: &[ShadowCandidate], present: &[NodeId], tier: Tier) -> Vec<NodeId> {
        let region = Region("eu".into());
        let primary = Primary {
            node: NodeId(1),
            region: &region,
            present,
        };
        choose_shadows(candidates, primary, tier, &ShadowPolicy::default())
    }

    #[test]
    fn shadows_stand_in_other_regions_first() {
        let near = candidate(2, "eu", 0.1, 10);
        let far = candidate(3, "us", 0.1, 90);
        let farther = candidate(4, "as", 0.1, 150);
        let all = [candidate(1, "eu", 0.0, 1), near, far, farther];
        assert_eq!(choose(&all, &[], Tier::Standard), [NodeId(3), NodeId(4)]);
        let premium = choose(&all, &[], Tier::Premium);
        assert_eq!(premium, [NodeId(3), NodeId(4), NodeId(2)]);
    }

    #[test]
    fn a_sick_shadow_goes_and_the_other_stays() {
        let mut all = vec![
            candidate(2, "us", 0.1, 50),
            candidate(3, "as", 0.1, 50),
            candidate(4, "us", 0.2, 50),
        ];
        let before = choose(&all, &[], Tier::Standard);
        assert_eq!(before, [NodeId(2), NodeId(3)]);
        all[0].healthy = false;
        let after = choose(&all, &before, Tier::Standard);
        assert_eq!(after, [NodeId(3), NodeId(4)]);
    }

    #[test]
    fn a_little_more_load_moves_nobody() {
        let mut all = [
            candidate(2, "us", 0.1, 50),
            candidate(3, "us", 0.15, 50),
            candidate(4, "as", 0.1, 50),
        ];
        let before = choose(&all, &[], Tier::Basic);
        all[0].load = Ratio::saturating(0.25);
        assert_eq!(choose(&all, &before, Tier::Basic), before);
        all[0].load = Ratio::saturating(0.9);
        assert_ne!(choose(&all, &before, Tier::Basic), before);
    }

    fn any_candidates() -> impl Strategy<Value = Vec<ShadowCandidate>> {
        let one = (2_u64..12, 0..3_usize, 0.0..1.0, 1_u64..300, any::<bool>());
        let one = one.prop_map(|(node, region, load, rtt, healthy)| ShadowCandidate {
            healthy,
            ..candidate(node, ["eu", "us", "as"][region], load, rtt)
        });
        proptest::collection::vec(one, 0..10).prop_map(|mut all| {
            all.sort_by_key(|c| c.node);
            all.dedup_by_key(|c| c.node);
            all
        })
    }

    proptest! {
        #[test]
        fn the_set_is_healthy_full_and_without_the_primary(all in any_candidates()) {
            let set = choose(&all, &[], Tier::Premium);
            let healthy = all.iter().filter(|c| c.healthy).count();
            prop_assert_eq!(set.len(), healthy.min(3));
            for node in &set {
                prop_assert!(all.iter().any(|c| c.node == *node && c.healthy));
            }
        }

        #[test]
        fn choosing_again_changes_nothing(all in any_candidates()) {
            let set = choose(&all, &[], Tier::Premium);
            prop_assert_eq!(choose(&all, &set, Tier::Premium), set);
        }

        #[test]
        fn order_of_candidates_does_not_matter(all in any_candidates()) {
            let mut turned = all.clone();
            turned.reverse();
            prop_assert_eq!(
                choose(&all, &[], Tier::Standard),
                choose(&turned, &[], Tier::Standard)
            );
        }

        #[test]
        fn losing_a_stranger_moves_nobody(all in any_candidates(), lost in 0..10_usize) {
            let set = choose(&all, &[], Tier::Standard);
            let mut rest = all.clone();
            if lost < rest.len() && !set.contains(&rest[lost].node) {
                rest.remove(lost);
            }
            prop_assert_eq!(choose(&rest, &set, Tier::Standard), set);
        }
    }
}
