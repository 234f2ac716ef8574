//! Generations and their rosters: whom the client may activate.

use vpnmesh_core::{NodeId, Secret, Timestamp};

use super::{ClientEvent, ClientMachine};
use crate::DropReason;
use crate::message::{ClientMessage, RosterEntry};
use crate::record::MAX_HOLDERS;
use crate::schedule::{self, BranchContext, TookProof};

/// The generation in force and the one that is being made.
#[derive(Debug, Default)]
pub(super) struct Generations {
    current: u32,
    /// The greatest generation that was ever begun, in force or not.
    greatest: u32,
    context: Option<BranchContext>,
    /// Erased when the roster came.
    root: Option<Secret<32>>,
    roster: Vec<Member>,
    next: Option<Next>,
}

/// A holder that may be activated.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) entry: RosterEntry,
    pub(super) secret: Secret<32>,
}

#[derive(Debug)]
struct Next {
    generation: u32,
    /// The handshake that it stands on; `None` if it follows from the generation before.
    fresh: Option<BranchContext>,
    /// Erased when the roster came.
    root: Option<Secret<32>>,
    roster: Vec<Member>,
}

impl Generations {
    pub(super) const fn current(&self) -> u32 {
        self.current
    }

    pub(super) const fn greatest(&self) -> u32 {
        self.greatest
    }

    /// The number for a generation that begins now.
    pub(super) fn claim(&mut self) -> u32 {
        self.greatest = self.greatest.saturating_add(1);
        self.greatest
    }

    /// A handshake began this generation; its roster follows.
    pub(super) fn begin(&mut self, context: BranchContext, root: Secret<32>) {
        self.current = context.generation;
        self.greatest = self.greatest.max(self.current);
        self.context = Some(context);
        self.root = Some(root);
        self.roster = Vec::new();
        self.next = None;
    }

    pub(super) fn roster_nodes(&self) -> Vec<NodeId> {
        self.roster.iter().map(|member| member.entry.node).collect()
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.roster
    }

    pub(super) fn member(&self, node: NodeId) -> Option<&Member> {
        self.roster.iter().find(|member| member.entry.node == node)
    }

    /// What proves to the other holders of a generation that `taker` was activated.
    pub(super) fn proofs(
        &self,
        generation: u32,
        number: u32,
        taker: NodeId,
    ) -> Vec<(NodeId, TookProof)> {
        if generation != self.current {
            return Vec::new(); // nobody but its primary knows of the next one
        }
        let others = self.roster.iter();
        let others = others.filter(|member| member.entry.node != taker);
        let proof = |member: &Member| {
            let of_move = (generation, number);
            let session = self.context?.session;
            let proof = schedule::took_proof(&member.secret, session, of_move, taker);
            Some((member.entry.node, proof))
        };
        others.take(MAX_HOLDERS).filter_map(proof).collect()
    }

    /// The suite of the generation that is in force or being made.
    pub(super) fn context(&self, generation: u32) -> Option<BranchContext> {
        let next = self
            .next
            .as_ref()
            .filter(|next| next.generation == generation);
        next.and_then(|next| next.fresh).or(self.context)
    }

    fn derive(
        context: BranchContext,
        generation: u32,
        root: &Secret<32>,
        entries: Vec<RosterEntry>,
    ) -> Vec<Member> {
        let member = |entry: RosterEntry| {
            let context = BranchContext {
                generation,
                branch: entry.branch,
                holder: entry.node,
                holder_key: entry.key,
                ..context
            };
            let secret = schedule::branch_secret(root, &context);
            Member { entry, secret }
        };
        entries.into_iter().map(member).collect()
    }

    /// The roster of `generation` arrived; whether it belongs to the one that is being made.
    fn take_roster(
        &mut self,
        generation: u32,
        entries: Vec<RosterEntry>,
    ) -> Result<bool, DropReason> {
        let context = self.context.ok_or(DropReason::Stale)?;
        if generation == self.current {
            let root = self.root.take().ok_or(DropReason::Duplicate)?;
            self.roster = Self::derive(context, generation, &root, entries);
            return Ok(false);
        }
        let next = self
            .next
            .as_mut()
            .filter(|next| next.generation == generation);
        let next = next.ok_or(DropReason::Stale)?;
        let root = next.root.take().ok_or(DropReason::Duplicate)?;
        let context = next.fresh.unwrap_or(context);
        next.roster = Self::derive(context, generation, &root, entries);
        Ok(true)
    }

    /// The member of the next generation that is the present holder.
    pub(super) fn next_member(&self, node: NodeId) -> Option<(u32, &Member)> {
        let next = self.next.as_ref()?;
        let member = next
            .roster
            .iter()
            .find(|member| member.entry.node == node)?;
        Some((next.generation, member))
    }

    /// The next generation is in force; whether its secrets are fresh.
    pub(super) fn advance(&mut self, generation: u32) -> bool {
        let Some(next) = self.next.take_if(|next| next.generation == generation) else {
            return false;
        };
        self.current = generation;
        self.roster = next.roster;
        self.root = None;
        let fresh = next.fresh.is_some();
        self.context = next.fresh.or(self.context);
        if let Some(context) = &mut self.context {
            context.generation = generation;
        }
        fresh
    }

    /// A handshake with the present holder gave the root of a generation; its roster follows.
    /// False if a later generation was begun meanwhile.
    pub(super) fn prepare(&mut self, context: BranchContext, root: Secret<32>) -> bool {
        if context.generation < self.greatest || context.generation <= self.current {
            return false;
        }
        self.next = Some(Next {
            generation: context.generation,
            fresh: Some(context),
            root: Some(root),
            roster: Vec::new(),
        });
        true
    }

    /// The generation that was being made is given up.
    pub(super) fn abandon_next(&mut self) {
        self.next = None;
    }
}

impl ClientMachine {
    /// The holder starts a generation: our part of the root.
    pub(super) fn handle_root_offer(
        &mut self,
        node: NodeId,
        generation: u32,
        primary_random: &[u8; 32],
    ) {
        let active = self.active.as_ref().filter(|holder| holder.node == node);
        let Some(active) = active.filter(|_| self.planned.is_none()) else {
            return self.station.out.drop_because(DropReason::Stale);
        };
        let next = self.generations.greatest.saturating_add(1);
        if !(next..next.saturating_add(MAX_AHEAD)).contains(&generation) {
            return self.station.out.drop_because(DropReason::Fenced);
        }
        let branch = active.branch.duplicate();
        let client_random = self.station.random();
        let root = schedule::next_root(&branch, &client_random, primary_random);
        self.generations.greatest = generation;
        self.generations.next = Some(Next {
            generation,
            fresh: None,
            root: Some(root),
            roster: Vec::new(),
        });
        self.tell(
            node,
            &ClientMessage::RootReply {
                generation,
                client_random,
            },
        );
    }

    /// The roster: acknowledged, and if it starts a generation, activated.
    pub(super) fn handle_roster(
        &mut self,
        node: NodeId,
        generation: u32,
        entries: Vec<RosterEntry>,
        now: Timestamp,
    ) {
        if self
            .active
            .as_ref()
            .is_none_or(|holder| holder.node != node)
            || self.planned.is_some()
        {
            return self.station.out.drop_because(DropReason::Stale);
        }
        let entries = entries
            .into_iter()
            .filter(|entry| self.is_member(entry))
            .collect();
        let taken = self.generations.take_roster(generation, entries);
        let Some(starts) = self.station.out.count(taken) else {
            return;
        };
        self.tell(node, &ClientMessage::RosterAck { generation });
        if starts {
            self.activate_next_generation(now);
        } else {
            self.announce_roster();
        }
    }

    /// A holder cannot slip in who is not in the signed membership.
    fn is_member(&self, entry: &RosterEntry) -> bool {
        let node = self.station.membership.node(entry.node);
        node.is_some_and(|node| node.key == entry.key && node.addresses.contains(&entry.address))
    }

    pub(super) fn announce_roster(&mut self) {
        let (generation, holders) = (self.generations.current(), self.generations.roster_nodes());
        self.emit(ClientEvent::Roster {
            generation,
            holders,
        });
    }
}

/// A holder may have offered some generations that never reached us. A greater step would use the
/// numbers up.
const MAX_AHEAD: u32 = 1 << 16;
