//! Is a node at risk, sick or dead?

use std::time::Duration;

use super::Engine;
use crate::{Forecast, NodeId, Origin, Timestamp};

impl Engine {
    /// What happened while the engine itself did not run is no evidence against others.
    pub(super) fn handle_own_delay(&mut self, delay: Duration, now: Timestamp) {
        self.own_delay = delay;
        if delay > self.policy.witness.max_own_delay {
            self.nodes
                .values_mut()
                .for_each(|watched| watched.excuse(now));
        }
    }

    pub(super) fn silence(&self) -> Duration {
        self.policy.witness.silence + 4 * self.own_delay
    }

    /// What is known about `node` has changed: is it at risk, sick, dead, or back?
    pub(super) fn judge(&mut self, node: NodeId, now: Timestamp) {
        self.judge_health(node, now);
        self.judge_return(node, now);
    }

    fn judge_health(&mut self, node: NodeId, now: Timestamp) {
        let Some(forecast) = self.forecast(node, now) else {
            return self.judge_life(node, now);
        };
        let Some(watched) = self.nodes.get_mut(&node) else {
            return;
        };
        let was_sick = watched.sick;
        watched.handle_forecast(&forecast);
        let sick = watched.sick;
        let watch = sick || self.busy.contains(&node);
        self.tell_guard(node, now);
        if watch || was_sick {
            self.touch(node, now, |f| f.handle_forecast(&forecast, now));
        }
        self.judge_life(node, now);
        if was_sick != sick {
            self.settle(now);
        }
    }

    /// The gravest of what the predictor, the node itself and the other nodes say.
    fn forecast(&self, node: NodeId, now: Timestamp) -> Option<Forecast> {
        let watched = self.nodes.get(&node)?;
        let horizon = watched.horizon();
        let said = [
            self.predictor.forecast(node, horizon, now),
            watched.own_word(now),
            self.witnesses.trouble(node, horizon, now),
        ];
        said.into_iter()
            .flatten()
            .max_by_key(|forecast| forecast.probability)
    }

    fn judge_life(&mut self, node: NodeId, now: Timestamp) {
        let silence = self.silence();
        let Some(watched) = self.nodes.get_mut(&node) else {
            return;
        };
        let unheard = watched.heard_at.is_some_and(|at| now.since(at) > silence);
        let heard = watched.heard_at.is_some() && !unheard;
        match self.witnesses.dead(node, unheard, now) {
            Some(cause) if !heard => {
                watched.sick = true;
                self.tell_guard(node, now);
                self.announce_freeze(now);
                self.touch(node, now, |f| f.handle_dead(cause, now));
            }
            Some(_) => {
                let ends = watched.heard_at.map_or(now, |at| at + silence);
                self.recheck_at = self.recheck_at.min(ends + Duration::from_nanos(1));
            }
            None if unheard => {}
            None => {
                if self.witnesses.dead(node, true, now).is_some() {
                    let ends = watched.heard_at.map_or(Timestamp::MAX, |at| at + silence);
                    self.recheck_at = self.recheck_at.min(ends + Duration::from_nanos(1));
                }
                watched.handle_alive();
            }
        }
    }

    /// A node that automation removed as dead, that lives on and was well for the whole dwell, comes
    /// back without starting anew.
    fn judge_return(&mut self, node: NodeId, now: Timestamp) {
        let silence = self.silence();
        let accused = self.witnesses.dead(node, false, now).is_some();
        let Some(watched) = self.nodes.get_mut(&node) else {
            return;
        };
        if watched.has_recovered(accused, silence, now) {
            self.touch(node, now, |f| f.handle_joined(now));
        }
    }

    pub(super) fn tell_guard(&mut self, node: NodeId, now: Timestamp) {
        let Some(watched) = self.nodes.get(&node) else {
            return;
        };
        let on_purpose = watched
            .failover
            .origin()
            .is_some_and(|o| o != Origin::Forecast);
        if watched.sick && !on_purpose && !watched.is_removed() {
            self.guard.handle_sick(node, now);
            self.announce_freeze(now);
        } else if !watched.sick {
            self.guard.handle_well(node);
        }
    }
}
