//! A link of the emulated network together with its counts.

use vpnmesh_core::{ByteCount, Timestamp};

use super::counters::Counters;
use crate::link::{Link, LinkDrop, LinkModel, Verdict};

/// A link and what went through it.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) model: LinkModel,
    pub(super) counters: Counters,
}

impl Pipe {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            model: LinkModel::new(Link::default(), seed),
            counters: Counters::default(),
        }
    }

    /// A packet goes in; when it comes out, if it does.
    pub(super) fn offer(&mut self, size: u64, now: Timestamp) -> Option<Timestamp> {
        self.counters.rx += 1;
        self.counters.rx_bytes += size;
        match self.model.offer(ByteCount(size), now) {
            Verdict::Deliver(at) => return Some(at),
            Verdict::Drop(LinkDrop::Loss) => self.counters.lost += 1,
            Verdict::Drop(LinkDrop::Tail) => self.counters.tail_dropped += 1,
            Verdict::Drop(LinkDrop::Cut) => self.counters.cut += 1,
        }
        None
    }

    /// A packet comes out; `false` if the link was cut under it.
    pub(super) fn comes_out(&mut self, size: u64) -> bool {
        if self.model.link().cut {
            self.counters.cut += 1;
            return false;
        }
        self.counters.tx += 1;
        self.counters.tx_bytes += size;
        true
    }
}
