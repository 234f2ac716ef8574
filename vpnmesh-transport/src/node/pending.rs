//! Sessions whose client has not shown yet that it lives now.
//!
//! A handshake alone may be a recorded one, or one that the client gave up for another member. What
//! is held already stays untouched until a packet under the new keys opens.

use std::net::SocketAddr;
use std::time::Duration;

use vpnmesh_core::{Secret, SessionId, Timestamp};

use super::held::Role;
use super::shadows::Root;
use super::{NodeEvent, NodeMachine, Owner, Taken};
use crate::handshake::Established;
use crate::leg::Leg;
use crate::record::SessionRecord;
use crate::station::FirstBranch;
use crate::wire::Header;
use crate::{DropReason, Ecn};

/// A session after its handshake, before its first packet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) record: SessionRecord,
    leg: Leg,
    branch: Secret<32>,
    root: Root,
    until: Timestamp,
}

impl NodeMachine {
    /// A client starts, or comes after all its holders were gone.
    pub(super) fn await_session(
        &mut self,
        session: SessionId,
        (generation, number): (u32, u32),
        established: Established,
        from: SocketAddr,
        now: Timestamp,
    ) {
        let membership = &self.station.membership;
        let Some(client) = self.station.clients.find(membership, &established.peer) else {
            return;
        };
        let (client, tier) = (client.id, client.tier);
        let suite = self.station.config.suite;
        let me = (self.me, self.responder.public(), self.incarnation());
        let first =
            FirstBranch::derive(&suite, &established, (session, generation, number), me, now);
        let record = SessionRecord {
            session,
            version: 1,
            client,
            client_key: established.peer,
            client_incarnation: established.peer_incarnation.counter,
            client_address: from,
            source_ips: Vec::new(),
            generation,
            number,
            holders: vec![self.me],
            tier,
            profile: established.profile.code(),
            cipher: established.cipher.code(),
            handshake_hash: established.handshake_hash,
        };
        if !self.may_take(&record) {
            return self.station.out.drop_because(DropReason::Fenced);
        }
        let same =
            |(index, other): (&u32, &Pending)| (other.record.client == client).then_some(*index);
        let before = self.pending.iter().find_map(same);
        if let Some(before) = before {
            self.pending.remove(&before); // one for each client, so that none can fill the table
            self.channels.remove(&before);
        }
        if self.pending.len() >= MAX_PENDING {
            return self.station.out.drop_because(DropReason::QueueFull);
        }
        let index = first.channel.local_index;
        self.channels.insert(index, Owner::Pending);
        let pending = Pending {
            record,
            leg: Leg::new(from, first.channel, self.timers.client, now),
            branch: first.secret,
            root: Root::new(generation, established),
            until: now + PENDING_FOR,
        };
        self.pending.insert(index, pending);
    }

    /// The client's first packet: the session is ours now.
    pub(super) fn handle_first_packet(
        &mut self,
        header: &Header,
        (from, ecn): (SocketAddr, Ecn),
        datagram: &mut [u8],
        now: Timestamp,
    ) -> Result<(), DropReason> {
        let pending = self.pending.get_mut(&header.index);
        let pending = pending.ok_or(DropReason::UnknownIndex)?;
        let opened = pending.leg.open(header, from, ecn, datagram, now)?;
        let Some(pending) = self.pending.remove(&header.index) else {
            return Err(DropReason::UnknownIndex);
        };
        let (session, client) = (pending.record.session, pending.record.client);
        if !self.may_take(&pending.record) {
            self.channels.remove(&header.index);
            return Err(DropReason::Fenced);
        }
        let generation = pending.record.generation;
        self.branches
            .forget(session, |key, _| key.generation < generation);
        let role = Role::Primary;
        self.hold(
            pending.record,
            pending.leg,
            pending.branch,
            role,
            header.index,
            now,
        );
        if let Some(held) = self.sessions.get_mut(&session) {
            held.root = Some(pending.root);
            held.review_at = now + FIRST_REVIEW;
        }
        self.emit(NodeEvent::SessionTaken {
            session,
            client,
            how: Taken::Handshake,
        });
        self.handle_opened(session, opened, now)
    }

    /// Whether no later move of the session is known.
    fn may_take(&self, record: &SessionRecord) -> bool {
        let held = self.sessions.get(&record.session);
        held.is_none_or(|held| held.record.number < record.number)
    }

    /// Clients that never came.
    pub(super) fn expire_pending(&mut self, now: Timestamp) {
        let late = |pending: &Pending| pending.until <= now;
        let gone = self.pending.iter().filter(|(_, pending)| late(pending));
        let gone: Vec<u32> = gone.map(|(index, _)| *index).collect();
        for index in gone {
            self.pending.remove(&index);
            self.channels.remove(&index);
        }
    }
}

/// The client's first report with its round-trip times comes before the shadows are chosen.
const FIRST_REVIEW: Duration = Duration::from_millis(100);
/// As long as a handshake attempt lives.
const PENDING_FOR: Duration = Duration::from_secs(5);
const MAX_PENDING: usize = 4096;
