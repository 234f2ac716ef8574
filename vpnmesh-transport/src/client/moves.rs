//! Moves: how a client changes holders, planned or after a crash.
//!
//! ```text
//! planned:  activating → announcing (sites know both) → flowing → committing → settled
//! crash:    silence → next shadow activated, nothing drains
//! ```
//!
//! Turning back is a planned move in the other direction, with a new number.

use std::time::Duration;

use vpnmesh_core::{NodeId, Secret, Timestamp};

use super::holder::{ActivateBody, Activation, Holder, MAX_RECEIPTS};
use super::{ClientEvent, ClientMachine};
use crate::channel::{Channel, ChannelId, End};
use crate::flow::FlowHash;
use crate::handshake::Incarnation;
use crate::leg::Leg;
use crate::message::{self, ClientMessage, MOVE_SLOTS, RosterEntry};
use crate::receipt::{Phase, Receipt, Way};
use crate::schedule::{self, MoveContext};
use crate::wire::{ACTIVATE_HEAD, ActivateHead, HEADER};

/// A planned move: from the active holder to the other one.
#[derive(Debug)]
pub(super) struct Move {
    pub(super) stage: Stage,
    /// The share of existing flows that may move, 0 to 1.
    pub(super) share: f64,
    /// The order behind it and who gave it.
    pub(super) order: (NodeId, u32),
    /// The stage ends by then.
    pub(super) deadline: Timestamp,
    /// To be turned back as soon as the other holder answers, by this order.
    pub(super) then_back: Option<(NodeId, u32)>,
}

/// How far a planned move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// The other holder was asked and did not answer yet.
    Activating,
    /// The sites are being told that both holders are valid.
    Announcing,
    /// Flows move.
    Flowing,
    /// All flows moved; the old holder finishes.
    Committing,
}

/// An activation, ready to send.
struct Prepared {
    channel: Channel,
    datagram: Vec<u8>,
    number: u32,
}

impl ClientMachine {
    /// Whether a packet of this flow goes to the other holder; remembers it.
    pub(super) fn steer(&mut self, flow: FlowHash, now: Timestamp) -> bool {
        let Some(active) = self.active.as_ref().map(|holder| holder.node) else {
            return false;
        };
        let other = self
            .other
            .as_ref()
            .filter(|holder| holder.leg.sealing().confirmed);
        let (Some(other), Some(planned)) = (other.map(|holder| holder.node), &self.planned) else {
            self.flows.set(flow, active, now);
            return false;
        };
        let known = self
            .flows
            .get(flow, now)
            .filter(|node| *node == active || *node == other);
        let moves = match planned.stage {
            Stage::Activating | Stage::Announcing => false,
            Stage::Flowing => {
                planned.share > 0.0 && (known.is_none() || flow.rank() < planned.share)
            }
            Stage::Committing => true,
        };
        let onto_other = moves || known == Some(other);
        self.flows
            .set(flow, if onto_other { other } else { active }, now);
        onto_other
    }

    /// The holder orders a shift (rule S4b).
    pub(super) fn handle_shift(
        &mut self,
        node: NodeId,
        order: u32,
        to: NodeId,
        share: u16,
        now: Timestamp,
    ) {
        self.tell(node, &ClientMessage::ShiftAck { order });
        let share = f64::from(share) / f64::from(u16::MAX);
        let Some(active) = self.active.as_ref().map(|holder| holder.node) else {
            return;
        };
        let other = self.other.as_ref().map(|holder| holder.node);
        let back = to == active || (Some(to) == other && share == 0.0);
        match &mut self.planned {
            None if to == active || share == 0.0 => {}
            None => self.start_move(node, order, to, share, now),
            Some(planned) if planned.stage == Stage::Committing => {}
            Some(_) if back => self.turn_back((node, order), now),
            Some(planned) if Some(to) == other => {
                planned.share = share;
                planned.order = (node, order);
                planned.then_back = None;
            }
            Some(_) => self.tell(node, &ClientMessage::ShiftFailed { order }),
        }
        self.advance_move(now);
    }

    fn start_move(&mut self, node: NodeId, order: u32, to: NodeId, share: f64, now: Timestamp) {
        let member = self.generations.member(to);
        let member = member.filter(|member| self.is_in_force(to, &member.entry.key));
        let member = member.map(|member| (member.entry.clone(), member.secret.duplicate()));
        let Some((entry, secret)) = member else {
            return self.tell(node, &ClientMessage::ShiftFailed { order });
        };
        self.planned = Some(Move {
            stage: Stage::Activating,
            share,
            order: (node, order),
            deadline: now + STAGE,
            then_back: None,
        });
        self.generations.abandon_next();
        self.other = self.activate(&entry, &secret, self.generations.current(), true, now);
        if let (Some(active), Some(_)) = (&self.active, &self.other) {
            let from = active.node;
            self.emit(ClientEvent::Moving { from, to });
        } else {
            self.planned = None;
        }
    }

    /// The old holder takes its flows back: a planned move in the other direction.
    fn turn_back(&mut self, order: (NodeId, u32), now: Timestamp) {
        let Some(other) = self.other.as_ref() else {
            return;
        };
        if !other.leg.newest().confirmed {
            // Its older keys may still carry packets: it is left only in a move of its own.
            let carries = other.leg.sealing().confirmed;
            return match self.planned.as_mut().filter(|_| carries) {
                Some(planned) => planned.then_back = Some(order),
                None => self.lose_other(now),
            };
        }
        std::mem::swap(&mut self.active, &mut self.other);
        self.planned = Some(Move {
            stage: Stage::Activating,
            share: 1.0,
            order,
            deadline: now + STAGE,
            then_back: None,
        });
        self.reactivate(true, now);
        if let (Some(active), Some(other)) = (&self.active, &self.other) {
            let (from, to) = (active.node, other.node);
            self.emit(ClientEvent::Moving { from, to });
        }
    }

    /// The other holder of a planned move does not answer: the active one goes on, with new keys
    /// and a fence above the one that the sites may have seen.
    pub(super) fn lose_other(&mut self, now: Timestamp) {
        let Some(other) = self.other.take() else {
            return;
        };
        let to = other.node;
        self.drop_holder(other);
        if let Some(planned) = self.planned.take() {
            let (node, order) = planned.order;
            self.tell(node, &ClientMessage::ShiftFailed { order });
        }
        self.reactivate(false, now);
        self.renew_ties(now);
        self.emit(ClientEvent::MoveAbandoned { to });
    }

    /// New keys for a holder that already has a leg: the other one if `planned`, else the active.
    pub(super) fn reactivate(&mut self, planned: bool, now: Timestamp) {
        let holder = if planned {
            self.other.as_ref()
        } else {
            self.active.as_ref()
        };
        let member = holder.and_then(|holder| self.generations.member(holder.node));
        let Some((entry, secret)) =
            member.map(|member| (member.entry.clone(), member.secret.duplicate()))
        else {
            return self.detach(now); // no branch left of a holder that we use: start afresh
        };
        let generation = self.generations.current();
        let prepared = self.prepare(&entry, &secret, generation, planned, true, planned, now);
        let Some(prepared) = prepared else { return };
        let every = self.activation_gap(entry.node, now);
        let holder = if planned {
            self.other.as_mut()
        } else {
            self.active.as_mut()
        };
        let Some(holder) = holder else { return };
        holder.install(prepared, secret, generation, every, now);
    }

    /// The next generation starts at the present holder.
    pub(super) fn activate_next_generation(&mut self, now: Timestamp) {
        let Some(node) = self.active.as_ref().map(|holder| holder.node) else {
            return;
        };
        let next = self.generations.next_member(node);
        let next = next.map(|(generation, member)| {
            (generation, member.entry.clone(), member.secret.duplicate())
        });
        let Some((generation, entry, secret)) = next else {
            return self.generations.abandon_next();
        };
        // No receipt yet: should the holder die now, the roster of the old generation must still
        // be above every fence that a site has seen.
        let Some(prepared) = self.prepare(&entry, &secret, generation, true, true, false, now)
        else {
            return;
        };
        let every = self.activation_gap(node, now);
        if let Some(active) = &mut self.active {
            active.install(prepared, secret, generation, every, now);
        }
    }

    /// The activation of a holder that has no leg yet.
    fn activate(
        &mut self,
        entry: &RosterEntry,
        secret: &Secret<32>,
        generation: u32,
        planned: bool,
        now: Timestamp,
    ) -> Option<Holder> {
        let mut prepared = self.prepare(entry, secret, generation, planned, false, true, now)?;
        prepared.channel.confirmed = !planned; // after a crash packets follow at once
        let every = self.activation_gap(entry.node, now);
        let mut leg = Leg::new(entry.address, prepared.channel, self.timers.cadence, now);
        if let Some(rtt) = self.prober.rtt(entry.node, now) {
            leg.expect_rtt(rtt);
        }
        Some(Holder {
            node: entry.node,
            key: entry.key,
            leg,
            branch: secret.duplicate(),
            generation,
            number: prepared.number,
            activation: Some(Activation {
                datagram: prepared.datagram,
                due: now,
                every,
            }),
            last_data: None,
        })
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "each one is a word of the activation"
    )]
    fn prepare(
        &mut self,
        entry: &RosterEntry,
        secret: &Secret<32>,
        generation: u32,
        planned: bool,
        continues: bool,
        with_receipts: bool,
        now: Timestamp,
    ) -> Option<Prepared> {
        let context = self.generations.context(generation)?;
        let number = self.next_number();
        let nonce = self.station.random();
        let (counter, random) = entry.incarnation;
        let of_move = MoveContext {
            session: self.session,
            generation,
            branch: entry.branch,
            number,
            nonce,
            holder: Incarnation { counter, random },
        };
        let shared = self.station.config.identity.agree(&entry.key)?;
        let bound = schedule::bound_branch(secret, &shared);
        let keys = schedule::move_keys(&bound, &of_move);
        let taken: Vec<u32> = self.legs().flat_map(Leg::indices).collect();
        let local = self.station.fresh_index(|index| taken.contains(&index));
        let remote = entry.index.wrapping_add(number % MOVE_SLOTS);
        let id = ChannelId {
            session: self.session,
            generation,
            number,
            branch: entry.branch,
        };
        let suite = self.station.config.suite;
        let mut channel = Channel::new(
            &suite,
            context.cipher,
            End::Client,
            id,
            &keys,
            (local, remote),
            now,
        );
        let body = ActivateBody {
            client_index: local,
            client_incarnation: self.station.config.incarnation.counter,
            planned,
            continues,
            receipts: if with_receipts {
                self.receipts_for(entry.node, generation, number, planned)
            } else {
                Vec::new()
            },
            proofs: if planned {
                Vec::new()
            } else {
                self.generations.proofs(generation, number, entry.node)
            },
        };
        let mut datagram = vec![0; HEADER];
        datagram.extend_from_slice(
            &ActivateHead {
                generation,
                number,
                nonce,
            }
            .encode(),
        );
        datagram.extend_from_slice(&message::encode(&body));
        let sealed = channel.seal_activation(HEADER + ACTIVATE_HEAD, &mut datagram);
        self.station.out.count(sealed)?;
        Some(Prepared {
            channel,
            datagram,
            number,
        })
    }

    /// Receipts that travel with an activation, so that sites know before the first packet comes.
    fn receipts_for(
        &self,
        holder: NodeId,
        generation: u32,
        number: u32,
        planned: bool,
    ) -> Vec<(vpnmesh_core::SiteId, Vec<u8>)> {
        let drained = self
            .active
            .as_ref()
            .map(|active| active.node)
            .filter(|node| planned && *node != holder);
        let receipt = Receipt {
            client: self.me,
            fence: self.fence(generation, number),
            phase: if planned { Phase::Shared } else { Phase::Alone },
            holder,
            drained,
        };
        let tied = self
            .ties
            .iter()
            .filter_map(|(site, tie)| Some((*site, tie.key.as_ref()?)));
        tied.take(MAX_RECEIPTS)
            .map(|(site, key)| (site, receipt.seal(Way::Statement, key)))
            .collect()
    }

    fn activation_gap(&self, node: NodeId, now: Timestamp) -> Duration {
        self.prober
            .rtt(node, now)
            .map_or(ACTIVATION_GAP, |rtt| rtt + rtt / 4 + ACTIVATION_SLACK)
    }

    /// A holder answered its activation.
    pub(super) fn handle_activated(&mut self, node: NodeId, now: Timestamp) {
        if self
            .other
            .as_ref()
            .is_some_and(|holder| holder.node == node)
        {
            if let Some(planned) = &mut self.planned
                && planned.stage == Stage::Activating
            {
                planned.stage = Stage::Announcing;
                planned.deadline = now + STAGE;
            }
            self.renew_ties(now);
            self.tend_ties(now);
            return self.advance_move(now);
        }
        self.tried.clear();
        let Some(active) = self.active.as_ref().filter(|holder| holder.node == node) else {
            return;
        };
        let generation = active.generation;
        if generation > self.generations.current() {
            if self.generations.advance(generation) {
                self.note_fresh(now);
                self.emit(ClientEvent::Refreshed { generation });
            }
            self.announce_roster();
        }
        self.renew_ties(now);
    }

    /// Moves a planned move on as far as it can go.
    pub(super) fn advance_move(&mut self, now: Timestamp) {
        let Some(planned) = &self.planned else { return };
        let overdue = now >= planned.deadline;
        if let Some(order) = planned
            .then_back
            .filter(|_| planned.stage > Stage::Activating)
        {
            return self.turn_back(order, now);
        }
        match planned.stage {
            Stage::Activating if overdue => self.lose_other(now),
            Stage::Announcing if overdue || self.sites_know() => {
                self.set_stage(Stage::Flowing, Timestamp::MAX);
                self.advance_move(now);
            }
            Stage::Flowing if planned.share >= 1.0 => self.commit(now),
            Stage::Committing if overdue => self.settle(None, now),
            Stage::Activating | Stage::Announcing | Stage::Flowing | Stage::Committing => {}
        }
    }

    fn set_stage(&mut self, stage: Stage, deadline: Timestamp) {
        if let Some(planned) = &mut self.planned {
            planned.stage = stage;
            planned.deadline = deadline;
        }
    }

    fn commit(&mut self, now: Timestamp) {
        let (Some(active), Some(other)) = (&self.active, &self.other) else {
            return;
        };
        let leave = ClientMessage::Leave {
            number: other.number,
            up_final: active.last_data,
            sites: self
                .ties
                .iter()
                .filter(|(_, tie)| tie.answered.is_some())
                .map(|(site, _)| *site)
                .collect(),
        };
        let node = active.node;
        self.set_stage(Stage::Committing, now + STAGE);
        self.tell(node, &leave);
        self.renew_ties(now);
        self.tend_ties(now);
    }

    /// The holder that was left has finished.
    pub(super) fn handle_left(
        &mut self,
        node: NodeId,
        number: u32,
        down_final: Option<u64>,
        now: Timestamp,
    ) {
        let expected = self
            .other
            .as_ref()
            .is_some_and(|other| other.number == number);
        let active = self
            .active
            .as_ref()
            .is_some_and(|active| active.node == node);
        let committing = self
            .planned
            .as_ref()
            .is_some_and(|planned| planned.stage == Stage::Committing);
        if expected && active && committing {
            self.settle(Some(down_final), now);
        }
    }

    /// The planned move is over. `finals`: what the old holder said of its last packet.
    fn settle(&mut self, finals: Option<Option<u64>>, now: Timestamp) {
        let (Some(mut old), Some(new)) = (self.active.take(), self.other.take()) else {
            return;
        };
        if let Some(down_final) = finals {
            let id = old.leg.sealing().id;
            old.leg.close_above(id, down_final.unwrap_or(0));
        }
        let (from, to) = (old.node, new.node);
        let (generation, number) = (new.generation, new.number);
        let until = now + old.leg.grace();
        if let Some((before, _)) = self.draining.replace((old, until)) {
            self.drop_holder(before);
        }
        self.active = Some(new);
        self.planned = None;
        self.tell_settled(to, generation, number);
        self.next_report = now;
        self.emit(ClientEvent::Moved { from, to, number });
    }

    /// The holder is the only one now; the others shall believe it.
    fn tell_settled(&mut self, to: NodeId, generation: u32, number: u32) {
        let proofs = self.generations.proofs(generation, number, to);
        self.tell(to, &ClientMessage::Settled { number, proofs });
    }

    pub(super) fn expire_drained(&mut self, now: Timestamp) {
        if let Some((holder, _)) = self.draining.take_if(|(_, until)| *until <= now) {
            self.drop_holder(holder);
        }
    }

    /// Looks whether a holder fell silent (rule S2: the client alone judges).
    pub(super) fn check_silence(&mut self, now: Timestamp) {
        let silent = |holder: &Option<Holder>| {
            let leg = holder.as_ref().map(|holder| &holder.leg);
            leg.is_some_and(|leg| leg.silent_at().is_some_and(|at| at <= now))
        };
        if let Some((draining, _)) = &mut self.draining {
            draining.leg.note_judged(); // its time is set, silent or not
        }
        if silent(&self.active) {
            self.take_over(now);
        } else if silent(&self.other) {
            self.lose_other(now);
        }
    }

    pub(super) fn handle_closed(&mut self, node: NodeId, now: Timestamp) {
        if self
            .active
            .as_ref()
            .is_some_and(|holder| holder.node == node)
        {
            self.take_over(now);
        } else if self
            .other
            .as_ref()
            .is_some_and(|holder| holder.node == node)
        {
            self.lose_other(now);
        }
    }

    /// The active holder is lost: the other one of a planned move, or a shadow, takes over.
    pub(super) fn take_over(&mut self, now: Timestamp) {
        let Some(lost) = self.active.take() else {
            return;
        };
        let (from, heard) = (lost.node, lost.leg.figures().last_heard);
        let silence = heard.map_or(Duration::ZERO, |at| now.since(at));
        self.tried.insert(from);
        self.drop_holder(lost);
        self.generations.abandon_next();
        let ready = self
            .planned
            .as_ref()
            .is_some_and(|planned| planned.stage >= Stage::Announcing);
        let other = self.other.take();
        self.planned = None;
        if let Some((holder, _)) = self.draining.take() {
            self.drop_holder(holder);
        }
        let next = match other {
            Some(other) if ready => Some(other),
            Some(other) => {
                self.drop_holder(other);
                self.activate_next(now)
            }
            None => self.activate_next(now),
        };
        let Some(next) = next else {
            return self.detach(now);
        };
        let (to, waiting) = (next.node, next.activation.is_some());
        let (generation, number) = (next.generation, next.number);
        self.active = Some(next);
        if !waiting {
            self.tell_settled(to, generation, number);
        }
        self.unrefreshed_since = self.unrefreshed_since.or(Some(now));
        let within = self.timers.refresh_after_crash / 2;
        self.refresh_at = now + within / 4 + self.station.jitter(within);
        self.refresh_failures = 0;
        self.next_report = now;
        self.renew_ties(now);
        self.emit(ClientEvent::TakenOver { from, to, silence });
    }

    /// Activates the best shadow that was not tried: one that answers probes, then the roster's
    /// order.
    fn activate_next(&mut self, now: Timestamp) -> Option<Holder> {
        let alive = |entry: &RosterEntry| self.is_in_force(entry.node, &entry.key);
        let members = self.generations.members().iter();
        let open = members
            .filter(|member| !self.tried.contains(&member.entry.node) && alive(&member.entry));
        let best = open.min_by_key(|member| {
            let silent = self.prober.rtt(member.entry.node, now).is_none();
            (silent, member.entry.branch)
        })?;
        let (entry, secret) = (best.entry.clone(), best.secret.duplicate());
        self.activate(&entry, &secret, self.generations.current(), false, now)
    }
}

impl Holder {
    /// Adds the keys of an activation to a leg that goes on.
    fn install(
        &mut self,
        prepared: Prepared,
        secret: Secret<32>,
        generation: u32,
        every: Duration,
        now: Timestamp,
    ) {
        let retire_at = now + self.leg.grace() + STAGE;
        self.leg.add_channel(prepared.channel, retire_at);
        self.branch = secret;
        self.generation = generation;
        self.number = prepared.number;
        self.activation = Some(Activation {
            datagram: prepared.datagram,
            due: now,
            every,
        });
    }
}

/// No stage of a planned move may hang longer.
const STAGE: Duration = Duration::from_secs(1);
/// Repetition of an activation on a path that was never measured.
const ACTIVATION_GAP: Duration = Duration::from_millis(50);
const ACTIVATION_SLACK: Duration = Duration::from_millis(10);
