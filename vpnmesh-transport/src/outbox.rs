//! What a machine wants to send, and the buffers that it uses again.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use crate::wire::ETHERNET_PAYLOAD;
use crate::{DropReason, Marking, TrafficClass, Transmit};

/// Datagrams and inner packets on their way out of a machine, and the count of what was dropped.
///
/// At [`Outbox::CAPACITY`] entries the newest is dropped and counted, as a router's queue does.
#[derive(Debug, Default)]
pub struct Outbox {
    marking: Marking,
    datagrams: VecDeque<Transmit>,
    inner: VecDeque<Vec<u8>>,
    /// Room for one datagram each; at most [`POOL`].
    pool: Vec<Vec<u8>>,
    /// Room for a run each; at most [`LONG_POOL`].
    long_pool: Vec<Vec<u8>>,
    drops: BTreeMap<DropReason, u64>,
}

impl Outbox {
    /// Each queue holds at most so many entries between two turns of the driver.
    pub const CAPACITY: usize = 8192;

    /// One that marks outer headers so.
    #[must_use]
    pub fn new(marking: Marking) -> Self {
        Self {
            marking,
            ..Self::default()
        }
    }

    /// How outer headers are marked.
    #[must_use]
    pub const fn marking(&self) -> Marking {
        self.marking
    }

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
        if buffer.capacity() >= RUN {
            if self.long_pool.len() < LONG_POOL {
                self.long_pool.push(buffer);
            }
        } else if self.pool.len() < POOL && buffer.capacity() >= BUFFER {
            self.pool.push(buffer);
        }
    }

    /// Queues a datagram that carries no inner packet.
    pub fn send(&mut self, to: SocketAddr, payload: Vec<u8>) {
        if self.datagrams.len() >= Self::CAPACITY {
            self.drop_because(DropReason::QueueFull);
            self.recycle(payload);
        } else {
            let class = self.marking.bare();
            let alone = Transmit::one(to, payload);
            self.datagrams.push_back(Transmit { class, ..alone });
        }
    }

    /// Queues a datagram of `len` bytes and this class that `write` puts behind what the buffer holds: beside the
    /// last one, if the kernel may send both at once.
    ///
    /// # Errors
    /// What `write` says, or [`DropReason::QueueFull`]; nothing is queued then.
    pub fn append(
        &mut self,
        to: SocketAddr,
        class: TrafficClass,
        len: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), DropReason>,
    ) -> Result<(), DropReason> {
        let last = self.datagrams.back_mut();
        if let Some(run) = last.filter(|run| joins(run, to, class, len)) {
            if run.payload.capacity() - run.payload.len() < len {
                let mut long = self
                    .long_pool
                    .pop()
                    .unwrap_or_else(|| Vec::with_capacity(RUN));
                long.clear();
                long.extend_from_slice(&run.payload);
                let short = std::mem::replace(&mut run.payload, long);
                if self.pool.len() < POOL {
                    self.pool.push(short);
                }
            }
            let before = run.payload.len();
            return write(&mut run.payload).inspect_err(|_| run.payload.truncate(before));
        }
        if self.datagrams.len() >= Self::CAPACITY {
            return Err(DropReason::QueueFull);
        }
        let mut payload = self.buffer();
        match write(&mut payload) {
            Ok(()) => {
                let alone = Transmit::one(to, payload);
                self.datagrams.push_back(Transmit { class, ..alone });
                Ok(())
            }
            Err(reason) => {
                self.recycle(payload);
                Err(reason)
            }
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

/// Whether a datagram of `len` bytes and this class may stand behind `run`.
fn joins(run: &Transmit, to: SocketAddr, class: TrafficClass, len: usize) -> bool {
    let full = run.payload.len().is_multiple_of(run.segment.max(1));
    let fits = run.payload.len() + len <= RUN && run.payload.len() < run.segment * RUN_DATAGRAMS;
    let alike = run.to == to && run.class == class;
    alike && full && fits && len <= run.segment && len > 0
}

/// Room for the longest datagram of an Ethernet path.
const BUFFER: usize = ETHERNET_PAYLOAD + 100;
/// Two full batches.
const POOL: usize = 512;
/// Room for a run: the longest UDP payload over IPv4.
const RUN: usize = 65_507;
/// A kernel cuts one send into so many datagrams at most (`UDP_MAX_SEGMENTS` before Linux 6.9).
const RUN_DATAGRAMS: usize = 64;
/// Runs under way between two turns.
const LONG_POOL: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: TrafficClass = TrafficClass(0);

    fn runs(sizes: &[(u16, usize)]) -> Vec<(usize, usize)> {
        let mut out = Outbox::default();
        for &(port, len) in sizes {
            let to = SocketAddr::from(([127, 0, 0, 1], port));
            let written = out.append(to, PLAIN, len, |buffer| {
                buffer.resize(buffer.len() + len, 0);
                Ok(())
            });
            written.unwrap();
        }
        std::iter::from_fn(|| out.poll_transmit())
            .map(|run| (run.datagrams().count(), run.payload.len()))
            .collect()
    }

    #[test]
    fn datagrams_of_one_size_to_one_peer_share_a_buffer() {
        let sizes = [(1, 9), (1, 9), (1, 4), (1, 4), (2, 4), (2, 5)];
        assert_eq!(runs(&sizes), [(3, 22), (1, 4), (1, 4), (1, 5)]);
    }

    #[test]
    fn a_run_has_one_class() {
        let mut out = Outbox::default();
        let to = SocketAddr::from(([127, 0, 0, 1], 1));
        for class in [0b10, 0b10, 0b11, 0b10] {
            let written = out.append(to, TrafficClass(class), 1, |buffer| {
                buffer.push(7);
                Ok(())
            });
            written.unwrap();
        }
        let runs = std::iter::from_fn(|| out.poll_transmit());
        let runs: Vec<_> = runs.map(|run| (run.class.0, run.count())).collect();
        assert_eq!(runs, [(0b10, 2), (0b11, 1), (0b10, 1)]);
    }

    #[test]
    fn a_run_ends_where_the_kernel_would_refuse_it() {
        assert_eq!(runs(&[(1, 10); 70]), [(64, 640), (6, 60)]);
        assert_eq!(runs(&[(1, 1452); 60]), [(45, 65_340), (15, 21_780)]);
    }

    #[test]
    fn a_datagram_that_was_not_written_leaves_no_trace() {
        let mut out = Outbox::default();
        let to = SocketAddr::from(([127, 0, 0, 1], 1));
        let half = |buffer: &mut Vec<u8>| {
            buffer.push(1);
            Err(DropReason::KeyExhausted)
        };
        assert!(out.append(to, PLAIN, 2, half).is_err());
        assert!(out.poll_transmit().is_none());
        let whole = |buffer: &mut Vec<u8>| {
            buffer.extend([7, 7]);
            Ok(())
        };
        out.append(to, PLAIN, 2, whole).unwrap();
        assert!(out.append(to, PLAIN, 2, half).is_err());
        assert_eq!(out.poll_transmit(), Some(Transmit::one(to, vec![7, 7])));
    }
}
