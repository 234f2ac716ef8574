//! Chunks that overtook their A.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use vpnmesh_core::Timestamp;

/// Keeps the last few K datagrams whose A has not arrived. The oldest goes first.
#[derive(Debug, Default)]
pub(super) struct OvertakingRing {
    /// At most [`OvertakingRing::CAPACITY`].
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    from: SocketAddr,
    sender: u32,
    datagram: Vec<u8>,
    arrived: Timestamp,
}

impl OvertakingRing {
    /// 16 datagrams are 20 kB: enough for a burst of eight clients. Taste.
    pub(super) const CAPACITY: usize = 16;
    /// How long a chunk may wait: longer than the reordering of any path.
    pub(super) const PATIENCE: Duration = Duration::from_secs(1);

    pub(super) fn push(&mut self, from: SocketAddr, sender: u32, datagram: &[u8], now: Timestamp) {
        if self.waiting.len() >= Self::CAPACITY {
            self.waiting.pop_front();
        }
        self.waiting.push_back(Waiting {
            from,
            sender,
            datagram: datagram.to_vec(),
            arrived: now,
        });
    }

    /// Takes out the chunks of one sender that are not too old.
    pub(super) fn take(&mut self, from: SocketAddr, sender: u32, now: Timestamp) -> Vec<Vec<u8>> {
        let all = std::mem::take(&mut self.waiting);
        let fresh = all
            .into_iter()
            .filter(|waiting| now.since(waiting.arrived) < Self::PATIENCE);
        let (found, rest): (VecDeque<_>, VecDeque<_>) =
            fresh.partition(|waiting| waiting.from == from && waiting.sender == sender);
        self.waiting = rest;
        found.into_iter().map(|waiting| waiting.datagram).collect()
    }

    /// Under load nothing waits.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_the_ring_is_full() {
        let mut ring = OvertakingRing::default();
        let from = "192.0.2.1:1".parse().unwrap();
        for sender in 0..OvertakingRing::CAPACITY as u32 + 1 {
            ring.push(from, sender, &[sender as u8], Timestamp::ZERO);
        }
        assert!(ring.take(from, 0, Timestamp::ZERO).is_empty());
        assert_eq!(ring.take(from, 1, Timestamp::ZERO), [[1]]);
        assert!(
            ring.take("192.0.2.2:1".parse().unwrap(), 2, Timestamp::ZERO)
                .is_empty()
        );
        let late = Timestamp::ZERO + OvertakingRing::PATIENCE;
        assert!(ring.take(from, 2, late).is_empty());
    }
}
