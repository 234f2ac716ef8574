//! Activations: a client makes this node a holder of its session (design rule S2).

use std::net::SocketAddr;
use std::time::Duration;

use vpnmesh_core::{NodeId, SessionId, Timestamp};

use super::branches::BranchKey;
use super::held::Role;
use super::{NodeEvent, NodeMachine, Owner, PeerId, Taken, base_of};
use crate::DropReason;
use crate::channel::{Channel, ChannelId, End};
use crate::client::ActivateBody;
use crate::frame::Frame;
use crate::handshake::Incarnation;
use crate::kdf::{self, label};
use crate::leg::Leg;
use crate::message::{self, MOVE_SLOTS, NodeMessage};
use crate::record::MAX_HOLDERS;
use crate::schedule::{self, MoveContext, TookProof};
use crate::suite::Cipher;
use crate::wire::{ACTIVATE_HEAD, ActivateHead, HEADER, Header};

/// The newest activation that opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opened {
    /// Of all its bytes.
    digest: [u8; 32],
    answered_at: Timestamp,
}

impl NodeMachine {
    /// An activation arrived: its keys follow from our branch, so opening it proves the client.
    pub(super) fn handle_activation(
        &mut self,
        header: &Header,
        from: SocketAddr,
        datagram: &mut [u8],
        now: Timestamp,
    ) -> Result<(), DropReason> {
        let head = ActivateHead::decode(&datagram[HEADER..])?;
        let key = self
            .branches
            .at_base(base_of(header.index))
            .ok_or(DropReason::UnknownIndex)?;
        let (session, generation) = (key.session, key.generation);
        if head.generation != generation || head.number % MOVE_SLOTS != header.index % MOVE_SLOTS {
            return Err(DropReason::Malformed);
        }
        let digest = kdf::digest(label::ACTIVATION, &[&*datagram]);
        if let Some(held) = self.sessions.get_mut(&session) {
            if held
                .activation
                .is_some_and(|opened| opened.digest == digest)
            {
                self.answer_again(session, now);
                return Err(DropReason::Duplicate);
            }
            if head.number <= held.record.number {
                return Err(DropReason::Fenced);
            }
        }
        let branch = self.branches.get(&key).ok_or(DropReason::UnknownIndex)?;
        if head.number <= branch.record.number {
            return Err(DropReason::Fenced);
        }
        let of_move = MoveContext {
            session,
            generation,
            branch: branch.number,
            number: head.number,
            nonce: head.nonce,
            holder: self.station.config.incarnation,
        };
        let identity = &self.station.config.identity;
        let shared = match branch.shared.get() {
            Some(shared) => shared,
            None => {
                let shared = identity.agree(&branch.record.client_key);
                let shared = shared.ok_or(DropReason::WeakKey)?;
                branch.shared.get_or_init(|| shared)
            }
        };
        let bound = schedule::bound_branch(&branch.secret, shared);
        let keys = schedule::move_keys(&bound, &of_move);
        let cipher = Cipher::from_code(branch.record.cipher).ok_or(DropReason::Stale)?;
        let id = ChannelId {
            session,
            generation,
            number: head.number,
            branch: branch.number,
        };
        let suite = self.station.config.suite;
        let mut channel = Channel::new(
            &suite,
            cipher,
            End::Holder,
            id,
            &keys,
            (header.index, 0),
            now,
        );
        let text = channel.open(header, HEADER + ACTIVATE_HEAD, datagram)?;
        let body: ActivateBody = message::decode(text)?;
        if body.client_incarnation != branch.record.client_incarnation {
            return Err(DropReason::Fenced);
        }
        channel.remote_index = body.client_index;
        self.install(&key, channel, &body, from, now);
        if let Some(held) = self.sessions.get_mut(&session) {
            let answered_at = now;
            held.activation = Some(Opened {
                digest,
                answered_at,
            });
        }
        Ok(())
    }

    /// The very bytes of the newest activation came again: the client repeats them while our answer
    /// is lost. So may whoever recorded them, hence one answer for all that come at once.
    fn answer_again(&mut self, session: SessionId, now: Timestamp) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        if let Some(opened) = &mut held.activation
            && now.since(opened.answered_at) >= ANSWER_GAP
        {
            opened.answered_at = now;
            held.leg.send_frame(Frame::Activated);
            self.touch_session(session, now);
        }
    }

    fn install(
        &mut self,
        key: &BranchKey,
        channel: Channel,
        body: &ActivateBody,
        from: SocketAddr,
        now: Timestamp,
    ) {
        let (id, index, session) = (channel.id, channel.local_index, key.session);
        // The branch outlives the session: the same activation must never open again.
        self.branches.change(key, |branch| {
            branch.record.number = branch.record.number.max(id.number);
        });
        let how = if body.planned {
            Taken::Planned
        } else {
            Taken::Crash
        };
        let continues = body.continues && self.sessions.contains_key(&session);
        if continues {
            self.continue_leg(session, channel, body.planned, now);
        } else if let Some(branch) = self.branches.get(key) {
            let mut record = branch.record.clone();
            record.number = id.number;
            record.note_address(from);
            record.version = record.version.wrapping_add(1);
            let (secret, client) = (branch.secret.duplicate(), record.client);
            let shadows: Vec<_> = record
                .holders
                .iter()
                .copied()
                .filter(|node| *node != self.me)
                .collect();
            let leg = Leg::new(from, channel, self.timers.client, now);
            let role = if body.planned {
                Role::Taking
            } else {
                Role::Primary
            };
            self.hold(record, leg, secret, role, index, now);
            if let Some(held) = self.sessions.get_mut(&session) {
                held.giver = key.giver;
                held.shadows = shadows;
                held.rostered = true;
                if !body.planned {
                    held.fresh_until = now + super::shadows::AFTER_CRASH;
                }
            }
            self.emit(NodeEvent::SessionTaken {
                session,
                client,
                how,
            });
        }
        self.channels.insert(index, Owner::Session(session));
        self.relay_receipts(session, body, now);
        if let Some(held) = self.sessions.get_mut(&session) {
            held.leg.send_frame(Frame::Activated);
        }
        if how == Taken::Crash {
            self.become_primary(session, body.proofs.clone(), now);
        }
        self.touch_session(session, now);
    }

    /// New keys for a leg that goes on: the start of a generation, or a move that turned back.
    fn continue_leg(
        &mut self,
        session: SessionId,
        channel: Channel,
        planned: bool,
        now: Timestamp,
    ) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        let id = channel.id;
        let retire_at = now + held.leg.grace();
        held.record.number = id.number;
        let gone = held.leg.add_channel(channel, retire_at);
        held.leg.note_heard(now);
        held.last_heard = now;
        held.bump();
        for index in gone {
            self.channels.remove(&index);
        }
        self.dirty.insert(session);
        if id.generation
            > self
                .sessions
                .get(&session)
                .map_or(0, |held| held.record.generation)
        {
            self.start_generation(session, id.generation, now);
        } else if let Some(held) = self.sessions.get_mut(&session) {
            // The client took its traffic back: we are what we were before.
            held.role = if planned { Role::Taking } else { Role::Primary };
            held.shift = None;
            held.last_down = None;
        }
    }

    /// Receipts go to the sites before any packet that follows.
    fn relay_receipts(&mut self, session: SessionId, body: &ActivateBody, now: Timestamp) {
        for (site, receipt) in &body.receipts {
            self.relay_up(session, *site, receipt.clone(), now);
        }
    }

    /// The planned move to us is over: the session is ours.
    pub(super) fn handle_settled(
        &mut self,
        session: SessionId,
        number: u32,
        proofs: Vec<(NodeId, TookProof)>,
        now: Timestamp,
    ) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        if held.record.number != number {
            return self.station.out.drop_because(DropReason::Stale);
        }
        held.role = Role::Primary;
        held.shift = None;
        held.review_at = now;
        self.become_primary(session, proofs, now);
        self.review_shadows(session, now);
        self.shift_if_wanted(session, now);
    }

    /// The client made us the primary: we speak for the session now, and the holders before us hear
    /// of it, with the client's proof.
    fn become_primary(
        &mut self,
        session: SessionId,
        mut proofs: Vec<(NodeId, TookProof)>,
        now: Timestamp,
    ) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        proofs.truncate(MAX_HOLDERS);
        held.proofs = proofs;
        held.record.holders.retain(|node| *node != self.me);
        let others = held.record.holders.clone();
        held.record.holders.insert(0, self.me);
        held.bump();
        let (key, me) = (held.key(), self.me);
        self.branches.change(&key, |branch| {
            branch.set_speaker(me, Incarnation::default());
        });
        self.dirty.insert(session);
        for node in others {
            self.tell_took(session, node, now);
        }
    }

    /// A holder before us hears that the session is ours, if the client gave us a proof for it.
    pub(super) fn tell_took(&mut self, session: SessionId, node: NodeId, now: Timestamp) {
        let Some(held) = self.sessions.get(&session) else {
            return;
        };
        let proof = held.proofs.iter().find(|(holder, _)| *holder == node);
        let Some((_, proof)) = proof else { return };
        let message = NodeMessage::Took {
            session,
            generation: held.record.generation,
            number: held.record.number,
            proof: *proof,
        };
        self.tell_node_peer(PeerId::Node(node), &message, now);
    }

    /// A packet under new keys: a handshake's keys are proven, the client lives.
    pub(super) fn handle_confirmed(&mut self, session: SessionId, now: Timestamp) {
        self.review_soon(session, now);
    }
}

/// A client repeats an activation after 10 ms at the earliest.
const ANSWER_GAP: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::super::rig::{self, ME, identity, node, record, secret};
    use super::*;
    use crate::CryptoSuite;
    use vpnmesh_core::Secret;

    /// The activation of the branch that node 2 gave us, as its client makes it.
    fn activation(node: &NodeMachine, number: u32) -> Vec<u8> {
        let record = record(11, 3, 1, &[2, 1]);
        let base = node.branches.get(&rig::key(&record)).unwrap().base;
        let nonce = [4; 16];
        let of_move = MoveContext {
            session: record.session,
            generation: 3,
            branch: 1,
            number,
            nonce,
            holder: Incarnation::default(),
        };
        let shared = identity(11).agree(&identity(ME.0).public()).unwrap();
        let bound = schedule::bound_branch(&Secret::take(&mut secret(3, 2)), &shared);
        let keys = schedule::move_keys(&bound, &of_move);
        let id = ChannelId {
            session: record.session,
            generation: 3,
            number,
            branch: 1,
        };
        let indices = (77, base + number % MOVE_SLOTS);
        let (suite, cipher) = (CryptoSuite::reproducible(), Cipher::ChaCha20Poly1305);
        let mut channel = Channel::new(&suite, cipher, End::Client, id, &keys, indices, rig::START);
        let body = ActivateBody {
            client_index: 77,
            client_incarnation: 1,
            planned: false,
            continues: false,
            receipts: Vec::new(),
            proofs: Vec::new(),
        };
        let head = ActivateHead {
            generation: 3,
            number,
            nonce,
        };
        let mut datagram = vec![0; HEADER];
        datagram.extend_from_slice(&head.encode());
        datagram.extend_from_slice(&message::encode(&body));
        let clear = HEADER + ACTIVATE_HEAD;
        channel.seal_activation(clear, &mut datagram).unwrap();
        datagram
    }

    fn arrive(node: &mut NodeMachine, datagram: &[u8], now: Timestamp) -> usize {
        use crate::Machine as _;
        let ecn = crate::Ecn::NotEct;
        node.handle_datagram(rig::address(11), ecn, &mut datagram.to_vec(), now);
        let sent = std::iter::from_fn(|| node.poll_transmit());
        sent.filter(|transmit| transmit.to == rig::address(11))
            .count()
    }

    #[test]
    fn only_the_whole_activation_is_answered_again() {
        let mut node = node();
        node.be_given(2, &record(11, 3, 1, &[2, 1]));
        let activation = activation(&node, 2);
        let mut forged = activation.clone();
        *forged.last_mut().unwrap() ^= 1;
        let head = activation[..HEADER + ACTIVATE_HEAD + 16].to_vec();
        assert_eq!(arrive(&mut node, &forged, rig::START), 0);
        assert_eq!(arrive(&mut node, &activation, rig::START), 1);
        let later = rig::START + ANSWER_GAP;
        assert_eq!(arrive(&mut node, &forged, later), 0);
        assert_eq!(arrive(&mut node, &head, later), 0);
        assert_eq!(
            arrive(&mut node, &activation, later),
            1,
            "the answer may be lost"
        );
        assert_eq!(
            arrive(&mut node, &activation, later),
            0,
            "one answer is enough"
        );
    }
}
