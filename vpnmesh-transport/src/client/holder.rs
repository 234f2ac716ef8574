//! A holder as its client sees it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use vpnmesh_core::{NodeId, PublicKey, Secret, SiteId, Timestamp};

use crate::leg::Leg;
use crate::outbox::Outbox;
use crate::schedule::TookProof;

/// A node that carries the session, or is about to.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) node: NodeId,
    /// Its static key, under which the session lives.
    pub(super) key: PublicKey,
    pub(super) leg: Leg,
    /// The secret of its branch in the generation of its newest keys.
    pub(super) branch: Secret<32>,
    pub(super) generation: u32,
    pub(super) number: u32,
    /// Repeated until the holder answers.
    pub(super) activation: Option<Activation>,
    /// Counter of the last inner packet sealed for it.
    pub(super) last_data: Option<u64>,
}

/// An activation under way: the same bytes each time.
#[derive(Debug)]
pub(super) struct Activation {
    pub(super) datagram: Vec<u8>,
    pub(super) due: Timestamp,
    pub(super) every: Duration,
}

/// What an activation says under its seal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ActivateBody {
    /// The client's index for the keys of this move.
    pub(crate) client_index: u32,
    /// The client's incarnation counter.
    pub(crate) client_incarnation: u64,
    /// Whether another holder still carries traffic.
    pub(crate) planned: bool,
    /// Whether the leg that this holder already has with the client goes on.
    pub(crate) continues: bool,
    /// Receipts for the sites; at most [`MAX_RECEIPTS`].
    pub(crate) receipts: Vec<(SiteId, Vec<u8>)>,
    /// After a crash: what makes the other holders believe it.
    pub(crate) proofs: Vec<(NodeId, TookProof)>,
}

impl Holder {
    /// Sends the activation if it is due.
    pub(super) fn flush_activation(&mut self, out: &mut Outbox, now: Timestamp) {
        let Some(activation) = self
            .activation
            .as_mut()
            .filter(|activation| activation.due <= now)
        else {
            return;
        };
        activation.due = now + activation.every;
        let mut buffer = out.buffer();
        buffer.extend_from_slice(&activation.datagram);
        out.send(self.leg.remote(), buffer);
        self.leg.note_question(now);
    }
}

/// So many receipts fit a datagram of 1 232 bytes beside everything else.
pub(crate) const MAX_RECEIPTS: usize = 13;
