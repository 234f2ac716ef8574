//! Legs to other nodes and to sites.
//!
//! Of two nodes the one with the lower id dials; sites dial always. A leg is re-keyed by a fresh
//! handshake every two minutes, without a lost packet.

use std::collections::BTreeMap;
use std::time::Duration;

use vpnmesh_core::{ClientId, NodeState, PublicKey, SessionId, SiteId, Timestamp};

use super::told::Told;
use super::{NodeEvent, NodeMachine, Owner, PeerId};
use crate::DropReason;
use crate::handshake::{Established, Incarnation};
use crate::leg::Leg;
use crate::message::{self, FromSite, HolderMessage, NodeMessage, ToSite};
use crate::receipt::STATE_AGAIN;
use crate::record::SessionRecord;
use crate::station::{Ended, Hello, Route, link_channel};

/// Another node or a site.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) key: PublicKey,
    pub(super) leg: Option<Leg>,
    pub(super) incarnation: Incarnation,
    /// The life in which it was last connected.
    pub(super) life: Incarnation,
    /// We dial it at this moment; never, if it dials us.
    pub(super) dial_at: Timestamp,
    /// A fresh handshake is due.
    pub(super) refresh_at: Timestamp,
    /// What it last said of itself.
    pub(super) load: f64,
    pub(super) risk: f64,
    /// When its digest last matched, or when it first became our primary.
    pub(super) fresh_at: Option<Timestamp>,
    /// What it has of the membership.
    pub(super) told: Told,
}

impl Peer {
    pub(super) fn new(key: PublicKey, dial_at: Timestamp) -> Self {
        Self {
            key,
            leg: None,
            incarnation: Incarnation {
                counter: 0,
                random: [0; 16],
            },
            life: Incarnation {
                counter: 0,
                random: [0; 16],
            },
            dial_at,
            refresh_at: Timestamp::MAX,
            load: 0.0,
            risk: 0.0,
            fresh_at: None,
            told: Told::default(),
        }
    }

    /// When the next handshake with it is due.
    pub(super) fn next_dial(&self) -> Timestamp {
        if self.dial_at == Timestamp::MAX {
            Timestamp::MAX
        } else if self.leg.is_some() {
            self.refresh_at
        } else {
            self.dial_at
        }
    }

    /// When it counts as down if nothing is heard until then.
    pub(super) fn down_at(&self, patience: Duration) -> Timestamp {
        let silent_at = self.leg.as_ref().and_then(Leg::silent_at);
        silent_at.map_or(Timestamp::MAX, |at| at + patience)
    }
}

impl NodeMachine {
    /// Peers come and go with the membership.
    pub(super) fn follow_membership(&mut self, now: Timestamp) {
        let membership = &self.station.membership;
        let nodes = membership
            .nodes
            .iter()
            .filter(|node| node.id != self.me && node.state != NodeState::Removed);
        let mut wanted: Vec<(PeerId, PublicKey, Timestamp)> = nodes
            .map(|node| {
                let dials = self.me < node.id;
                (
                    PeerId::Node(node.id),
                    node.key,
                    if dials { now } else { Timestamp::MAX },
                )
            })
            .collect();
        wanted.extend(
            membership
                .sites
                .iter()
                .map(|site| (PeerId::Site(site.id), site.key, Timestamp::MAX)),
        );
        let gone: Vec<PeerId> = self
            .peers
            .keys()
            .filter(|id| !wanted.iter().any(|(w, ..)| w == *id))
            .copied()
            .collect();
        for id in gone {
            self.disconnect(id, now);
            self.peers.remove(&id);
        }
        for (id, key, dial_at) in wanted {
            let known = self.peers.get(&id).is_some_and(|peer| peer.key == key);
            if !known {
                self.disconnect(id, now);
                self.peers.insert(id, Peer::new(key, dial_at));
            }
            self.touch_peer(id, now);
        }
        self.leave_strangers();
        self.review_all(now);
    }

    /// Sessions end of clients that are gone or have another key now.
    fn leave_strangers(&mut self) {
        let membership = &self.station.membership;
        let keys: BTreeMap<ClientId, PublicKey> = membership
            .clients
            .iter()
            .map(|client| (client.id, client.key))
            .collect();
        let stranger =
            |record: &SessionRecord| keys.get(&record.client) != Some(&record.client_key);
        let sessions = self.sessions.iter();
        let ended = sessions.filter(|(_, held)| stranger(&held.record));
        let ended: Vec<_> = ended.map(|(session, _)| *session).collect();
        for session in ended {
            self.end_session(session);
        }
        self.branches.forget_all(|branch| stranger(&branch.record));
        let pending = self.pending.iter();
        let refused = pending.filter(|(_, pending)| stranger(&pending.record));
        let refused: Vec<u32> = refused.map(|(index, _)| *index).collect();
        for index in refused {
            self.pending.remove(&index);
            self.channels.remove(&index);
        }
    }

    /// Takes a membership over if it is genuine and newer, and passes it on to those who do not
    /// name their version by themselves; whether it was. The other nodes do, with their health.
    pub(super) fn handle_membership(&mut self, signed: &[u8], now: Timestamp) -> bool {
        if !self.station.adopt(signed) {
            return false;
        }
        self.follow_membership(now);
        self.emit(NodeEvent::Membership(signed.to_vec()));
        let sites: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in sites.into_iter().filter(|id| matches!(id, PeerId::Site(_))) {
            self.send_membership(id, now);
        }
        let sessions: Vec<_> = self.sessions.keys().copied().collect();
        for session in sessions {
            self.send_membership_to_client(session, now);
        }
        true
    }

    /// A membership came from outside the mesh: all nodes hear of it at once.
    pub(super) fn spread_membership(&mut self, now: Timestamp) {
        let peers: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in peers {
            self.send_membership(id, now);
        }
    }

    /// Sends a peer the membership if it lacks it and was not sent it lately.
    pub(super) fn send_membership(&mut self, id: PeerId, now: Timestamp) {
        let version = self.station.version();
        let peer = self.peers.get_mut(&id).filter(|peer| peer.leg.is_some());
        if !peer.is_some_and(|peer| peer.told.take(version, now)) {
            return;
        }
        let signed = self.station.config.membership.clone();
        match id {
            PeerId::Node(_) => self.tell_node_peer(id, &NodeMessage::Membership(signed), now),
            PeerId::Site(_) => self.tell_site_peer(id, &ToSite::Membership(signed), now),
        }
    }

    /// Likewise, a client.
    pub(super) fn send_membership_to_client(&mut self, session: SessionId, now: Timestamp) {
        let version = self.station.version();
        let held = self.sessions.get_mut(&session);
        if held.is_some_and(|held| held.told.take(version, now)) {
            let signed = self.station.config.membership.clone();
            self.tell_client(session, &HolderMessage::Membership(signed), now);
        }
    }

    /// Dials, refreshes, and notices silence.
    pub(super) fn tend_peer(&mut self, id: PeerId, now: Timestamp) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.down_at(self.timers.link_patience) <= now {
            self.disconnect(id, now);
        } else if let Some(leg) = peer.leg.as_mut()
            && leg.silent_at().is_some_and(|at| at <= now)
        {
            leg.note_judged();
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.next_dial() > now {
            return;
        }
        peer.dial_at = now + REDIAL;
        peer.refresh_at = now + REDIAL;
        let key = peer.key;
        let hello = Hello::Link {
            continues: peer.leg.is_some(),
        };
        let address = match id {
            PeerId::Node(node) => self
                .station
                .membership
                .node(node)
                .and_then(|node| node.addresses.first().copied()),
            PeerId::Site(_) => None,
        };
        let Some(address) = address else { return };
        if self
            .station
            .is_dialing(&key, |hello| matches!(hello, Hello::Link { .. }))
        {
            return;
        }
        let (channels, branches) = (&self.channels, &self.branches);
        let taken = |index: u32| {
            channels.contains_key(&index) || branches.at_base(super::base_of(index)).is_some()
        };
        let dialed = self
            .station
            .dial(key, Route::Direct(address), hello, taken, RETRY, now);
        self.station.out.count(dialed);
    }

    /// A handshake that we started ended.
    pub(super) fn handle_ended(&mut self, ended: Ended, now: Timestamp) {
        let Hello::Link { continues } = ended.hello else {
            return;
        };
        let node = self.station.membership.node_by_key(&ended.peer);
        if let (Some(established), Route::Direct(address), Some(node)) =
            (ended.established, ended.route, node.map(|node| node.id))
        {
            self.connect(PeerId::Node(node), *established, address, continues, now);
        }
    }

    /// A handshake with a peer succeeded: a first leg, fresh keys for it, or a peer that restarted.
    pub(super) fn connect(
        &mut self,
        id: PeerId,
        established: Established,
        from: std::net::SocketAddr,
        continues: bool,
        now: Timestamp,
    ) {
        let suite = self.station.config.suite;
        let channel = link_channel(&suite, &established, &self.station, now);
        let Some(peer) = self
            .peers
            .get_mut(&id)
            .filter(|peer| peer.key == established.peer)
        else {
            return self.station.out.drop_because(DropReason::UnknownPeer);
        };
        let index = channel.local_index;
        let same_life = continues && peer.incarnation == established.peer_incarnation;
        if continues && !(same_life && peer.leg.is_some()) {
            peer.refresh_at = now; // one end gave the leg up meanwhile: it falls silent and is new
            return self.station.out.drop_because(DropReason::Stale);
        }
        let mut gone = Vec::new();
        match peer.leg.as_mut().filter(|_| same_life) {
            Some(leg) => gone = leg.add_channel(channel, now + leg.grace() + LINK_GRACE),
            None => {
                if let Some(old) = peer.leg.take() {
                    gone.extend(old.indices());
                }
                peer.leg = Some(Leg::new(from, channel, self.timers.link, now));
                peer.incarnation = established.peer_incarnation;
                peer.life = established.peer_incarnation;
                peer.told = Told::default();
            }
        }
        peer.refresh_at = now + REFRESH;
        for index in gone {
            self.channels.remove(&index);
        }
        self.channels.insert(index, Owner::Peer(id));
        if !same_life {
            self.emit(NodeEvent::PeerConnected(id));
            match id {
                PeerId::Node(_) => self.send_health_to(id, now),
                PeerId::Site(site) => self.tell_all_of(site, now),
            }
            self.review_all(now);
        }
        self.touch_peer(id, now);
    }

    /// A site is back: the clients state again who holds them, as it may have restarted.
    fn tell_all_of(&mut self, site: SiteId, now: Timestamp) {
        let sessions: Vec<_> = self.sessions.keys().copied().collect();
        for session in sessions {
            let body = vec![STATE_AGAIN];
            self.tell_client(session, &HolderMessage::FromSite { site, body }, now);
        }
    }

    /// The peer is gone: its keys are erased, sessions look for other shadows.
    pub(super) fn disconnect(&mut self, id: PeerId, now: Timestamp) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(leg) = peer.leg.take() else { return };
        peer.incarnation = Incarnation::default();
        if peer.dial_at != Timestamp::MAX {
            peer.dial_at = now;
        }
        for index in leg.indices() {
            self.channels.remove(&index);
        }
        self.emit(NodeEvent::PeerSilent(id));
        if matches!(id, PeerId::Node(_)) {
            self.review_all(now);
        }
    }

    /// Reads what a peer said in its control stream.
    pub(super) fn read_peer(&mut self, id: PeerId, now: Timestamp) {
        while let Some(bytes) = self
            .peers
            .get_mut(&id)
            .and_then(|peer| peer.leg.as_mut()?.poll_message())
        {
            match id {
                PeerId::Node(node) => {
                    let message = message::decode::<NodeMessage>(&bytes);
                    if let Some(message) = self.station.out.count(message) {
                        self.handle_node_message(node, message, now);
                    }
                }
                PeerId::Site(site) => {
                    let message = message::decode::<FromSite>(&bytes);
                    if let Some(message) = self.station.out.count(message) {
                        self.handle_site_message(site, message, now);
                    }
                }
            }
        }
    }

    fn handle_site_message(
        &mut self,
        site: vpnmesh_core::SiteId,
        message: FromSite,
        now: Timestamp,
    ) {
        match message {
            FromSite::Report { membership } => {
                let id = PeerId::Site(site);
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.told.note(membership);
                }
                self.send_membership(id, now);
            }
            FromSite::ToClient { client, body } => {
                if let Some(session) = self.by_client.get(&client).copied() {
                    self.tell_client(session, &HolderMessage::FromSite { site, body }, now);
                }
            }
            FromSite::ClientLeft {
                client,
                number,
                down_final,
            } => {
                self.handle_site_left(site, client, number, down_final, now);
            }
        }
    }

    pub(super) fn tell_node_peer(&mut self, id: PeerId, message: &NodeMessage, now: Timestamp) {
        self.tell_peer(id, &message::encode(message), now);
    }

    pub(super) fn tell_site_peer(&mut self, id: PeerId, message: &ToSite, now: Timestamp) {
        self.tell_peer(id, &message::encode(message), now);
    }

    fn tell_peer(&mut self, id: PeerId, bytes: &[u8], now: Timestamp) {
        if let Some(leg) = self.peers.get_mut(&id).and_then(|peer| peer.leg.as_mut()) {
            let result = leg.send_message(bytes);
            self.station.out.count(result);
            self.touch_peer(id, now);
        }
    }

    pub(super) fn tell_client(
        &mut self,
        session: vpnmesh_core::SessionId,
        message: &HolderMessage,
        now: Timestamp,
    ) {
        if let Some(held) = self.sessions.get_mut(&session) {
            let result = held.leg.send_message(&message::encode(message));
            self.station.out.count(result);
            self.touch_session(session, now);
        }
    }
}

/// After a handshake without an answer.
const REDIAL: Duration = Duration::from_millis(700);
const RETRY: Duration = Duration::from_millis(250);
/// Fresh keys for a link: as WireGuard.
const REFRESH: Duration = Duration::from_secs(120);
/// The responder's old keys stay until the initiator has surely seen the new ones.
const LINK_GRACE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::super::rig::{self, node, record};

    #[test]
    fn whose_key_is_replaced_loses_its_sessions() {
        let mut node = node();
        let (held, given) = (record(11, 3, 1, &[1, 2]), record(12, 3, 1, &[2, 1]));
        node.take(&held);
        node.be_given(2, &given);
        let kept = record(13, 3, 1, &[1, 2]);
        node.take(&kept);
        let mut next = rig::membership(2);
        next.clients[0].key = rig::identity(91).public();
        next.clients[1].key = rig::identity(92).public();
        node.handle_membership(&rig::sign(&next), rig::START);
        let sessions: Vec<_> = node.sessions.keys().copied().collect();
        assert_eq!(sessions, [kept.session]);
        assert_eq!((node.branches.len(), node.channels.len()), (0, 1));
    }
}
