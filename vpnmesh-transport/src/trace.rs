//! What fences let through, for whoever checks them. Compiled with the feature `testing` alone.

use std::collections::{BTreeMap, VecDeque};

use vpnmesh_core::{ClientId, NodeId};

use crate::receipt::Receipt;

/// Something that a fence decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    /// A client took an inner packet from a holder.
    ClientAccepted {
        /// The holder.
        holder: NodeId,
        /// The generation of the keys.
        generation: u32,
        /// The move of the keys.
        number: u32,
    },
    /// A site took a client's statement over.
    SiteTook(Receipt),
    /// A site took an inner packet of a client through a holder.
    SiteAccepted {
        /// The client.
        client: ClientId,
        /// The holder.
        holder: NodeId,
    },
}

/// How many entries each table of a machine has, by name.
pub type Sizes = BTreeMap<&'static str, usize>;

/// The newest decisions; at most [`Tracer::CAPACITY`], the oldest gives way.
#[derive(Debug, Default)]
pub struct Tracer(VecDeque<Trace>);

impl Tracer {
    /// More than one turn of a driver can decide in a test.
    pub const CAPACITY: usize = 4096;

    pub(crate) fn note(&mut self, trace: Trace) {
        if self.0.len() >= Self::CAPACITY {
            self.0.pop_front();
        }
        self.0.push_back(trace);
    }

    /// The oldest decision that was not read yet.
    pub fn poll(&mut self) -> Option<Trace> {
        self.0.pop_front()
    }
}
