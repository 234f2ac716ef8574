//! When automation stops to trust itself: many nodes fell sick at once.

use std::collections::BTreeMap;

use crate::{ActionKind, Cause, FreezePolicy, NodeId, Timestamp};

/// Watches nodes fall sick and freezes automation when too many do within one window.
#[derive(Clone, Debug)]
pub struct FreezeGuard {
    policy: FreezePolicy,
    sick: BTreeMap<NodeId, Sickness>, // known nodes only
    frozen: Option<Frozen>,
}

#[derive(Clone, Copy, Debug)]
struct Sickness {
    since: Timestamp,
    forgiven: bool, // before an operator's thaw
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Frozen {
    ByItself { calm_since: Timestamp },
    ByOperator,
}

impl FreezeGuard {
    /// Nobody is sick.
    #[must_use]
    pub const fn new(policy: FreezePolicy) -> Self {
        Self {
            policy,
            sick: BTreeMap::new(),
            frozen: None,
        }
    }

    /// Whether automation is frozen.
    #[must_use]
    pub const fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// `node` is sick; tell it again as often as you like.
    pub fn handle_sick(&mut self, node: NodeId, now: Timestamp) {
        if self.sick.contains_key(&node) {
            return;
        }
        let fresh = Sickness {
            since: now,
            forgiven: false,
        };
        self.sick.insert(node, fresh);
        if let Some(Frozen::ByItself { calm_since }) = &mut self.frozen {
            *calm_since = now;
        }
    }

    /// `node` is well, gone, or was removed on purpose.
    pub fn handle_well(&mut self, node: NodeId) {
        self.sick.remove(&node);
    }

    /// An operator freezes automation.
    pub fn handle_freeze(&mut self, of: usize) -> Option<(ActionKind, Cause)> {
        let was_frozen = self.frozen.replace(Frozen::ByOperator).is_some();
        let kind = ActionKind::Freeze {
            sick: count(self.sick.len()),
            of: count(of),
        };
        (!was_frozen).then_some((kind, Cause::Operator))
    }

    /// An operator thaws automation: nodes that are sick already do not freeze it again.
    pub fn handle_thaw(&mut self) -> Option<(ActionKind, Cause)> {
        self.sick
            .values_mut()
            .for_each(|sickness| sickness.forgiven = true);
        let was_frozen = self.frozen.take().is_some();
        was_frozen.then_some((ActionKind::Thaw, Cause::Operator))
    }

    /// Freezes or thaws, if it is time to; `of` nodes are in the mesh.
    pub fn decide(&mut self, of: usize, now: Timestamp) -> Option<(ActionKind, Cause)> {
        match self.frozen {
            None => self.freeze(of, now),
            Some(Frozen::ByItself { calm_since })
                if now.since(calm_since) >= self.policy.thaw_after =>
            {
                self.frozen = None;
                self.sick
                    .values_mut()
                    .for_each(|sickness| sickness.forgiven = true);
                Some((ActionKind::Thaw, Cause::Calm))
            }
            Some(_) => None,
        }
    }

    /// When a freeze ends by itself.
    #[must_use]
    pub fn poll_timeout(&self) -> Timestamp {
        match self.frozen {
            Some(Frozen::ByItself { calm_since }) => calm_since + self.policy.thaw_after,
            Some(Frozen::ByOperator) | None => Timestamp::MAX,
        }
    }

    fn freeze(&mut self, of: usize, now: Timestamp) -> Option<(ActionKind, Cause)> {
        let window = self.policy.window;
        let counts = |s: &&Sickness| !s.forgiven && now.since(s.since) <= window;
        let sick = self.sick.values().filter(counts).count();
        let limit = (self.policy.share.get() * of as f64).max(1.0);
        if sick as f64 <= limit {
            return None;
        }
        self.frozen = Some(Frozen::ByItself { calm_since: now });
        let (sick, of) = (count(sick), count(of));
        let cause = Cause::ManySick { sick, of, window };
        Some((ActionKind::Freeze { sick, of }, cause))
    }
}

fn count(nodes: usize) -> u32 {
    u32::try_from(nodes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn one_sick_node_never_freezes_a_small_mesh() {
        let mut guard = FreezeGuard::new(FreezePolicy::default());
        guard.handle_sick(NodeId(1), at(0));
        assert_eq!(guard.decide(2, at(0)), None);
        guard.handle_sick(NodeId(2), at(1));
        assert!(matches!(
            guard.decide(2, at(1)),
            Some((ActionKind::Freeze { sick: 2, of: 2 }, _))
        ));
        assert!(guard.is_frozen());
    }

    #[test]
    fn trouble_far_apart_does_not_freeze() {
        let mut guard = FreezeGuard::new(FreezePolicy::default());
        for node in 0..5 {
            guard.handle_sick(NodeId(node), at(node * 11));
            assert_eq!(guard.decide(5, at(node * 11)), None);
        }
    }

    #[test]
    fn a_freeze_ends_after_a_calm_span_and_does_not_return_for_the_same_nodes() {
        let mut guard = FreezeGuard::new(FreezePolicy::default());
        guard.handle_sick(NodeId(1), at(0));
        guard.handle_sick(NodeId(2), at(0));
        guard.decide(5, at(0)).unwrap();
        guard.handle_sick(NodeId(3), at(30));
        assert_eq!(guard.poll_timeout(), at(90));
        assert_eq!(guard.decide(5, at(89)), None);
        assert_eq!(
            guard.decide(5, at(90)),
            Some((ActionKind::Thaw, Cause::Calm))
        );
        assert_eq!(guard.decide(5, at(90)), None);
    }

    #[test]
    fn only_an_operator_ends_an_operators_freeze() {
        let mut guard = FreezeGuard::new(FreezePolicy::default());
        assert!(guard.handle_freeze(3).is_some());
        assert_eq!(guard.decide(3, at(1000)), None);
        assert_eq!(
            guard.handle_thaw(),
            Some((ActionKind::Thaw, Cause::Operator))
        );
    }
}
