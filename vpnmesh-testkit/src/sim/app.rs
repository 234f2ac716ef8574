//! The traffic of a simulated mesh: numbered packets in both directions, echoed by the sites.

use std::net::Ipv4Addr;
use std::time::Duration;

use vpnmesh_core::Timestamp;

/// A numbered packet on its way, or come out at the far end of the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// The flow: client, site and port tell it apart.
    pub flow: Flow,
    /// Its number within the flow and direction.
    pub number: u64,
    /// When it was sent.
    pub sent: Timestamp,
    /// When it came out.
    pub at: Timestamp,
}

/// A numbered packet that went into the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departure {
    /// The flow.
    pub flow: Flow,
    /// Its number within the flow and direction.
    pub number: u64,
    /// When it was sent.
    pub at: Timestamp,
}

/// A flow between a client and the resource of a site, in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// The client's index.
    pub client: usize,
    /// The site's index.
    pub site: usize,
    /// The client's port.
    pub port: u16,
    /// Whether the client is the sender.
    pub up: bool,
}

/// A stream of numbered packets of a client to a site, echoed by the site's resource.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    pub(super) flow: Flow,
    pub(super) every: Duration,
    pub(super) next: Timestamp,
    pub(super) number: u64,
}

/// An IPv4 UDP packet that carries a number and the time of sending.
pub(super) fn packet(
    ends: (Ipv4Addr, Ipv4Addr),
    ports: (u16, u16),
    number: u64,
    sent: Timestamp,
) -> Vec<u8> {
    let mut packet = vec![0; 28];
    let len = (28 + BODY) as u16;
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet[8] = 64;
    packet[9] = 17;
    packet[12..16].copy_from_slice(&ends.0.octets());
    packet[16..20].copy_from_slice(&ends.1.octets());
    packet[20..22].copy_from_slice(&ports.0.to_be_bytes());
    packet[22..24].copy_from_slice(&ports.1.to_be_bytes());
    packet[24..26].copy_from_slice(&(len - 20).to_be_bytes());
    packet.extend_from_slice(&number.to_le_bytes());
    packet.extend_from_slice(&sent.0.to_le_bytes());
    packet
}

/// The ports, the number and the time of a packet that [`packet`] made.
pub(super) fn read(packet: &[u8]) -> Option<(u16, u16, u64, Timestamp)> {
    let port = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u64::from_le_bytes(packet.get(at..at + 8)?.try_into().ok()?));
    Some((port(20)?, port(22)?, word(28)?, Timestamp(word(36)?)))
}

const BODY: usize = 16;
/// Where resources listen.
pub(super) const RESOURCE_PORT: u16 = 7;
