//! Handshakes of a client: with a member when there is no holder, and for fresh secrets.

use std::net::SocketAddr;
use std::time::Duration;

use vpnmesh_core::{NodeId, NodeState, PublicKey, SessionId, Timestamp};

use super::generation::Generations;
use super::holder::Holder;
use super::usage::Usage;
use super::{ClientEvent, ClientMachine};
use crate::DropReason;
use crate::handshake::{Established, Incarnation};
use crate::leg::Leg;
use crate::schedule::BranchContext;
use crate::station::{Ended, FirstBranch, Hello, Route};

impl ClientMachine {
    /// Dials the next member while there is no holder, or while the holder refuses fresh secrets.
    pub(super) fn dial_if_due(&mut self, now: Timestamp) {
        let wanted = self.active.is_none() || self.refresh_is_overdue(now);
        if !wanted || now < self.next_dial {
            return;
        }
        self.next_dial = now + DIAL_GAP + self.station.jitter(DIAL_GAP);
        let Some((node, key, address)) = self.next_member(now) else {
            self.tried.clear(); // all were tried: once more, later
            self.next_dial = now + ROUND_GAP + self.station.jitter(ROUND_GAP);
            return;
        };
        self.tried.insert(node);
        let hello = Hello::Session {
            session: self.session,
            generation: self.generations.claim(),
            number: self.next_number(),
            refresh: false,
        };
        self.dial(key, Route::Direct(address), hello, now);
    }

    /// Whether the holder can be asked for fresh secrets: it answers, no move is under way, and there
    /// is something to protect. Secrets that carried no packet since they were made may stay.
    pub(super) fn may_refresh(&self) -> bool {
        let Some(active) = self.active.as_ref().filter(|_| self.planned.is_none()) else {
            return false;
        };
        let used = Some(active.leg.traffic()) != self.traffic_when_fresh;
        let due = used || self.worn || self.unrefreshed_since.is_some();
        due && active.activation.is_none()
    }

    /// Keys that are nearly spent are a reason for fresh secrets; spent ones for a new move.
    pub(super) fn renew_worn(&mut self, now: Timestamp) {
        let active = self.active.as_ref();
        let Some(active) = active.filter(|holder| holder.leg.is_worn()) else {
            self.worn = false;
            return;
        };
        let spent = active.leg.newest().is_spent() && active.activation.is_none();
        if !std::mem::replace(&mut self.worn, true) {
            self.refresh_at = self.refresh_at.min(now);
        }
        if spent && self.planned.is_none() {
            self.reactivate(false, now);
        }
    }

    /// Asks the holder for fresh secrets when it is time.
    pub(super) fn refresh_if_due(&mut self, now: Timestamp) {
        if now < self.refresh_at || !self.may_refresh() {
            return;
        }
        let Some(active) = &self.active else { return };
        let (node, address) = (active.node, active.leg.remote());
        let key = self.station.membership.node(node).map(|entry| entry.key);
        let back_off = Duration::from_secs(1 << self.refresh_failures.min(5));
        self.refresh_failures += 1;
        self.refresh_at = now + back_off + self.station.jitter(back_off);
        let Some(key) = key else { return };
        let hello = Hello::Session {
            session: self.session,
            generation: self.generations.claim(),
            number: self.number,
            refresh: true,
        };
        self.station
            .hang_up(|hello| matches!(hello, Hello::Session { refresh: true, .. }));
        self.dial(key, Route::Direct(address), hello, now);
    }

    /// The owner wants fresh secrets before the timer does.
    pub(super) fn refresh_now(&mut self, now: Timestamp) {
        if self.refresh_failures == 0 && self.active.is_some() {
            self.traffic_when_fresh = None; // whether they were used or not
            self.refresh_at = self.refresh_at.min(now);
            self.refresh_if_due(now);
            self.flush(now);
        }
    }

    /// The owner wants nothing more sealed under what we have.
    pub(super) fn drop_keys(&mut self, now: Timestamp) {
        if self.active.is_some() {
            self.tried.clear();
            self.detach(now);
        }
    }

    pub(super) fn dial(&mut self, key: PublicKey, route: Route, hello: Hello, now: Timestamp) {
        let expected = match route {
            Route::Direct(address) => self.rtt_to(address, now),
            Route::Relay(_) => None,
        };
        let retry = expected.map_or(RETRY, |rtt| (rtt * 2 + RETRY_SLACK).min(RETRY));
        let mut taken: Vec<u32> = self.legs().flat_map(Leg::indices).collect();
        taken.extend(&self.fenced);
        let result = self.station.dial(
            key,
            route,
            hello,
            |index| taken.contains(&index),
            retry,
            now,
        );
        self.station.out.count(result);
    }

    /// A handshake attempt ended.
    pub(super) fn handle_ended(&mut self, ended: Ended, now: Timestamp) {
        match (ended.hello, ended.route) {
            (Hello::Receipts, Route::Relay(site)) => self.handle_tied(site, ended.established, now),
            (
                Hello::Session {
                    generation,
                    number,
                    refresh,
                    ..
                },
                Route::Direct(address),
            ) => {
                let node = self
                    .station
                    .membership
                    .node_by_key(&ended.peer)
                    .map(|entry| entry.id);
                let (Some(established), Some(node)) = (ended.established, node) else {
                    return;
                };
                if refresh {
                    self.handle_refreshed(node, generation, *established);
                } else {
                    self.handle_attached(node, address, (generation, number), *established, now);
                }
            }
            (Hello::Receipts | Hello::Link { .. }, _)
            | (Hello::Session { .. }, Route::Relay(_)) => {}
        }
    }

    /// Fresh secrets for the present holder: its roster follows.
    fn handle_refreshed(&mut self, node: NodeId, generation: u32, established: Established) {
        let present = self
            .active
            .as_ref()
            .is_some_and(|holder| holder.node == node);
        let context = BranchContext {
            session: self.session,
            generation,
            branch: 0,
            holder: node,
            holder_key: established.peer,
            profile: established.profile,
            cipher: established.cipher,
            handshake_hash: established.handshake_hash,
        };
        if !present
            || self.planned.is_some()
            || !self.generations.prepare(context, established.root)
        {
            self.station.out.drop_because(DropReason::Stale);
        }
    }

    /// A member took the session: it is the only holder now.
    fn handle_attached(
        &mut self,
        node: NodeId,
        address: SocketAddr,
        (generation, number): (u32, u32),
        established: Established,
        now: Timestamp,
    ) {
        if self.active.is_some() && !self.refresh_is_overdue(now) {
            return self.station.out.drop_because(DropReason::Stale);
        }
        let holder = (node, established.peer, established.peer_incarnation);
        let suite = self.station.config.suite;
        let first = FirstBranch::derive(
            &suite,
            &established,
            (self.session, generation, number),
            holder,
            now,
        );
        let mut leg = Leg::new(address, first.channel, self.timers.cadence, now);
        if let Some(rtt) = self.prober.rtt(node, now) {
            leg.expect_rtt(rtt);
        }
        self.drop_all_holders();
        self.generations.begin(first.context, established.root);
        self.active = Some(Holder {
            node,
            key: established.peer,
            leg,
            branch: first.secret,
            generation,
            number,
            activation: None,
            last_data: None,
        });
        self.station
            .hang_up(|hello| matches!(hello, Hello::Session { .. }));
        self.tried.clear();
        self.note_fresh(now);
        self.next_report = now;
        self.renew_ties(now);
        self.emit(ClientEvent::Attached { node, generation });
    }

    /// Fresh secrets are in force.
    pub(super) fn note_fresh(&mut self, now: Timestamp) {
        self.unrefreshed_since = None;
        self.refresh_failures = 0;
        self.usage = Usage::since(now);
        self.traffic_when_fresh = self.active.as_ref().map(|holder| holder.leg.traffic());
        let every = self.timers.refresh_every;
        self.refresh_at = now + every - self.station.jitter(every / 10);
    }

    /// Whether the holder failed for too long to give fresh secrets (rule S7).
    fn refresh_is_overdue(&self, now: Timestamp) -> bool {
        self.unrefreshed_since
            .is_some_and(|since| now.since(since) >= UNREFRESHED_LIMIT)
    }

    /// All holders are gone; what we have of their keys is erased.
    pub(super) fn detach(&mut self, now: Timestamp) {
        self.drop_all_holders();
        self.next_dial = now + self.station.jitter(FIRST_DIAL);
        self.emit(ClientEvent::Detached);
    }

    pub(super) fn drop_all_holders(&mut self) {
        self.planned = None;
        self.generations.abandon_next();
        let draining = self.draining.take().map(|(holder, _)| holder);
        for holder in [self.active.take(), self.other.take(), draining]
            .into_iter()
            .flatten()
        {
            self.drop_holder(holder);
        }
    }

    /// The machine was resumed from a snapshot: whatever could be sealed twice is erased.
    pub(super) fn handle_resumed(&mut self, incarnation: Incarnation, now: Timestamp) {
        self.station.resume(incarnation);
        // Generations and moves after the snapshot are forgotten: their numbers must not come
        // again in the same session.
        self.session = SessionId::new(self.me, self.station.random());
        self.generations = Generations::default();
        self.unrefreshed_since = None;
        for tie in self.ties.values_mut() {
            tie.key = None;
            tie.answered = None;
        }
        self.tried.clear();
        self.detach(now);
    }

    /// The next member to dial: any order, those that answer probes first at the very start.
    fn next_member(&mut self, now: Timestamp) -> Option<(NodeId, PublicKey, SocketAddr)> {
        let current = self.active.as_ref().map(|holder| holder.node);
        let fit = |state: NodeState| matches!(state, NodeState::Active | NodeState::Standby);
        let nodes = self.station.membership.nodes.iter();
        let mut open: Vec<_> = nodes
            .filter(|node| {
                fit(node.state) && !self.tried.contains(&node.id) && Some(node.id) != current
            })
            .filter_map(|node| Some((node.state, node.id, node.key, *node.addresses.first()?)))
            .collect();
        if open.iter().any(|(state, ..)| *state == NodeState::Active) {
            open.retain(|(state, ..)| *state == NodeState::Active);
        }
        let first_time = self.generations.current() == 0;
        let near = open
            .iter()
            .filter_map(|open| Some((self.prober.rtt(open.1, now)?, *open)));
        if first_time
            && let Some((_, (_, id, key, address))) =
                near.min_by_key(|(rtt, (_, id, ..))| (*rtt, *id))
        {
            return Some((id, key, address));
        }
        if open.is_empty() {
            return None;
        }
        let pick = u32::from_le_bytes(self.station.random()) as usize % open.len();
        let (_, id, key, address) = open[pick];
        Some((id, key, address))
    }

    fn rtt_to(&self, address: SocketAddr, now: Timestamp) -> Option<Duration> {
        let nodes = &self.station.membership.nodes;
        let node = nodes
            .iter()
            .find(|node| node.addresses.contains(&address))?;
        self.prober.rtt(node.id, now)
    }

    /// The newest statement goes to all sites at once.
    pub(super) fn renew_ties(&mut self, now: Timestamp) {
        for tie in self.ties.values_mut() {
            tie.due = now;
        }
    }

    /// Whether the membership knows a node under this key and did not remove it.
    pub(super) fn is_in_force(&self, node: NodeId, key: &PublicKey) -> bool {
        let entry = self.station.membership.node(node);
        entry.is_some_and(|entry| entry.key == *key && entry.state != NodeState::Removed)
    }

    /// A member was removed, or has another key: we leave it at once, as the membership says.
    pub(super) fn leave_removed(&mut self, now: Timestamp) {
        let removed = |holder: &Holder| !self.is_in_force(holder.node, &holder.key);
        let draining = self.draining.as_ref();
        if draining.is_some_and(|(holder, _)| removed(holder))
            && let Some((holder, _)) = self.draining.take()
        {
            self.drop_holder(holder);
        }
        let removed = |holder: &Holder| !self.is_in_force(holder.node, &holder.key);
        if self.active.as_ref().is_some_and(removed) {
            self.take_over(now);
        } else if self.other.as_ref().is_some_and(removed) {
            self.lose_other(now);
        }
    }
}

/// The next member is dialed before the last one must have answered.
const DIAL_GAP: Duration = Duration::from_millis(150);
/// After all were tried.
const ROUND_GAP: Duration = Duration::from_millis(500);
/// Clients that lost the same holders do not dial in one instant.
const FIRST_DIAL: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_millis(250);
const RETRY_SLACK: Duration = Duration::from_millis(20);
/// Rule S7.
const UNREFRESHED_LIMIT: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use vpnmesh_core::Secret;

    use super::*;
    use crate::channel::{Channel, ChannelId, End, packet_limit};
    use crate::client::{ClientConfig, ClientTimers};
    use crate::node::rig;
    use crate::schedule::MoveKeys;
    use crate::{Cipher, CryptoSuite, Machine as _};

    const NODE: NodeId = NodeId(2);

    /// A client whose session node 2 holds, without a roster.
    fn client() -> ClientMachine {
        let config = ClientConfig {
            station: rig::station(11),
            tier: None,
            timers: ClientTimers::default(),
        };
        let mut client = ClientMachine::new(config, rig::START).unwrap();
        let keys = MoveKeys {
            up: Secret::take(&mut [1; 32]),
            down: Secret::take(&mut [2; 32]),
        };
        let id = ChannelId {
            session: client.session,
            generation: 1,
            number: 1,
            branch: 0,
        };
        let (suite, cipher) = (CryptoSuite::reproducible(), Cipher::Aes128Gcm);
        let mut channel = Channel::new(&suite, cipher, End::Client, id, &keys, (1, 1), rig::START);
        channel.confirmed = true;
        let cadence = client.timers.cadence;
        client.active = Some(Holder {
            node: NODE,
            key: rig::identity(NODE.0).public(),
            leg: Leg::new(rig::address(NODE.0), channel, cadence, rig::START),
            branch: Secret::take(&mut [3; 32]),
            generation: 1,
            number: 1,
            activation: None,
            last_data: None,
        });
        client.station.hang_up(|_| true);
        client.note_fresh(rig::START);
        client
    }

    #[test]
    fn a_holder_whose_key_is_replaced_is_left() {
        let mut client = client();
        let mut next = rig::membership(2);
        next.nodes[2].key = rig::identity(93).public(); // node 3: not our holder
        let signed = rig::sign(&next);
        client.handle_command(crate::client::ClientCommand::Membership(signed), rig::START);
        assert!(client.active.is_some());
        next.version.index = 3;
        next.nodes[1].key = rig::identity(92).public();
        next.sites[0].key = rig::identity(94).public();
        client
            .ties
            .values_mut()
            .for_each(|tie| tie.key = Some(Secret::take(&mut [4; 32])));
        let signed = rig::sign(&next);
        client.handle_command(crate::client::ClientCommand::Membership(signed), rig::START);
        assert!(client.active.is_none());
        let keys = client.ties.values().filter(|tie| tie.key.is_some());
        assert_eq!(keys.count(), 1, "the tie to the replaced site is new");
    }

    #[test]
    fn nearly_spent_keys_bring_a_handshake_and_spent_ones_end_their_use() {
        let mut client = client();
        let later = rig::START + Duration::from_secs(1);
        client.handle_timeout(later);
        assert!(
            !client
                .station
                .is_dialing(&rig::identity(NODE.0).public(), |_| true)
        );
        let limit = packet_limit(Cipher::Aes128Gcm);
        let wear = |client: &mut ClientMachine, sealed| {
            let active = client.active.as_mut().unwrap();
            active.leg.newest_mut().wear(sealed);
        };
        wear(&mut client, limit / 4 * 3);
        client.handle_timeout(later);
        assert!(
            client
                .station
                .is_dialing(&rig::identity(NODE.0).public(), |_| true)
        );
        wear(&mut client, limit);
        client.handle_timeout(later);
        assert!(client.active.is_none(), "without a roster it starts afresh");
    }

    #[test]
    fn secrets_that_carried_nothing_are_not_renewed() {
        let mut client = client();
        let later = rig::START + client.timers.refresh_every * 2;
        client.active.as_mut().unwrap().leg.note_heard(later);
        assert!(!client.may_refresh());
        let packet = crate::flow::tests::udp(
            [10, 0, 0, 11].into(),
            [10, 1, 0, 21].into(),
            (1, 2),
            b"used",
        );
        client.handle_inner(&packet, later);
        assert!(client.may_refresh() && client.refresh_at <= later);
    }
}
