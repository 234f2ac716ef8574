//! What speaks for a move and against it.

use super::{Failover, FailoverState};
use crate::{Authority, Cause, Forecast, Origin, OutcomeKind, Timestamp};

impl Failover {
    /// Wants traffic to leave, unless greater authority wants so already.
    pub(super) fn want(&mut self, origin: Origin, cause: Cause) {
        let authority = origin.authority();
        if self.state == FailoverState::Removed {
            self.may_return &= authority < Authority::SecurityFloor;
            return;
        }
        let stands = self.wanted.as_ref().map(|(origin, _)| origin.authority());
        if stands.is_none_or(|stands| stands <= authority) {
            self.wanted = Some((origin, cause));
        }
        if self.origin.is_some() && self.authority() <= authority {
            self.drive(origin);
        }
    }

    /// The running move goes forward by the word of `origin`.
    fn drive(&mut self, origin: Origin) {
        self.origin = Some(origin);
        self.receded = None;
        if let FailoverState::TurningBack { standby, share } = self.state {
            self.state = FailoverState::Shifting { standby, share };
        }
    }

    pub(super) fn rise(&mut self, forecast: &Forecast) {
        let cause = Cause::Forecast {
            forecast: forecast.clone(),
            threshold: self.policy.threshold,
        };
        let by_risk = self.origin == Some(Origin::Forecast);
        let returning = matches!(
            self.state,
            FailoverState::Holding { .. } | FailoverState::TurningBack { .. }
        );
        if by_risk && returning {
            self.follow(OutcomeKind::RoseAgain {
                probability: forecast.probability,
            });
        }
        if by_risk || !returning {
            self.want(Origin::Forecast, cause);
        }
    }

    pub(super) fn recede(&mut self, forecast: &Forecast, now: Timestamp) {
        self.forget_risk();
        if self.origin == Some(Origin::Forecast) && self.receded.is_none() {
            let cause = Cause::Receded {
                forecast: forecast.clone(),
                recede: self.policy.recede,
            };
            self.receded = Some((now, cause));
            self.follow(OutcomeKind::Receded {
                probability: forecast.probability,
            });
        }
    }

    pub(super) fn forget_risk(&mut self) {
        if matches!(self.wanted, Some((Origin::Forecast, _))) {
            self.wanted = None;
            self.declined = None;
        }
    }
}
