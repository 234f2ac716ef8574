//! From health to action: the root that routes to the small machines.
//!
//! It owns and routes. Rules live in [`Failover`] (one node's traffic),
//! [`Witnesses`] (who is dead), [`FreezeGuard`] and [`Budget`] (what automation may do), and in the
//! [`FailurePredictor`].

mod judge;
mod node;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use crate::{
    Action, ActionKind, Budget, Cause, Command, Decision, EnginePolicy, Error, Event, Failover,
    FailurePredictor, FreezeGuard, HealthReport, Journal, Membership, NodeId, NodeSample,
    NodeState, Origin, Permit, ShadowCandidate, ShadowPolicy, Timestamp, Topology, Verdict,
    Witnesses, rank_candidates,
};

pub use node::NodeStatus;
use node::Watched;

/// Decides for a whole mesh: health → forecast → failover.
///
/// Call any `handle_*`, then drain [`Engine::poll_action`]. The same calls give the same actions.
pub struct Engine {
    policy: EnginePolicy,
    predictor: Box<dyn FailurePredictor>,
    topology: Topology,
    nodes: BTreeMap<NodeId, Watched>, // exactly the nodes of `topology`
    busy: BTreeSet<NodeId>,           // nodes with something to move or to remove
    witnesses: Witnesses,
    guard: FreezeGuard,
    budget: Budget,
    journal: Journal,
    own_delay: Duration,
    recheck_at: Timestamp, // when somebody's silence may have become a death
    stale_until: Option<Timestamp>, // loss measured before the start; none before the first membership
    now: Timestamp,                 // of the last call
    strangers: u64,
    actions: VecDeque<Action>, // drained after every call
}

impl Engine {
    /// Decides by `policy` with the forecasts of `predictor`; no node is known yet.
    ///
    /// # Errors
    /// [`Error::Policy`] if the policy makes no sense.
    pub fn new(policy: EnginePolicy, predictor: Box<dyn FailurePredictor>) -> Result<Self, Error> {
        policy.check()?;
        Ok(Self {
            witnesses: Witnesses::new(policy.witness),
            guard: FreezeGuard::new(policy.freeze),
            budget: Budget::new(policy.budget),
            policy,
            predictor,
            topology: Topology::default(),
            nodes: BTreeMap::new(),
            busy: BTreeSet::new(),
            journal: Journal::default(),
            own_delay: Duration::ZERO,
            recheck_at: Timestamp::MAX,
            stale_until: None,
            now: Timestamp::ZERO,
            strangers: 0,
            actions: VecDeque::new(),
        })
    }

    /// The membership changed. Nodes that a former engine left draining go on draining.
    pub fn handle_membership(&mut self, membership: &Membership, now: Timestamp) {
        self.now = now;
        self.stale_until
            .get_or_insert(now + self.policy.witness.stale_loss);
        let before = std::mem::replace(&mut self.topology, Topology::from(membership));
        let gone: Vec<NodeId> = self
            .nodes
            .keys()
            .copied()
            .filter(|node| !self.topology.contains(*node))
            .collect();
        gone.into_iter().for_each(|node| self.drop_node(node));
        for (node, place) in self.topology.clone().nodes() {
            let was = before.place(node).map(|place| place.state);
            if was != Some(place.state) {
                self.enter(node, was.is_none(), place.state, now);
            }
        }
        self.settle(now);
    }

    /// A former engine removed these nodes by itself: a new start brings them back without an
    /// operator. Call it after the first membership.
    pub fn handle_inherited(&mut self, nodes: &BTreeSet<NodeId>) {
        for node in nodes {
            if let Some(watched) = self.nodes.get_mut(node) {
                watched.failover.allow_return();
            }
        }
    }

    /// A node was measured. Strangers are counted and ignored.
    pub fn handle_sample(&mut self, node: NodeId, sample: &NodeSample, now: Timestamp) {
        self.now = now;
        let Some(watched) = self.nodes.get_mut(&node) else {
            self.strangers += 1;
            return;
        };
        watched.handle_sample(sample, now);
        if self.is_loss_stale(now) {
            self.predictor.observe(node, &without_loss(sample), now);
        } else {
            self.predictor.observe(node, sample, now);
        }
        self.judge(node, now);
    }

    /// A node said something about another or about itself. Strangers are counted and ignored.
    pub fn handle_report(&mut self, report: &HealthReport, now: Timestamp) {
        self.now = now;
        if !self.nodes.contains_key(&report.from) || !self.nodes.contains_key(&report.about) {
            self.strangers += 1;
            return;
        }
        if report.verdict != Verdict::Troubled || !self.is_loss_stale(now) {
            self.witnesses.handle_report(report, now);
        }
        let memory = self.policy.witness.memory;
        if let Some(reporter) = self.nodes.get_mut(&report.from) {
            reporter.handle_report(report, now, memory);
        }
        self.judge(report.about, now);
    }

    /// Whoever carries out actions tells what came of them.
    pub fn handle_event(&mut self, event: Event, now: Timestamp) {
        self.now = now;
        match event {
            Event::StandbyReady { node, standby } => {
                self.touch(node, now, |f| f.handle_standby_ready(standby, now));
            }
            Event::StandbyFailed {
                node,
                standby,
                reason,
            } => {
                self.touch(node, now, |f| f.handle_standby_failed(standby, reason, now));
            }
            Event::NodeDrained { node } => self.touch(node, now, |f| f.handle_drained(now)),
            Event::NodeJoined { node } => self.join(node, now),
            Event::OwnDelay { delay } => self.handle_own_delay(delay, now),
        }
        self.settle(now);
    }

    /// An operator, or the security floor, orders something.
    ///
    /// # Errors
    /// [`Error::UnknownNode`]; nothing changed then.
    pub fn handle_command(&mut self, command: Command, now: Timestamp) -> Result<(), Error> {
        self.now = now;
        match command {
            Command::Drain { node } => {
                self.known(node)?;
                self.guard.handle_well(node);
                self.touch(node, now, |f| f.handle_drain(now));
            }
            Command::Undrain { node } => {
                self.known(node)?;
                self.touch(node, now, |f| f.handle_undrain(now));
            }
            Command::Evict { node } => {
                self.known(node)?;
                self.guard.handle_well(node);
                self.touch(node, now, |f| f.handle_evict(now));
            }
            Command::Hold { node } => {
                self.known(node)?;
                self.touch(node, now, |f| f.handle_hold(true, now));
            }
            Command::Release { node } => {
                self.known(node)?;
                self.touch(node, now, |f| f.handle_hold(false, now));
            }
            Command::Freeze => {
                let decided = self.guard.handle_freeze(self.topology.len());
                self.announce(decided, now);
            }
            Command::Thaw => {
                let decided = self.guard.handle_thaw();
                self.announce(decided, now);
            }
        }
        self.settle(now);
        Ok(())
    }

    /// It is `now`: steps, patience and windows that ended.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.now = now;
        if now >= self.recheck_at {
            self.recheck_at = Timestamp::MAX;
            let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
            nodes.into_iter().for_each(|node| self.judge(node, now));
        }
        self.settle(now);
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to come back if nothing arrives before.
    #[must_use]
    pub fn poll_timeout(&self) -> Timestamp {
        let busy = self.busy.iter().filter_map(|node| self.nodes.get(node));
        let moves = busy.map(|watched| watched.failover.poll_timeout()).min();
        let budget = if self.busy.is_empty() {
            Timestamp::MAX
        } else {
            self.budget.poll_timeout(self.now)
        };
        let own = self.guard.poll_timeout().min(self.recheck_at).min(budget);
        moves.map_or(own, |moves| own.min(moves))
    }

    /// What was decided and why.
    #[must_use]
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Where the nodes stand.
    #[must_use]
    pub const fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Whether automation is frozen.
    #[must_use]
    pub const fn is_frozen(&self) -> bool {
        self.guard.is_frozen()
    }

    /// Samples and reports from or about nodes that are not in the mesh.
    #[must_use]
    pub const fn strangers(&self) -> u64 {
        self.strangers
    }

    /// One node as the engine sees it.
    #[must_use]
    pub fn node(&self, node: NodeId) -> Option<NodeStatus> {
        Some(self.nodes.get(&node)?.status(self.topology.place(node)?))
    }

    /// All nodes as the engine sees them, by id.
    pub fn nodes(&self) -> impl Iterator<Item = NodeStatus> {
        self.topology
            .nodes()
            .filter_map(|(node, _)| self.node(node))
    }

    fn known(&self, node: NodeId) -> Result<(), Error> {
        let known = self.nodes.contains_key(&node);
        known.then_some(()).ok_or(Error::UnknownNode { node })
    }

    /// A node is new, or the membership wants something else of it.
    fn enter(&mut self, node: NodeId, new: bool, state: NodeState, now: Timestamp) {
        let Some(place) = self.topology.place(node) else {
            return;
        };
        let policy = self.policy.failover_in(&place.region);
        let watched = self
            .nodes
            .entry(node)
            .or_insert_with(|| Watched::new(Failover::new(node, policy)));
        match state {
            NodeState::Removed if !watched.is_removed() => {
                watched.failover = Failover::removed(node, policy);
                self.busy.remove(&node);
                self.guard.handle_well(node);
            }
            NodeState::Draining if new => self.touch(node, now, |f| f.handle_resume(now)),
            NodeState::Removed | NodeState::Draining | NodeState::Active | NodeState::Standby => {}
        }
    }

    fn drop_node(&mut self, node: NodeId) {
        self.nodes.remove(&node);
        self.busy.remove(&node);
        self.witnesses.forget(node);
        self.guard.handle_well(node);
        self.predictor.forget(node);
    }

    fn join(&mut self, node: NodeId, now: Timestamp) {
        let Some(watched) = self.nodes.get_mut(&node) else {
            self.strangers += 1;
            return;
        };
        watched.handle_join(now);
        self.witnesses.forget(node);
        self.predictor.forget(node);
        self.guard.handle_well(node);
        self.touch(node, now, |f| f.handle_joined(now));
    }

    /// Runs `change` on the machine of `node` after telling it what surrounds it, and takes over
    /// what it decided.
    fn touch(&mut self, node: NodeId, now: Timestamp, change: impl FnOnce(&mut Failover)) {
        let candidates = self.candidates(node, now);
        let permit = self.permit(now);
        let Some(watched) = self.nodes.get_mut(&node) else {
            self.strangers += 1;
            return;
        };
        let failover = &mut watched.failover;
        let before = failover.state();
        failover.handle_surroundings(&candidates, permit, now);
        change(failover);
        failover.drain_records(&mut self.journal, now);
        let automatic = failover.origin().is_none_or(|o| o == Origin::Forecast);
        let begun = !before.is_moving() && failover.state() != before && automatic;
        let restored = before == crate::FailoverState::Removed;
        if begun && !restored {
            self.budget.handle_begin(now);
        }
        while let Some(action) = failover.poll_action() {
            self.actions.push_back(action);
        }
        if failover.is_busy() {
            self.busy.insert(node);
        } else {
            self.busy.remove(&node);
        }
    }

    /// Whether loss that is told now was measured before this engine started.
    fn is_loss_stale(&self, now: Timestamp) -> bool {
        self.stale_until.is_none_or(|until| now < until)
    }

    fn permit(&self, now: Timestamp) -> Permit {
        let automatic = |node: &&NodeId| {
            let origin = self
                .nodes
                .get(node)
                .and_then(|watched| watched.failover.origin());
            origin == Some(Origin::Forecast)
        };
        let running = self.busy.iter().filter(automatic).count();
        if self.guard.is_frozen() {
            Permit::Frozen
        } else if self.budget.allows(running, now) {
            Permit::Free
        } else {
            Permit::Spent
        }
    }

    /// Who could take over from `node`, best first.
    fn candidates(&self, node: NodeId, now: Timestamp) -> Vec<NodeId> {
        let (Some(watched), Some(place)) = (self.nodes.get(&node), self.topology.place(node))
        else {
            return Vec::new();
        };
        let silence = self.silence();
        let candidate = |(other, at): (NodeId, &crate::Place)| {
            let them = self.nodes.get(&other)?;
            Some(ShadowCandidate {
                node: other,
                region: at.region.clone(),
                load: them.load,
                rtt_to_client: watched.rtt_to(other),
                healthy: them.can_take_over(now, silence),
            })
        };
        let all: Vec<ShadowCandidate> = self.topology.usable().filter_map(candidate).collect();
        rank_candidates(&all, node, &place.region, &ShadowPolicy::default())
    }

    /// Freezes or thaws if it is time to, then lets every busy node see what changed around it.
    fn settle(&mut self, now: Timestamp) {
        self.announce_freeze(now);
        for node in self.busy.clone() {
            self.touch(node, now, |f| f.handle_timeout(now));
        }
    }

    fn announce_freeze(&mut self, now: Timestamp) {
        let decided = self.guard.decide(self.topology.len(), now);
        self.announce(decided, now);
    }

    fn announce(&mut self, decided: Option<(ActionKind, Cause)>, now: Timestamp) {
        if let Some((kind, cause)) = decided {
            self.journal
                .handle_decision(None, Decision::Acted(kind), cause.clone(), now);
            self.actions.push_back(Action { kind, cause });
        }
    }
}

fn without_loss(sample: &NodeSample) -> NodeSample {
    let mut sample = sample.clone();
    sample.paths.iter_mut().for_each(|path| path.loss = None);
    sample
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("nodes", &self.nodes.len())
            .field("busy", &self.busy)
            .field("frozen", &self.guard.is_frozen())
            .finish_non_exhaustive()
    }
}
