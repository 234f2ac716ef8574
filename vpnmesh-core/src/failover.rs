//! How traffic leaves one node: warm a standby, shift weight step by step, remove the node.
//!
//! [`Failover`] needs no controller: a node may run one for itself, with its own forecasts and its
//! shadows as candidates. It trusts its caller to name only healthy candidates, best first.
//!
//! ```text
//!            risk, drain            ready            share 100 %       empty, timeout
//!   Healthy ------------> Warming -------> Shifting ------------> Draining ---------> Removed
//!      ^  ^                  |  failed      |    ^                                       |
//!      |  +------------------+    risk gone v    | risk back                             |
//!      +------------ TurningBack <------ Holding +        undrain, joined, after dwell   |
//!      +---------------------------------------------------------------------------------+
//! ```

mod life;
mod machine;
mod reason;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::{
    Action, Cause, Decision, FailoverPolicy, Forecast, Journal, NodeId, Origin, OutcomeKind, Ratio,
    Refusal, StandbyFailure, Timestamp,
};

/// Where a node's traffic stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum FailoverState {
    /// It has its traffic, and no move runs.
    Healthy,
    /// A standby starts and synchronises. The node has all its traffic.
    Warming {
        /// Who gets ready.
        standby: NodeId,
    },
    /// Weight moves to the standby, step by step.
    Shifting {
        /// Who gets the traffic.
        standby: NodeId,
        /// What it has by now.
        share: Ratio,
    },
    /// The risk went away in mid-shift: weights rest.
    Holding {
        /// Who gets the traffic.
        standby: NodeId,
        /// What it has by now.
        share: Ratio,
    },
    /// Weight moves back, step by step.
    TurningBack {
        /// Who gives the traffic back.
        standby: NodeId,
        /// What it still has.
        share: Ratio,
    },
    /// All weight has moved: no way back. The node finishes what it still holds.
    Draining {
        /// Who has the traffic.
        standby: NodeId,
    },
    /// It holds nothing.
    Removed,
}

impl FailoverState {
    /// Whether a move of traffic runs.
    #[must_use]
    pub const fn is_moving(self) -> bool {
        !matches!(self, Self::Healthy | Self::Removed)
    }

    /// Who takes over, while a move runs.
    #[must_use]
    pub const fn standby(self) -> Option<NodeId> {
        match self {
            Self::Warming { standby }
            | Self::Shifting { standby, .. }
            | Self::Holding { standby, .. }
            | Self::TurningBack { standby, .. }
            | Self::Draining { standby } => Some(standby),
            Self::Healthy | Self::Removed => None,
        }
    }

    /// The share of the node's traffic that others have.
    #[must_use]
    pub const fn share(self) -> Ratio {
        match self {
            Self::Healthy | Self::Warming { .. } => Ratio::ZERO,
            Self::Shifting { share, .. }
            | Self::Holding { share, .. }
            | Self::TurningBack { share, .. } => share,
            Self::Draining { .. } | Self::Removed => Ratio::ONE,
        }
    }
}

/// What automation may do with this node now.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Permit {
    /// Begin moves and carry them on.
    #[default]
    Free,
    /// Carry moves on, begin none: the budget is spent.
    Spent,
    /// Nothing at all: automation is frozen.
    Frozen,
}

/// Moves the traffic of one node to another when its risk grows, an operator asks or it dies.
///
/// Drain [`Failover::poll_action`] and [`Failover::poll_record`] after every `handle_*`.
///
/// ```
/// use std::time::Duration;
/// use vpnmesh_core::*;
///
/// // A node that watches itself, with two shadows.
/// let (me, shadows) = (NodeId(1), [NodeId(2), NodeId(3)]);
/// let mut failover = Failover::new(me, FailoverPolicy::default());
/// let now = Timestamp::ZERO;
/// failover.handle_surroundings(&shadows, Permit::Free, now);
/// failover.handle_forecast(
///     &Forecast {
///         probability: Ratio::saturating(0.8),
///         horizon: Duration::from_secs(10),
///         lead: None,
///         evidence: Vec::new(),
///         confidence: Ratio::ONE,
///     },
///     now,
/// );
/// let action = failover.poll_action().unwrap();
/// assert_eq!(action.kind, ActionKind::WarmStandby { node: me, standby: shadows[0] });
/// ```
#[derive(Clone, Debug)]
pub struct Failover {
    node: NodeId,
    policy: FailoverPolicy,
    state: FailoverState,
    /// What drives the running move; `None` exactly when no move runs.
    origin: Option<Origin>,
    /// Why traffic should leave, as long as it should.
    wanted: Option<(Origin, Cause)>,
    /// The node is dead, say these, and that was not acted upon yet.
    dead: Option<Cause>,
    /// The node came back, and that was not acted upon yet.
    joined: bool,
    /// Whether a node that comes back may be restored without an operator.
    may_return: bool,
    /// Whether it was removed as dead: its life then refutes that.
    buried: bool,
    /// Held by an operator.
    held: bool,
    permit: Permit,
    candidates: Vec<NodeId>,             // at most MAX_CANDIDATES, best first
    failed: Vec<(NodeId, Timestamp)>,    // standbys that failed, until when; at most MAX_CANDIDATES
    broken: Option<StandbyFailure>,      // the standby failed, and that was not acted upon yet
    ready: bool,                         // the standby is up to date
    empty: bool,                         // the node says that it holds nothing
    due: Timestamp,                      // of the next step, or of the patience of this state
    receded: Option<(Timestamp, Cause)>, // since when the risk is gone
    rested_at: Option<Timestamp>,        // end of the last move
    declined: Option<Refusal>,           // told already
    actions: VecDeque<Action>,           // drained after every call
    records: VecDeque<Record>,           // drained after every call
}

/// Something for the journal.
#[derive(Clone, PartialEq, Debug)]
pub enum Record {
    /// It was decided.
    Decided(Decision, Cause),
    /// It followed from the last decision about the node.
    Followed(OutcomeKind),
}

impl Failover {
    /// A healthy node that has all its traffic.
    #[must_use]
    pub fn new(node: NodeId, policy: FailoverPolicy) -> Self {
        Self {
            node,
            policy,
            state: FailoverState::Healthy,
            origin: None,
            wanted: None,
            dead: None,
            joined: false,
            may_return: false,
            buried: false,
            held: false,
            permit: Permit::Free,
            candidates: Vec::new(),
            failed: Vec::new(),
            broken: None,
            ready: false,
            empty: false,
            due: Timestamp::MAX,
            receded: None,
            rested_at: None,
            declined: None,
            actions: VecDeque::new(),
            records: VecDeque::new(),
        }
    }

    /// A node that an earlier engine removed. Only an operator takes it back, unless
    /// [`Failover::allow_return`] says otherwise.
    #[must_use]
    pub fn removed(node: NodeId, policy: FailoverPolicy) -> Self {
        Self {
            state: FailoverState::Removed,
            ..Self::new(node, policy)
        }
    }

    /// An earlier engine removed it by itself: a new start brings it back without an operator.
    pub fn allow_return(&mut self) {
        self.may_return |= self.state == FailoverState::Removed;
    }

    /// Whether automation removed it as dead, so that its life alone brings it back.
    ///
    /// A node that was left because of its risk has no traffic any more by which anybody could tell
    /// that it is well: it comes back with a new start, or by an operator.
    #[must_use]
    pub const fn may_live_on(&self) -> bool {
        self.buried && self.may_return
    }

    /// The node it moves traffic away from.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// Where the traffic stands.
    #[must_use]
    pub const fn state(&self) -> FailoverState {
        self.state
    }

    /// What drives the running move.
    #[must_use]
    pub const fn origin(&self) -> Option<Origin> {
        self.origin
    }

    /// The policy it goes by.
    #[must_use]
    pub const fn policy(&self) -> &FailoverPolicy {
        &self.policy
    }

    /// Whether a move runs or should, or a death or a return waits to be acted upon.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        let waits = self.wanted.is_some() || self.dead.is_some() || self.joined;
        self.state.is_moving() || waits
    }

    /// Whether an operator holds the node.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.held
    }

    /// Why traffic stays though there is a reason to move it.
    #[must_use]
    pub const fn declined(&self) -> Option<Refusal> {
        self.declined
    }

    /// What surrounds the node now.
    ///
    /// - `candidates`: healthy nodes that could take over, best first; 16 count. A standby that is
    ///   no longer among them has fallen sick.
    /// - `permit`: what automation may do; a node alone has [`Permit::Free`]
    pub fn handle_surroundings(&mut self, candidates: &[NodeId], permit: Permit, now: Timestamp) {
        let others = candidates.iter().filter(|node| **node != self.node);
        self.candidates = others.take(MAX_CANDIDATES).copied().collect();
        self.permit = permit;
        let lost = |standby| !candidates.contains(&standby);
        if !matches!(self.state, FailoverState::Draining { .. })
            && self.state.standby().is_some_and(lost)
        {
            self.broken.get_or_insert(StandbyFailure::FellSick);
        }
        self.advance(now);
    }

    /// A new forecast for the node.
    pub fn handle_forecast(&mut self, forecast: &Forecast, now: Timestamp) {
        if forecast.probability >= self.policy.threshold {
            self.rise(forecast);
        } else if forecast.probability < self.policy.recede {
            self.recede(forecast, now);
        } else if !self.state.is_moving() {
            self.forget_risk();
        }
        self.advance(now);
    }

    /// The standby is up to date.
    pub fn handle_standby_ready(&mut self, standby: NodeId, now: Timestamp) {
        if self.state == (FailoverState::Warming { standby }) && !self.ready {
            self.ready = true;
            self.follow(OutcomeKind::StandbyReady);
        }
        self.advance(now);
    }

    /// The standby did not start or synchronise, or does no longer.
    pub fn handle_standby_failed(
        &mut self,
        standby: NodeId,
        reason: StandbyFailure,
        now: Timestamp,
    ) {
        if self.state.standby() == Some(standby) {
            self.broken.get_or_insert(reason);
        }
        self.advance(now);
    }

    /// The node holds no session any more.
    pub fn handle_drained(&mut self, now: Timestamp) {
        if matches!(self.state, FailoverState::Draining { .. }) && !self.empty {
            self.empty = true;
            self.follow(OutcomeKind::Drained);
        }
        self.advance(now);
    }

    /// Enough witnesses agree that the node is dead; `cause` names them.
    pub fn handle_dead(&mut self, cause: Cause, now: Timestamp) {
        if self.state != FailoverState::Removed && self.dead.is_none() {
            self.follow(OutcomeKind::NodeDied);
            self.dead = Some(cause);
        }
        self.advance(now);
    }

    /// The node shows life: whoever said that it is dead was wrong, or it is back.
    pub fn handle_alive(&mut self) {
        self.dead = None;
    }

    /// The node started with a new incarnation and holds nothing.
    pub fn handle_joined(&mut self, now: Timestamp) {
        self.dead = None;
        self.joined = true;
        self.advance(now);
    }

    /// An operator wants the node empty.
    pub fn handle_drain(&mut self, now: Timestamp) {
        self.want(Origin::Operator, Cause::Operator);
        self.advance(now);
    }

    /// Security wants the node empty.
    pub fn handle_evict(&mut self, now: Timestamp) {
        self.want(Origin::SecurityFloor, Cause::SecurityFloor);
        self.advance(now);
    }

    /// The membership says that a move was under way.
    pub fn handle_resume(&mut self, now: Timestamp) {
        self.want(Origin::Resumed, Cause::Resumed);
        self.advance(now);
    }

    /// An operator wants the node back.
    pub fn handle_undrain(&mut self, now: Timestamp) {
        self.wanted = None;
        self.undo(Cause::Operator, now);
        self.advance(now);
    }

    /// An operator wants automation to leave the node alone, or no longer.
    pub fn handle_hold(&mut self, held: bool, now: Timestamp) {
        self.held = held;
        self.advance(now);
    }

    /// It is `now`: steps and patience that ended.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.advance(now);
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next thing for the journal.
    pub fn poll_record(&mut self) -> Option<Record> {
        self.records.pop_front()
    }

    /// Writes all records into `journal`.
    pub fn drain_records(&mut self, journal: &mut Journal, now: Timestamp) {
        while let Some(record) = self.poll_record() {
            match record {
                Record::Decided(decision, cause) => {
                    journal.handle_decision(Some(self.node), decision, cause, now);
                }
                Record::Followed(kind) => journal.handle_outcome(self.node, kind, now),
            }
        }
    }
}

const MAX_CANDIDATES: usize = 16; // taste: whoever is sixteenth choice is not worth remembering
