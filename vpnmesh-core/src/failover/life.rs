//! Nodes that die and nodes that come back.

use super::{Failover, FailoverState, Permit};
use crate::{ActionKind, Authority, Cause, Origin, Ratio, Refusal, Timestamp};

impl Failover {
    /// Removes the dead node, if automation may.
    pub(super) fn bury(&mut self, cause: Cause, now: Timestamp) -> bool {
        // An operator's drain of a node that dies ends as the operator wanted.
        let may_return = self.authority() == Authority::Policy;
        let spent = self.permit == Permit::Spent && !self.state.is_moving();
        let refusal = self
            .bar(Authority::Policy)
            .or(spent.then_some(Refusal::Budget));
        if let Some(refusal) = refusal {
            self.decline(refusal, cause);
        } else {
            self.remove(may_return, cause, now);
            self.buried = true;
        }
        refusal.is_none()
    }

    pub(super) fn rejoin(&mut self, now: Timestamp) {
        let barred = self.bar(Authority::Policy).is_some();
        let fresh = self
            .rested_at
            .is_some_and(|at| now.since(at) < self.policy.dwell);
        match self.state {
            FailoverState::Removed if !self.may_return => self.joined = false,
            FailoverState::Removed if barred || fresh => {}
            FailoverState::Removed => {
                self.joined = false;
                self.restore(Cause::Joined, now);
            }
            _ if self.origin == Some(Origin::Forecast) && barred => {}
            _ => {
                self.joined = false;
                if self.origin == Some(Origin::Forecast) {
                    self.forget_risk();
                    self.cancel(Cause::Joined, now);
                }
            }
        }
    }

    pub(super) fn restore(&mut self, cause: Cause, now: Timestamp) {
        self.settle(FailoverState::Healthy);
        self.rested_at = Some(now);
        let node = self.node;
        self.act(ActionKind::RestoreNode { node }, cause);
    }

    /// Gives everything back at once: the node holds nothing that could be moved gently.
    pub(super) fn cancel(&mut self, cause: Cause, now: Timestamp) {
        let Some(standby) = self.state.standby() else {
            return;
        };
        if self.state.share() > Ratio::ZERO {
            self.set_share(standby, Ratio::ZERO, cause.clone());
        }
        self.release(standby, cause, now);
    }
}
