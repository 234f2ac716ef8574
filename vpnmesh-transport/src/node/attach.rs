//! Sessions that come by a handshake.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use vpnmesh_core::{Membership, NodeId, NodeState, PublicKey, SessionId, SiteId, Timestamp};

use super::covers::Counted;
use super::held::{Held, Role};
use super::relay::RelayBudget;
use super::shadows::Root;
use super::told::Told;
use super::{NodeMachine, Owner, PeerId};
use crate::DropReason;
use crate::handshake::{Authority, Decision, Established, Load, Refusal, Request};
use crate::leg::Leg;
use crate::message::{self, ClientMessage, ToSite};
use crate::record::SessionRecord;
use crate::station::{ClientIndex, Hello};

/// Says who may shake hands with this node.
struct Gate<'a> {
    membership: &'a Membership,
    clients: &'a ClientIndex,
    me: NodeId,
    local_index: u32,
}

impl Authority for Gate<'_> {
    fn knows(&mut self, peer: &PublicKey) -> bool {
        let node = self.membership.node_by_key(peer);
        node.is_some_and(|node| node.state != NodeState::Removed)
            || self.membership.site_by_key(peer).is_some()
            || self.clients.find(self.membership, peer).is_some()
    }

    fn decide(&mut self, request: &Request<'_>) -> Decision {
        let accept = Decision::Accept {
            local_index: self.local_index,
            payload: Vec::new(),
        };
        let own = self.membership.node(self.me).map(|node| node.state);
        let client = self.clients.find(self.membership, &request.peer);
        let owns = |session: SessionId| client.is_some_and(|client| session.belongs_to(client.id));
        match message::decode(request.payload) {
            Ok(Hello::Link { .. }) if client.is_none() => accept,
            Ok(Hello::Session {
                session, refresh, ..
            }) if owns(session) => match own {
                Some(NodeState::Active | NodeState::Standby) => accept,
                Some(NodeState::Draining) if refresh => accept,
                Some(NodeState::Draining | NodeState::Removed) | None => {
                    Decision::Refuse(Refusal::Busy)
                }
            },
            _ => Decision::Refuse(Refusal::NotAllowed),
        }
    }
}

impl NodeMachine {
    /// A handshake datagram of an initiator arrived.
    pub(super) fn handle_handshake(&mut self, from: SocketAddr, datagram: &[u8], now: Timestamp) {
        let local_index = self.fresh_index();
        let mut gate = Gate {
            membership: &self.station.membership,
            clients: &self.station.clients,
            me: self.me,
            local_index,
        };
        let entropy = &mut *self.station.config.entropy;
        let outcome =
            self.responder
                .handle_datagram(from, datagram, Load::Normal, &mut gate, entropy, now);
        for reply in outcome.replies {
            self.station.out.send(from, reply);
        }
        if let Some(reason) = outcome.dropped {
            self.station.out.drop_because(reason);
        }
        if let Some(established) = outcome.established {
            self.handle_established(*established, from, now);
        }
    }

    fn handle_established(&mut self, established: Established, from: SocketAddr, now: Timestamp) {
        let hello = message::decode(&established.payload);
        let Some(hello) = self.station.out.count(hello) else {
            return;
        };
        let membership = &self.station.membership;
        match hello {
            Hello::Link { continues } => {
                let node = membership
                    .node_by_key(&established.peer)
                    .map(|node| PeerId::Node(node.id));
                let site = membership
                    .site_by_key(&established.peer)
                    .map(|site| PeerId::Site(site.id));
                if let Some(id) = node.or(site) {
                    self.connect(id, established, from, continues, now);
                }
            }
            Hello::Session {
                session,
                generation,
                number,
                refresh,
            } => {
                if refresh {
                    self.take_root(session, generation, established, now);
                } else {
                    self.await_session(session, (generation, number), established, from, now);
                }
            }
            Hello::Receipts => self.station.out.drop_because(DropReason::Refused),
        }
    }

    /// Puts a session into the tables; the one that was there ends.
    pub(super) fn hold(
        &mut self,
        record: SessionRecord,
        leg: Leg,
        branch: vpnmesh_core::Secret<32>,
        role: Role,
        index: u32,
        now: Timestamp,
    ) {
        let (session, client, greatest) = (record.session, record.client, record.generation);
        let stale = self
            .by_client
            .get(&client)
            .copied()
            .filter(|other| *other != session);
        if self.sessions.contains_key(&session) {
            self.end_session(session);
        }
        if let Some(stale) = stale {
            self.finish_session(stale);
        }
        self.by_client.insert(client, session);
        self.channels.insert(index, Owner::Session(session));
        let held = Held {
            record,
            leg,
            branch,
            giver: self.me,
            proofs: Vec::new(),
            activation: None,
            role,
            root: None,
            making: None,
            shadows: Vec::new(),
            counted: Counted::default(),
            lives: BTreeMap::new(),
            rostered: false,
            paths: BTreeMap::new(),
            told: Told::default(),
            tier_asked: None,
            greatest,
            shift: None,
            orders: 0,
            failed: BTreeSet::new(),
            relay: RelayBudget::default(),
            last_up: BTreeMap::new(),
            last_down: None,
            review_at: now,
            fresh_until: Timestamp::ZERO,
            last_heard: now,
        };
        self.sessions.insert(session, held);
    }

    /// Fresh secrets for a session that we hold: they become its next generation.
    fn take_root(
        &mut self,
        session: SessionId,
        generation: u32,
        established: Established,
        now: Timestamp,
    ) {
        let held = self.sessions.get_mut(&session).filter(|held| {
            held.record.client_key == established.peer
                && held.record.generation < generation
                && held.is_primary()
        });
        let Some(held) = held else {
            return self.station.out.drop_because(DropReason::Stale);
        };
        held.greatest = held.greatest.max(generation);
        held.root = Some(Root::new(generation, established));
        held.making = None;
        held.review_at = now;
        self.review_shadows(session, now);
    }

    /// Reads what a client said in its control stream.
    pub(super) fn read_client(&mut self, session: SessionId, now: Timestamp) {
        while let Some(bytes) = self
            .sessions
            .get_mut(&session)
            .and_then(|held| held.leg.poll_message())
        {
            let message = message::decode::<ClientMessage>(&bytes);
            if let Some(message) = self.station.out.count(message) {
                self.handle_client_message(session, message, now);
            }
        }
    }

    fn handle_client_message(
        &mut self,
        session: SessionId,
        message: ClientMessage,
        now: Timestamp,
    ) {
        match message {
            ClientMessage::Report {
                tier,
                membership,
                generation,
                paths,
            } => {
                let Some(held) = self.sessions.get_mut(&session) else {
                    return;
                };
                held.told.note(membership);
                held.greatest = held.greatest.max(generation);
                held.tier_asked = tier;
                let known = paths.into_iter().take(MAX_PATHS);
                held.paths = known
                    .map(|(node, micros)| (node, Duration::from_micros(micros.into())))
                    .collect();
                self.send_membership_to_client(session, now);
                self.review_soon(session, now);
            }
            ClientMessage::RootReply {
                generation,
                client_random,
            } => {
                self.handle_root_reply(session, generation, &client_random, now);
            }
            ClientMessage::RosterAck { generation } => {
                self.handle_roster_ack(session, generation, now)
            }
            ClientMessage::ShiftAck { .. } => {}
            ClientMessage::ToSite { site, body } => self.relay_up(session, site, body, now),
            ClientMessage::Leave {
                number,
                up_final,
                sites,
            } => {
                self.handle_leave(session, number, up_final, sites, now);
            }
            ClientMessage::Settled { number, proofs } => {
                self.handle_settled(session, number, proofs, now);
            }
            ClientMessage::ShiftFailed { order } => self.handle_shift_failed(session, order, now),
        }
    }

    /// Bytes of a client for a site, as far as its budget reaches.
    pub(super) fn relay_up(
        &mut self,
        session: SessionId,
        site: SiteId,
        body: Vec<u8>,
        now: Timestamp,
    ) {
        let known = self.station.membership.site(site).is_some();
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        if !known {
            return self.station.out.drop_because(DropReason::NoRoute);
        }
        let (client, taken) = (held.record.client, held.relay.take(site, &body, now));
        if self.station.out.count(taken).is_some() {
            let message = ToSite::FromClient { client, body };
            self.tell_site_peer(PeerId::Site(site), &message, now);
        }
    }

    /// The client was heard from another address.
    pub(super) fn note_address(&mut self, session: SessionId) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        let address = held.leg.remote();
        if held.record.note_address(address) {
            held.bump();
            self.dirty.insert(session);
        }
    }
}

const MAX_PATHS: usize = 256;
