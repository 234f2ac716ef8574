//! A packet between two hosts, and where it is.

use std::net::IpAddr;

use vpnmesh_core::Timestamp;

/// A packet on its way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) at: Timestamp,
    /// Ties are broken by the order of entering.
    pub(super) order: u64,
    pub(super) entered: Timestamp,
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) passed: Stage,
    pub(super) packet: Packet,
}

/// The link a packet has just come out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Nothing,
    Up,
    Path,
    Down,
}

/// One IP packet.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) buffer: Buffer,
    pub(super) len: usize,
}

/// Room for any packet that fits an uplink.
pub(super) type Buffer = Box<[u8]>;

impl PartialEq for Flight {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Flight {}

impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Flight {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// The destination of an IP packet; `None` if it is none.
pub(super) fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => <[u8; 4]>::try_from(packet.get(16..20)?)
            .ok()
            .map(IpAddr::from),
        6 => <[u8; 16]>::try_from(packet.get(24..40)?)
            .ok()
            .map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_ip_packet_has_no_destination() {
        for len in 0..20 {
            assert_eq!(destination(&vec![0x45; len]), None);
        }
        for len in 0..40 {
            assert_eq!(destination(&vec![0x60; len]), None);
        }
        assert_eq!(destination(&[0x10; 100]), None);
        assert_eq!(destination(&[0x45; 20]), Some(IpAddr::from([0x45; 4])));
        assert_eq!(destination(&[0x60; 40]), Some(IpAddr::from([0x60; 16])));
    }
}
