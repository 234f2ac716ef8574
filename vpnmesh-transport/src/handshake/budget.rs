//! Under load: how many handshakes one source may still cost.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use vpnmesh_core::Timestamp;

use super::mac::SourceKey;

/// A bucket for each source address, IPv4 by address and IPv6 by its first 64 bits.
///
/// Sources share [`SourceBudget::BUCKETS`] buckets by a keyed hash, so the table never grows and
/// nobody can choose whom it shares one with.
#[derive(Debug)]
pub(super) struct SourceBudget {
    key: SourceKey,
    /// When each bucket will be empty.
    empty_at: Box<[Timestamp]>,
}

impl SourceBudget {
    pub(super) const BUCKETS: usize = 8192;

    pub(super) fn new(key: SourceKey) -> Self {
        Self {
            key,
            empty_at: vec![Timestamp::ZERO; Self::BUCKETS].into_boxed_slice(),
        }
    }

    /// Whether one more datagram of `from` may cost something now.
    pub(super) fn take(&mut self, from: SocketAddr, now: Timestamp) -> bool {
        let hash = self.key.hash(&source(from.ip()));
        let empty_at = &mut self.empty_at[hash as usize % Self::BUCKETS];
        let filled = (*empty_at).max(now) + PER_DATAGRAM;
        let fits = filled.since(now) <= PER_DATAGRAM * BURST;
        if fits {
            *empty_at = filled;
        }
        fits
    }
}

/// What counts as one source: whoever has one IPv6 address has 2^64.
fn source(address: IpAddr) -> [u8; 8] {
    let mut bytes = [0; 8];
    match address.to_canonical() {
        IpAddr::V4(v4) => bytes[4..].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => bytes.copy_from_slice(&v6.octets()[..8]),
    }
    bytes
}

/// 20 a second and a burst of 5, as WireGuard (Linux, `ratelimiter.c`).
const PER_DATAGRAM: Duration = Duration::from_millis(50);
const BURST: u32 = 5;

#[cfg(test)]
mod tests {
    use vpnmesh_core::Secret;

    use super::*;

    fn budget() -> SourceBudget {
        SourceBudget::new(SourceKey::new(&Secret::take(&mut [1; 32])))
    }

    const NOW: Timestamp = Timestamp(5_000_000_000);

    fn served(budget: &mut SourceBudget, from: &str) -> usize {
        let from: SocketAddr = from.parse().unwrap();
        (0..100).filter(|_| budget.take(from, NOW)).count()
    }

    #[test]
    fn a_source_has_a_burst_and_then_twenty_a_second() {
        let mut budget = budget();
        assert_eq!(served(&mut budget, "192.0.2.1:1"), BURST as usize);
        assert_eq!(
            served(&mut budget, "192.0.2.1:2"),
            0,
            "ports count together"
        );
        assert_eq!(served(&mut budget, "192.0.2.2:1"), BURST as usize);
        let from = "192.0.2.1:1".parse().unwrap();
        let mut later = 0;
        for tick in 0..1000u32 {
            let now = NOW + Duration::from_millis(1) * tick;
            later += usize::from(budget.take(from, now));
        }
        assert_eq!(later, 20 - 1);
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let mut budget = budget();
        assert_eq!(served(&mut budget, "[2001:db8::1]:1"), BURST as usize);
        assert_eq!(served(&mut budget, "[2001:db8::2]:1"), 0);
        assert_eq!(served(&mut budget, "[2001:db8:0:1::1]:1"), BURST as usize);
        assert_eq!(served(&mut budget, "[::ffff:192.0.2.1]:1"), BURST as usize);
        assert_eq!(served(&mut budget, "192.0.2.1:9"), 0);
    }
}
