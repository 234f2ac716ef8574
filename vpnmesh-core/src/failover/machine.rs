//! The transitions of [`Failover`].

use super::{Failover, FailoverState, MAX_CANDIDATES, Permit, Record};
use crate::{
    Action, ActionKind, Authority, Cause, Decision, NodeId, Origin, OutcomeKind, Ratio, Refusal,
    StandbyFailure, Timestamp,
};

impl Failover {
    /// When to come back if nothing arrives before.
    #[must_use]
    pub fn poll_timeout(&self) -> Timestamp {
        let rested = |at: Timestamp| at + self.policy.dwell;
        match self.state {
            FailoverState::Removed if self.joined && self.may_return => self.unless_barred(
                Authority::Policy,
                self.rested_at.map_or(Timestamp::ZERO, rested),
            ),
            FailoverState::Removed => Timestamp::MAX,
            FailoverState::Healthy => match &self.wanted {
                Some(_) if self.declined == Some(Refusal::Dwell) => {
                    self.rested_at.map_or(Timestamp::MAX, rested)
                }
                Some(_) if self.declined == Some(Refusal::NoCandidate) => {
                    let retry = self.failed.iter().map(|(_, until)| *until);
                    retry.min().unwrap_or(Timestamp::MAX)
                }
                Some(_) | None => Timestamp::MAX,
            },
            FailoverState::Warming { .. }
            | FailoverState::Shifting { .. }
            | FailoverState::Holding { .. }
            | FailoverState::TurningBack { .. }
            | FailoverState::Draining { .. } => self.unless_barred(self.authority(), self.due),
        }
    }

    fn unless_barred(&self, authority: Authority, at: Timestamp) -> Timestamp {
        if self.bar(authority).is_some() {
            Timestamp::MAX
        } else {
            at
        }
    }

    /// Does everything that is due; each transition may make the next one due.
    pub(super) fn advance(&mut self, now: Timestamp) {
        for _ in 0..MAX_TRANSITIONS {
            let before = self.state;
            self.transit(now);
            if self.state == before {
                return;
            }
        }
    }

    fn transit(&mut self, now: Timestamp) {
        self.failed.retain(|(_, until)| *until > now);
        if self.joined {
            return self.rejoin(now);
        }
        if let Some(cause) = self.dead.clone()
            && self.bury(cause, now)
        {
            return;
        }
        if self.state == FailoverState::Healthy {
            return self.begin(now);
        }
        if self.state == FailoverState::Removed {
            return;
        }
        if let Some(refusal) = self.bar(self.authority()) {
            return self.rest(refusal);
        }
        if let Some(reason) = self.broken.take() {
            return self.replace_standby(reason, now);
        }
        match self.state {
            FailoverState::Warming { standby } => self.warm(standby, now),
            FailoverState::Shifting { standby, share } => self.shift(standby, share, now),
            FailoverState::Holding { standby, share } => self.hold(standby, share, now),
            FailoverState::TurningBack { standby, share } => self.turn_back(standby, share, now),
            FailoverState::Draining { .. } => self.finish(now),
            FailoverState::Healthy | FailoverState::Removed => {}
        }
    }

    /// What forbids this authority to act on the node.
    pub(super) fn bar(&self, authority: Authority) -> Option<Refusal> {
        if authority == Authority::Override {
            None
        } else if self.held {
            Some(Refusal::HeldByOperator)
        } else if authority < Authority::SecurityFloor && self.permit == Permit::Frozen {
            Some(Refusal::Frozen)
        } else {
            None
        }
    }

    pub(super) fn authority(&self) -> Authority {
        self.origin.map_or(Authority::Policy, Origin::authority)
    }

    /// A running move is barred: it stays where it is, and says so once.
    fn rest(&mut self, refusal: Refusal) {
        let begun_by = self.begun_by();
        self.decline(refusal, Cause::Step { begun_by });
    }

    fn begun_by(&self) -> Origin {
        self.origin.unwrap_or(Origin::Forecast)
    }

    fn begin(&mut self, now: Timestamp) {
        let Some((origin, cause)) = self.wanted.clone() else {
            return;
        };
        let automatic = origin.authority() < Authority::SecurityFloor;
        let fresh = self
            .rested_at
            .is_some_and(|at| now.since(at) < self.policy.dwell);
        let refusal = match self.bar(origin.authority()) {
            Some(refusal) => Some(refusal),
            None if automatic && fresh => Some(Refusal::Dwell),
            None if automatic && self.permit == Permit::Spent => Some(Refusal::Budget),
            None => None,
        };
        match refusal {
            Some(refusal) => self.decline(refusal, cause),
            None => self.warm_next(origin, cause, now),
        }
    }

    /// Warms the best candidate that has not failed, or stays as it is.
    fn warm_next(&mut self, origin: Origin, cause: Cause, now: Timestamp) {
        let failed = |node: &NodeId| self.failed.iter().any(|(failed, _)| failed == node);
        let Some(standby) = self.candidates.iter().copied().find(|node| !failed(node)) else {
            self.settle(FailoverState::Healthy);
            return self.decline(Refusal::NoCandidate, cause);
        };
        self.state = FailoverState::Warming { standby };
        self.origin = Some(origin);
        self.ready = false;
        self.broken = None;
        self.due = now + self.policy.warm_timeout;
        let node = self.node;
        self.act(ActionKind::WarmStandby { node, standby }, cause);
    }

    fn warm(&mut self, standby: NodeId, now: Timestamp) {
        if let Some((_, cause)) = self.receded.take() {
            self.release(standby, cause, now);
        } else if self.ready {
            let share = Ratio::ZERO;
            self.state = FailoverState::Shifting { standby, share };
            self.due = now;
        } else if now >= self.due {
            self.broken = Some(StandbyFailure::TimedOut);
            self.replace_standby(StandbyFailure::TimedOut, now);
        }
    }

    fn shift(&mut self, standby: NodeId, share: Ratio, now: Timestamp) {
        if let Some((since, cause)) = self.receded.clone() {
            self.state = FailoverState::Holding { standby, share };
            self.due = since + self.policy.dwell;
            self.push(Record::Decided(Decision::Held { share }, cause));
        } else if share >= Ratio::ONE {
            self.state = FailoverState::Draining { standby };
            self.empty = false;
            self.due = now + self.policy.drain_timeout;
        } else if now >= self.due {
            let step = if share == Ratio::ZERO {
                self.policy.initial_weight
            } else {
                self.policy.step_size
            };
            let share = snap(share.get() + step.get());
            self.state = FailoverState::Shifting { standby, share };
            self.due = now + self.policy.step_interval;
            let begun_by = self.begun_by();
            self.set_share(standby, share, Cause::Step { begun_by });
        }
    }

    fn hold(&mut self, standby: NodeId, share: Ratio, now: Timestamp) {
        match self.receded.clone() {
            None => {
                self.state = FailoverState::Shifting { standby, share };
                self.due = now.max(self.due.min(now + self.policy.step_interval));
            }
            Some((since, cause)) if now.since(since) >= self.policy.dwell => {
                self.start_turning_back(standby, share, cause, now);
            }
            Some((since, _)) => self.due = since + self.policy.dwell,
        }
    }

    fn start_turning_back(&mut self, standby: NodeId, share: Ratio, cause: Cause, now: Timestamp) {
        let share = snap(share.get() - self.policy.step_size.get());
        self.state = FailoverState::TurningBack { standby, share };
        self.due = now + self.policy.step_interval;
        self.set_share(standby, share, cause);
    }

    fn turn_back(&mut self, standby: NodeId, share: Ratio, now: Timestamp) {
        let begun_by = self.begun_by();
        let cause = Cause::Step { begun_by };
        if share == Ratio::ZERO {
            self.follow(OutcomeKind::TurnedBack);
            self.release(standby, cause, now);
        } else if now >= self.due {
            let share = snap(share.get() - self.policy.step_size.get());
            self.state = FailoverState::TurningBack { standby, share };
            self.due = now + self.policy.step_interval;
            self.set_share(standby, share, cause);
        }
    }

    fn finish(&mut self, now: Timestamp) {
        if !self.empty && now < self.due {
            return;
        }
        if !self.empty {
            self.follow(OutcomeKind::DrainTimedOut);
        }
        let begun_by = self.begun_by();
        self.remove(begun_by == Origin::Forecast, Cause::Step { begun_by }, now);
    }

    pub(super) fn remove(&mut self, may_return: bool, cause: Cause, now: Timestamp) {
        self.settle(FailoverState::Removed);
        self.wanted = None;
        self.dead = None;
        self.may_return = may_return;
        self.rested_at = Some(now);
        let node = self.node;
        self.act(ActionKind::RemoveNode { node }, cause);
    }

    /// An operator turns things back.
    pub(super) fn undo(&mut self, cause: Cause, now: Timestamp) {
        self.origin = self.origin.map(|_| Origin::Operator);
        self.receded = None;
        match self.state {
            FailoverState::Healthy => self.declined = None,
            FailoverState::Warming { standby } => self.release(standby, cause, now),
            FailoverState::Shifting { standby, share }
            | FailoverState::Holding { standby, share } => {
                self.start_turning_back(standby, share, cause, now);
            }
            FailoverState::Draining { standby } => {
                self.start_turning_back(standby, Ratio::ONE, cause, now);
            }
            FailoverState::TurningBack { .. } => {}
            FailoverState::Removed => {
                self.joined = false;
                self.restore(cause, now);
            }
        }
    }

    fn replace_standby(&mut self, reason: StandbyFailure, now: Timestamp) {
        let Some(standby) = self.state.standby() else {
            return;
        };
        let begun_by = self.begun_by();
        let cause = Cause::StandbyFailed {
            standby,
            reason,
            begun_by,
        };
        self.follow(OutcomeKind::StandbyFailed { reason });
        if self.failed.len() < MAX_CANDIDATES {
            self.failed.push((standby, now + self.policy.dwell));
        }
        let turning_back = matches!(
            self.state,
            FailoverState::TurningBack { .. } | FailoverState::Holding { .. }
        );
        if self.state.share() > Ratio::ZERO {
            self.set_share(standby, Ratio::ZERO, cause.clone());
        }
        let node = self.node;
        self.act(ActionKind::ReleaseStandby { node, standby }, cause.clone());
        if turning_back {
            self.follow(OutcomeKind::TurnedBack);
            self.settle(FailoverState::Healthy);
            self.rested_at = Some(now);
        } else {
            self.warm_next(begun_by, cause, now);
        }
    }

    /// The move is over and nothing has moved.
    pub(super) fn release(&mut self, standby: NodeId, cause: Cause, now: Timestamp) {
        self.settle(FailoverState::Healthy);
        self.rested_at = Some(now);
        let node = self.node;
        self.act(ActionKind::ReleaseStandby { node, standby }, cause);
    }

    pub(super) fn settle(&mut self, state: FailoverState) {
        self.state = state;
        self.origin = None;
        self.buried = false;
        self.receded = None;
        self.broken = None;
        self.ready = false;
        self.due = Timestamp::MAX;
    }

    pub(super) fn set_share(&mut self, to: NodeId, share: Ratio, cause: Cause) {
        let node = self.node;
        self.act(ActionKind::SetShare { node, to, share }, cause);
    }

    pub(super) fn act(&mut self, kind: ActionKind, cause: Cause) {
        self.declined = None;
        self.push(Record::Decided(Decision::Acted(kind), cause.clone()));
        self.actions.push_back(Action { kind, cause });
    }

    pub(super) fn decline(&mut self, refusal: Refusal, cause: Cause) {
        if self.declined != Some(refusal) {
            self.declined = Some(refusal);
            self.push(Record::Decided(Decision::Declined(refusal), cause));
        }
    }

    pub(super) fn follow(&mut self, kind: OutcomeKind) {
        self.push(Record::Followed(kind));
    }

    fn push(&mut self, record: Record) {
        self.records.push_back(record);
    }
}

/// `0.1 + 0.3 + 0.3 + 0.3` shall be one.
fn snap(share: f64) -> Ratio {
    Ratio::saturating((share * 1e9).round() / 1e9)
}

/// More than any chain of transitions at one point in time.
const MAX_TRANSITIONS: usize = 64;
