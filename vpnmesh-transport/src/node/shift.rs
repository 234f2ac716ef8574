//! Handing sessions over: the node orders its clients to move, in its own authentic channel.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vpnmesh_core::{ClientId, NodeId, Ratio, SessionId, SiteId, Timestamp};

use super::held::{Leaving, Role, Shift};
use super::{NodeEvent, NodeMachine, PeerId};
use crate::message::{HolderMessage, ToSite};

/// What the owner wants to be moved away.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Share {
    to: Option<NodeId>,
    share: Ratio,
}

impl NodeMachine {
    /// The owner wants this share of all sessions to move.
    pub(super) fn set_share(&mut self, to: Option<NodeId>, share: Ratio, now: Timestamp) {
        if share == Ratio::ZERO || self.share.to != to {
            self.sessions
                .values_mut()
                .for_each(|held| held.failed.clear());
        }
        self.share = Share { to, share };
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        for session in sessions {
            self.shift_if_wanted(session, now);
        }
    }

    /// Orders the client to move if its session has a holder to move to.
    pub(super) fn shift_if_wanted(&mut self, session: SessionId, now: Timestamp) {
        let Some(held) = self.sessions.get(&session) else {
            return;
        };
        let share = (self.share.share.get() * f64::from(u16::MAX)).round() as u16;
        if !held.is_primary()
            || held.making.is_some()
            || held.shift.is_some_and(|shift| shift.share == share)
        {
            return;
        }
        let to = match held.shift {
            Some(_) if share == 0 => Some(self.me),
            Some(shift) => Some(shift.to),
            None if share == 0 => None,
            None => self.best_target(session),
        };
        let (Some(to), Some(held)) = (to, self.sessions.get_mut(&session)) else {
            return;
        };
        held.orders += 1;
        let order = held.orders;
        held.shift = (share > 0).then_some(Shift { order, to, share });
        self.tell_client(session, &HolderMessage::Shift { order, to, share }, now);
    }

    /// Where a session goes: where the owner says, else to the healthiest shadow.
    fn best_target(&self, session: SessionId) -> Option<NodeId> {
        let held = self.sessions.get(&session).filter(|held| held.rostered)?;
        let open = held
            .shadows
            .iter()
            .filter(|node| !held.failed.contains(*node));
        let fit = open.filter_map(|node| {
            let peer = self.peers.get(&PeerId::Node(*node))?;
            let figures = peer.leg.as_ref()?.figures();
            Some((*node, peer.risk + figures.loss + peer.load / 4.0))
        });
        let fit: Vec<(NodeId, f64)> = fit.collect();
        if let Some(to) = self.share.to
            && fit.iter().any(|(node, _)| *node == to)
        {
            return Some(to);
        }
        fit.into_iter()
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(node, _)| node)
    }

    /// A shift that could not start yet is tried again.
    pub(super) fn tend_shift(&mut self, session: SessionId, now: Timestamp) {
        if self.share.share > Ratio::ZERO {
            self.shift_if_wanted(session, now);
        }
    }

    /// The holder that we named did not take over: the next candidate.
    pub(super) fn handle_shift_failed(&mut self, session: SessionId, order: u32, now: Timestamp) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        let Some(shift) = held.shift.take_if(|shift| shift.order == order) else {
            return;
        };
        held.review_at = now;
        held.failed.insert(shift.to);
        self.emit(NodeEvent::ShiftFailed {
            session,
            to: shift.to,
        });
        self.shift_if_wanted(session, now);
    }

    /// The client commits to another holder.
    pub(super) fn handle_leave(
        &mut self,
        session: SessionId,
        number: u32,
        up_final: Option<u64>,
        sites: Vec<SiteId>,
        now: Timestamp,
    ) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        if number < held.record.number {
            return; // the client came back to us since, by a later move
        }
        let until = now + held.leg.grace();
        let sites: BTreeSet<SiteId> = sites.into_iter().take(MAX_SITES).collect();
        held.role = Role::Leaving(Leaving {
            number,
            up_final,
            waiting: sites.clone(),
            finals: BTreeMap::new(),
            up_closed: false,
            down_closed: false,
            sites,
            flushed_at: now + FLUSH,
            until,
        });
        held.shift = None;
        held.making = None;
        held.root = None;
        if let Some(last) = up_final {
            let id = held.leg.sealing().id;
            held.leg.close_above(id, last);
        }
        self.recount(session);
        self.tend_leaving(session, now);
    }

    /// A site sends this client's packets elsewhere now.
    pub(super) fn handle_site_left(
        &mut self,
        site: SiteId,
        client: ClientId,
        number: u32,
        down_final: Option<u64>,
        now: Timestamp,
    ) {
        let Some(session) = self.by_client.get(&client).copied() else {
            return;
        };
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        if let Role::Leaving(leaving) = &mut held.role
            && leaving.number == number
        {
            leaving.waiting.remove(&site);
            leaving.finals.insert(site, down_final);
        }
        self.tend_leaving(session, now);
        self.touch_session(session, now);
    }

    /// Closes each direction once all its packets came through, or its time is over.
    pub(super) fn tend_leaving(&mut self, session: SessionId, now: Timestamp) {
        self.close_up(session, now);
        self.close_down(session, now);
        let over = self
            .sessions
            .get(&session)
            .is_some_and(|held| match &held.role {
                Role::Leaving(leaving) => {
                    leaving.up_closed
                        && leaving.down_closed
                        && leaving.until <= now
                        && held.leg.is_settled()
                        || leaving.until + LINGER <= now
                }
                Role::Taking | Role::Primary => false,
            });
        if over {
            return self.end_session(session);
        }
        if let Some(held) = self.sessions.get_mut(&session)
            && let Role::Leaving(leaving) = &mut held.role
            && leaving.until <= now
        {
            leaving.until = now + AGAIN; // the last words are still on their way
        }
    }

    /// The sites hear which packet of this client was our last.
    fn close_up(&mut self, session: SessionId, now: Timestamp) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        let Role::Leaving(leaving) = &mut held.role else {
            return;
        };
        let complete = leaving
            .up_final
            .is_none_or(|last| held.leg.sealing().complete(0, last));
        if leaving.up_closed || (!complete && leaving.flushed_at > now) {
            return;
        }
        leaving.up_closed = true;
        let (client, number) = (held.record.client, leaving.number);
        let finals: Vec<_> = leaving
            .sites
            .iter()
            .map(|site| (*site, held.last_up.get(site).copied()))
            .collect();
        for (site, counter) in finals {
            let message = ToSite::FinalUp {
                client,
                number,
                counter,
            };
            self.tell_site_peer(PeerId::Site(site), &message, now);
        }
    }

    /// The client hears which packet for it was our last.
    fn close_down(&mut self, session: SessionId, now: Timestamp) {
        let Some(held) = self.sessions.get(&session) else {
            return;
        };
        let Role::Leaving(leaving) = &held.role else {
            return;
        };
        let arrived = |(site, last): (&SiteId, &Option<u64>)| {
            let leg = self
                .peers
                .get(&PeerId::Site(*site))
                .and_then(|peer| peer.leg.as_ref());
            last.is_none_or(|last| {
                leg.is_none_or(|leg| leg.sealing().complete(last.saturating_sub(RECENT), last))
            })
        };
        let complete = leaving.waiting.is_empty() && leaving.finals.iter().all(arrived);
        if leaving.down_closed || (!complete && leaving.flushed_at > now) {
            return;
        }
        let (number, down_final) = (leaving.number, held.last_down);
        if let Some(held) = self.sessions.get_mut(&session)
            && let Role::Leaving(leaving) = &mut held.role
        {
            leaving.down_closed = true;
        }
        self.tell_client(session, &HolderMessage::Left { number, down_final }, now);
    }
}

const MAX_SITES: usize = 256;
/// Packets overtake each other by less than this; what is missing then was lost.
const FLUSH: Duration = Duration::from_millis(250);
/// The last words may need a few repetitions.
const AGAIN: Duration = Duration::from_millis(200);
const LINGER: Duration = Duration::from_secs(5);
/// Packets of a site that are looked for before its last one: more than a path holds.
const RECENT: u64 = 1500;

#[cfg(test)]
mod tests {
    use super::super::rig::{self, node, record};
    use super::*;
    use crate::leg::Leg;

    #[test]
    fn a_holder_that_failed_one_session_is_open_to_the_others() {
        let mut node = node();
        let records = [11, 12].map(|client| record(client, 3, 1, &[1, 2]));
        for record in &records {
            node.take(record);
            let held = node.sessions.get_mut(&record.session).unwrap();
            (held.rostered, held.shadows) = (true, vec![NodeId(2)]);
        }
        let channel = node.take(&record(13, 1, 1, &[1]));
        let leg = Leg::new(rig::address(2), channel, node.timers.link, rig::START);
        node.peers.get_mut(&PeerId::Node(NodeId(2))).unwrap().leg = Some(leg);
        node.set_share(None, Ratio::ONE, rig::START);
        let [first, second] = records.map(|record| record.session);
        let order = node.sessions[&first].shift.unwrap().order;
        node.handle_shift_failed(first, order, rig::START);
        assert_eq!(node.best_target(first), None);
        assert_eq!(node.best_target(second), Some(NodeId(2)));
        node.set_share(None, Ratio::ZERO, rig::START);
        assert_eq!(node.best_target(first), Some(NodeId(2)));
    }
}
