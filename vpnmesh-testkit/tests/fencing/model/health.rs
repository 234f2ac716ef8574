//! What the laws ask of a state, and whether it heals.

use super::{EARLY, FLOW, Flaw, Heard, Holder, LATE, Message, Move, NODES, Stage, State};
use super::{bit, id};

impl State {
    /// What the site heard, by our own count.
    pub(crate) const fn heard(&self) -> &Heard {
        &self.heard
    }

    /// Whether the site takes packets through a node: what it sealed before its last word, and
    /// after.
    pub(crate) fn site_accepts(&self, node: u8) -> [bool; 2] {
        [EARLY, LATE].map(|counter| self.site.accepts(id(node), counter, self.now))
    }

    /// Through which node a packet to the client leaves.
    pub(crate) fn way_back(&self) -> Option<u8> {
        let holder = self.site.holder_for(FLOW, self.now)?;
        u8::try_from(holder.0 - 1).ok()
    }

    /// What was sent.
    pub(crate) fn sent(&self) -> &[Message] {
        &self.sent
    }

    /// The keys that the client opens packets with, and whose they are.
    pub(crate) fn client_accepts(&self) -> impl Iterator<Item = (u8, Move)> {
        let holders = self.client.holders();
        holders.flat_map(|holder| holder.keys.iter().map(|at| (holder.node, *at)))
    }

    /// What the client has made the only move.
    pub(crate) const fn floor(&self) -> Move {
        self.client.floor
    }

    /// Whether a planned move is under way or drains at the client.
    pub(crate) const fn is_moving(&self) -> bool {
        self.client.stage.is_some() || self.client.draining.is_some()
    }

    /// A node that opened one activation twice: it would seal twice under one key.
    pub(crate) fn reopened(&self) -> bool {
        self.nodes.iter().any(|node| node.reopened)
    }

    /// Whether one holder carries everything, both ways.
    fn is_whole(&self) -> bool {
        let client = &self.client;
        let Some(active) = client.active.as_ref().filter(|active| !active.waiting) else {
            return false;
        };
        let session = self.session(active.node);
        !self.is_moving()
            && session.is_some_and(|session| session.at == active.newest() && !session.leaving)
            && self.site_accepts(active.node) == [true, true]
            && self.way_back() == Some(active.node)
    }

    /// Whether the mesh is whole again once nothing fails any more: every message arrives, timers
    /// do their work, and only holders that forgot the session are taken for lost.
    pub(crate) fn heals(&self, flaw: Flaw) -> bool {
        let mut state = self.clone();
        for _ in 0..ROUNDS {
            if state.client.active.is_none() {
                state.attach(0);
            }
            state.restate(flaw);
            for _ in 0..PASSES {
                for message in state.sent.clone() {
                    state.deliver(message, flaw);
                }
            }
            if state.is_whole() {
                return true;
            }
            state.let_time_pass(flaw);
        }
        false
    }

    fn let_time_pass(&mut self, flaw: Flaw) {
        let client = &self.client;
        let forgotten = |holder: &Holder| {
            let session = self.session(holder.node);
            holder.waiting || session.is_none_or(|session| session.at != holder.newest())
        };
        if client.active.as_ref().is_some_and(forgotten) {
            let open = self.open();
            let next = (0..NODES).find(|node| open & bit(*node) != 0);
            return self.take_over(next.unwrap_or(0), flaw);
        }
        if client.other.as_ref().is_some_and(forgotten) {
            return self.lose_other();
        }
        match client.stage {
            Some(Stage::Flowing) => self.commit(),
            Some(_) => self.advance_move(true, flaw),
            None => {
                self.end_drain();
                self.end_site_drain();
            }
        }
    }
}

/// Each holder may have to be tried once, and a move to end.
const ROUNDS: usize = 14;
/// An activation, its answer, a statement, its answer.
const PASSES: usize = 5;
