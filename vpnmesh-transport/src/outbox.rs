//! What a machine wants to send, and the buffers that it uses again.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use crate::wire::ETHERNET_PAYLOAD;
use crate::{DropReason, Transmit};

/// Datagrams and inner packets on their way out of a machine, and the count of what was dropped.
///
/// At [`Outbox::CAPACITY`] entries the newest is dropped and counted, as a router's queue does.
#[derive(Debug, Default)]
pub struct Outbox {
    datagrams: VecDeque<Transmit>,
    inner: VecDeque<Vec<u8>>,
    pool: Vec<Vec<u8>>,
    drops: BTreeMap<DropReason, u64>,
}

impl Outbox {
    /// Each queue holds at most so many entries between two turns of the driver.
    pub const CAPACITY: usize = 8192;

    /// An empty buffer with room for a datagram.
    pub fn buffer(&mut self) -> Vec<u8> {
        let mut buffer = self
            .pool
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(BUFFER));
        buffer.clear();
        buffer
    }

    /// Takes a spent buffer back.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        if self.pool.len() < POOL && buffer.capacity() >= BUFFER {
            self.pool.push(buffer);
        }
    }

    /// Queues a datagram.
    pub fn send(&mut self, to: SocketAddr, payload: Vec<u8>) {
        if self.datagrams.len() >= Self::CAPACITY {
            self.drop_because(DropReason::QueueFull);
            self.recycle(payload);
        } else {
            self.datagrams.push_back(Transmit { to, payload });
        }
    }

    /// Queues a copy of an inner packet for the local packet I/O.
    pub fn deliver(&mut self, packet: &[u8]) {
        if self.inner.len() >= Self::CAPACITY {
            self.drop_because(DropReason::QueueFull);
            return;
        }
        let mut buffer = self.buffer();
        buffer.extend_from_slice(packet);
        self.inner.push_back(buffer);
    }

    /// The next datagram.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.datagrams.pop_front()
    }

    /// The next inner packet.
    pub fn poll_inner(&mut self) -> Option<Vec<u8>> {
        self.inner.pop_front()
    }

    /// Counts a packet that went no further.
    pub fn drop_because(&mut self, reason: DropReason) {
        *self.drops.entry(reason).or_default() += 1;
    }

    /// Counts the error of a step, if it had one.
    pub fn count<T>(&mut self, result: Result<T, DropReason>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(reason) => {
                self.drop_because(reason);
                None
            }
        }
    }

    /// What was dropped since the start, by reason.
    #[must_use]
    pub const fn drops(&self) -> &BTreeMap<DropReason, u64> {
        &self.drops
    }
}

/// Room for the longest datagram of an Ethernet path.
const BUFFER: usize = ETHERNET_PAYLOAD + 100;
/// Two full batches.
const POOL: usize = 512;
