//! The shape of every state machine here: input goes in with `now`, work comes out.
//!
//! A machine never waits, sends or reads a clock. Whoever drives it (the `io::driver` thread, the
//! simulator, a loop of your own) calls any `handle_*`, then drains every `poll_*` until each says
//! `None`.

use std::net::SocketAddr;
use std::ops::Range;

use vpnmesh_core::Timestamp;

use crate::class::{Ecn, TrafficClass};

/// Datagrams to send to one address, side by side in one buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where they go.
    pub to: SocketAddr,
    /// The UDP payloads. Once sent, give the buffer back with [`Machine::recycle`].
    pub payload: Vec<u8>,
    /// The length of every datagram in `payload` but the last, which may be shorter.
    pub segment: usize,
    /// The traffic class of all their IP headers.
    pub class: TrafficClass,
}

impl Transmit {
    /// One datagram of class zero.
    #[must_use]
    pub const fn one(to: SocketAddr, payload: Vec<u8>) -> Self {
        let segment = payload.len();
        Self {
            to,
            payload,
            segment,
            class: TrafficClass(0),
        }
    }

    /// How many datagrams it is.
    #[must_use]
    pub const fn count(&self) -> usize {
        if self.segment >= self.payload.len() {
            1
        } else {
            self.payload.len().div_ceil(self.segment)
        }
    }

    /// The datagrams, in order.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let empty = self.payload.is_empty().then_some(&self.payload[..]);
        let datagrams = self.payload.chunks(self.segment.max(1));
        datagrams.chain(empty)
    }
}

/// A state machine between a UDP socket and a local source of inner IP packets.
///
/// Implementations are deterministic: the same inputs at the same times give the same outputs. No
/// input makes a machine panic: a bad datagram, packet or command ends in a counter.
pub trait Machine {
    /// What the program tells the machine to do.
    type Command;
    /// What the machine tells the program.
    type Event;

    /// One UDP datagram arrived, under an IP header with these ECN bits. `data` is opened in place; if that brought an inner packet for the
    /// local packet I/O, it lies in the returned part of `data`.
    fn handle_datagram(
        &mut self,
        from: SocketAddr,
        ecn: Ecn,
        data: &mut [u8],
        now: Timestamp,
    ) -> Option<Range<usize>>;

    /// One inner IP packet arrived from the local packet I/O (a TUN device, say), in any of the
    /// forms of [`inner`](crate::inner).
    fn handle_inner(&mut self, packet: &[u8], now: Timestamp);

    /// The program wants something.
    fn handle_command(&mut self, command: Self::Command, now: Timestamp);

    /// It is `now`: whatever was due is done. A driver calls this only after it drained what
    /// already arrived; if `now` is much later than [`Self::poll_timeout`] asked for, it was the
    /// driver that was late, not the peers.
    fn handle_timeout(&mut self, now: Timestamp);

    /// The next datagrams to send.
    fn poll_transmit(&mut self) -> Option<Transmit>;

    /// The next inner packet for the local packet I/O, of those that no datagram held whole.
    fn poll_inner(&mut self) -> Option<Vec<u8>>;

    /// The next thing to tell the program.
    fn poll_event(&mut self) -> Option<Self::Event>;

    /// When to come back if nothing arrives before; [`Timestamp::MAX`] for never.
    fn poll_timeout(&self) -> Timestamp;

    /// Gives a spent buffer back, of a [`Transmit`] or of [`Self::poll_inner`].
    fn recycle(&mut self, buffer: Vec<u8>);
}
