//! The legs of a site to all nodes.

use std::time::Duration;

use vpnmesh_core::{NodeId, NodeState, PublicKey, Timestamp};

use super::{SiteEvent, SiteMachine};
use crate::DropReason;
use crate::handshake::{Established, Incarnation};
use crate::leg::Leg;
use crate::message::{self, FromSite, ToSite};
use crate::station::{Ended, Hello, Route, link_channel};

/// A node as a site sees it.
#[derive(Debug)]
pub(super) struct Link {
    key: PublicKey,
    pub(super) leg: Option<Leg>,
    incarnation: Incarnation,
    /// The next handshake: the first one, or for fresh keys.
    dial_at: Timestamp,
}

impl Link {
    /// When the link needs something.
    pub(super) fn next_duty(&self, patience: Duration) -> Timestamp {
        let leg = self.leg.as_ref();
        let down_at = leg
            .and_then(Leg::silent_at)
            .map_or(Timestamp::MAX, |at| at + patience);
        let leg_at = leg.map_or(Timestamp::MAX, Leg::poll_timeout);
        self.dial_at.min(leg_at).min(down_at)
    }
}

impl SiteMachine {
    pub(super) fn follow_membership(&mut self, now: Timestamp) {
        let membership = &self.station.membership;
        let nodes = membership
            .nodes
            .iter()
            .filter(|node| node.state != NodeState::Removed);
        let wanted: Vec<(NodeId, PublicKey)> = nodes.map(|node| (node.id, node.key)).collect();
        let gone: Vec<NodeId> = self
            .links
            .keys()
            .filter(|id| !wanted.iter().any(|(node, _)| node == *id))
            .copied()
            .collect();
        for node in gone {
            self.disconnect(node, now);
            self.links.remove(&node);
        }
        for (node, key) in wanted {
            if self.links.get(&node).is_none_or(|link| link.key != key) {
                self.disconnect(node, now);
                let link = Link {
                    key,
                    leg: None,
                    incarnation: Incarnation::default(),
                    dial_at: now,
                };
                self.links.insert(node, link);
            }
        }
        let membership = &self.station.membership;
        self.clients.retain(|id, known| {
            membership
                .client(*id)
                .is_some_and(|entry| known.is_of(entry))
        });
    }

    pub(super) fn handle_membership(&mut self, signed: &[u8], now: Timestamp) {
        if self.station.adopt(signed) {
            self.follow_membership(now);
            self.emit(SiteEvent::Membership(signed.to_vec()));
        }
    }

    /// Dials and notices silence.
    pub(super) fn tend_link(&mut self, node: NodeId, now: Timestamp) {
        let Some(link) = self.links.get_mut(&node) else {
            return;
        };
        if let Some(leg) = link.leg.as_mut() {
            match leg.silent_at() {
                Some(at) if at + self.patience <= now => self.disconnect(node, now),
                Some(at) if at <= now => leg.note_judged(),
                Some(_) | None => {}
            }
        }
        let Some(link) = self.links.get_mut(&node) else {
            return;
        };
        if link.dial_at > now {
            return;
        }
        link.dial_at = now + REDIAL;
        let key = link.key;
        let hello = Hello::Link {
            continues: link.leg.is_some(),
        };
        let address = self
            .station
            .membership
            .node(node)
            .and_then(|node| node.addresses.first().copied());
        let Some(address) = address else { return };
        if self
            .station
            .is_dialing(&key, |hello| matches!(hello, Hello::Link { .. }))
        {
            return;
        }
        let channels = &self.channels;
        let taken = |index: u32| channels.contains_key(&index);
        let dialed = self
            .station
            .dial(key, Route::Direct(address), hello, taken, RETRY, now);
        self.station.out.count(dialed);
    }

    pub(super) fn handle_ended(&mut self, ended: Ended, now: Timestamp) {
        let node = self
            .station
            .membership
            .node_by_key(&ended.peer)
            .map(|node| node.id);
        let Hello::Link { continues } = ended.hello else {
            return;
        };
        if let (Some(established), Route::Direct(address), Some(node)) =
            (ended.established, ended.route, node)
        {
            self.connect(node, *established, address, continues, now);
        }
    }

    fn connect(
        &mut self,
        node: NodeId,
        established: Established,
        address: std::net::SocketAddr,
        continues: bool,
        now: Timestamp,
    ) {
        let suite = self.station.config.suite;
        let channel = link_channel(&suite, &established, &self.station, now);
        let Some(link) = self.links.get_mut(&node) else {
            return self.station.out.drop_because(DropReason::UnknownPeer);
        };
        let index = channel.local_index;
        let same_life = continues && link.incarnation == established.peer_incarnation;
        if continues && !(same_life && link.leg.is_some()) {
            link.dial_at = now; // the leg was given up meanwhile: a new one
            return self.station.out.drop_because(DropReason::Stale);
        }
        let mut gone = Vec::new();
        match link.leg.as_mut().filter(|_| same_life) {
            Some(leg) => gone = leg.add_channel(channel, now + leg.grace()),
            None => {
                if let Some(old) = link.leg.take() {
                    gone.extend(old.indices());
                }
                link.leg = Some(Leg::new(address, channel, self.cadence, now));
                link.incarnation = established.peer_incarnation;
            }
        }
        link.dial_at = now + REFRESH;
        for index in gone {
            self.channels.remove(&index);
        }
        self.channels.insert(index, node);
        if !same_life {
            self.emit(SiteEvent::Connected(node));
        }
        let membership = self.station.version();
        self.tell(node, &FromSite::Report { membership }, now);
        self.flush_link(node, now);
    }

    pub(super) fn disconnect(&mut self, node: NodeId, now: Timestamp) {
        let Some(link) = self.links.get_mut(&node) else {
            return;
        };
        let Some(leg) = link.leg.take() else { return };
        link.incarnation = Incarnation::default();
        link.dial_at = now;
        for index in leg.indices() {
            self.channels.remove(&index);
        }
        self.emit(SiteEvent::Silent(node));
    }

    /// Reads what a node said in its control stream.
    pub(super) fn read_node(&mut self, node: NodeId, now: Timestamp) {
        while let Some(bytes) = self
            .links
            .get_mut(&node)
            .and_then(|link| link.leg.as_mut()?.poll_message())
        {
            let message = message::decode::<ToSite>(&bytes);
            match self.station.out.count(message) {
                Some(ToSite::FromClient { client, body }) => {
                    self.handle_from_client(node, client, &body, now)
                }
                Some(ToSite::FinalUp {
                    client,
                    number,
                    counter,
                }) => self.handle_final_up(node, client, number, counter),
                Some(ToSite::Membership(signed)) => self.handle_membership(&signed, now),
                None => {}
            }
        }
    }

    pub(super) fn tell(&mut self, node: NodeId, message: &FromSite, now: Timestamp) {
        if let Some(leg) = self.links.get_mut(&node).and_then(|link| link.leg.as_mut()) {
            let result = leg.send_message(&message::encode(message));
            self.station.out.count(result);
            self.flush_link(node, now);
        }
    }

    /// Sends what a leg owes.
    pub(super) fn flush_link(&mut self, node: NodeId, now: Timestamp) {
        let Some(link) = self.links.get_mut(&node) else {
            return;
        };
        let Some(leg) = link.leg.as_mut() else { return };
        let flushed = leg.flush(&mut self.station.out, now);
        if self.station.out.count(flushed).is_none() {
            return self.disconnect(node, now); // the keys are spent: both ends start anew
        }
        if leg.is_worn() {
            link.dial_at = link.dial_at.min(now + REDIAL);
        }
        for index in leg.expire(now) {
            self.channels.remove(&index);
        }
    }
}

/// After a handshake without an answer.
const REDIAL: Duration = Duration::from_millis(700);
const RETRY: Duration = Duration::from_millis(250);
const REFRESH: Duration = Duration::from_secs(120);
