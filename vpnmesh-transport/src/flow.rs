//! Inner IP packets: addresses and flows.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use vpnmesh_core::Timestamp;

use crate::inner::Inner;

/// What a forwarder must know of an inner packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InnerPacket {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// The same number in both directions of a flow.
    pub flow: FlowHash,
}

/// Names a flow: a hash of its 5-tuple, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowHash(pub u64);

impl FlowHash {
    /// Where the flow stands between 0 and 1: it moves when the weight reaches this value.
    #[must_use]
    pub fn rank(self) -> f64 {
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl InnerPacket {
    /// Reads the headers of a packet in any form; `None` for anything else.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let inner = Inner::parse(bytes)?;
        let packet = inner.packet();
        if inner.is_v6() {
            let (source, destination) = (packet[8..].first_chunk()?, packet[24..].first_chunk()?);
            return Some(Self::new(
                IpAddr::from(*source as [u8; 16]),
                IpAddr::from(*destination as [u8; 16]),
                packet[6],
                &packet[40..],
            ));
        }
        let (source, destination) = (packet[12..].first_chunk()?, packet[16..].first_chunk()?);
        let fragment = u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff != 0;
        let header_len = usize::from(packet[0] & 0x0f) * 4;
        let rest = if fragment { &[] } else { &packet[header_len..] };
        Some(Self::new(
            IpAddr::from(*source as [u8; 4]),
            IpAddr::from(*destination as [u8; 4]),
            packet[9],
            rest,
        ))
    }

    fn new(source: IpAddr, destination: IpAddr, protocol: u8, rest: &[u8]) -> Self {
        let ports = match (protocol, rest) {
            (TCP | UDP | SCTP, [a, b, c, d, ..]) => {
                (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))
            }
            _ => (0, 0),
        };
        let ends = [(source, ports.0), (destination, ports.1)];
        let (low, high) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
        let mut hash = mix(u64::from(protocol));
        for (address, port) in [low, high] {
            let bits = match address {
                IpAddr::V4(v4) => u128::from(u32::from(v4)),
                IpAddr::V6(v6) => u128::from(v6),
            };
            hash = mix(hash ^ bits as u64);
            hash = mix(hash ^ (bits >> 64) as u64);
            hash = mix(hash ^ u64::from(port));
        }
        Self {
            source,
            destination,
            flow: FlowHash(hash),
        }
    }
}

/// Remembers a value for each flow that was lately in use.
///
/// At [`FlowTable::CAPACITY`] flows a new one takes the place of one that was not used for half of
/// the table's patience. A few of the oldest are looked at for that, never all; if they are all in
/// use the new flow is not remembered.
#[derive(Debug, Clone)]
pub struct FlowTable<V> {
    flows: HashMap<FlowHash, (V, Timestamp)>,
    /// Every flow once: those that were looked at least recently come first.
    order: VecDeque<FlowHash>,
}

impl<V: Copy> FlowTable<V> {
    /// The greatest number of flows.
    pub const CAPACITY: usize = 16 * 1024;
    /// A flow is forgotten when it was not used for so long.
    pub const PATIENCE: Duration = Duration::from_secs(120);
    /// How many flows one packet looks at. Taste: a table that is half stale is swept in no time.
    const LOOKS: usize = 4;

    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self {
            flows: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// The value of a flow.
    #[must_use]
    pub fn get(&self, flow: FlowHash, now: Timestamp) -> Option<V> {
        let (value, used) = self.flows.get(&flow)?;
        (now.since(*used) < Self::PATIENCE).then_some(*value)
    }

    /// Sets the value of a flow.
    pub fn set(&mut self, flow: FlowHash, value: V, now: Timestamp) {
        if let Some(known) = self.flows.get_mut(&flow) {
            *known = (value, now);
        } else if self.flows.len() < Self::CAPACITY || self.forget_one(now) {
            self.flows.insert(flow, (value, now));
            self.order.push_back(flow);
        }
    }

    /// Forgets all flows.
    pub fn clear(&mut self) {
        self.flows.clear();
        self.order.clear();
    }

    /// Forgets the first stale flow among the next few; whether there was one.
    fn forget_one(&mut self, now: Timestamp) -> bool {
        for _ in 0..Self::LOOKS {
            let Some(flow) = self.order.pop_front() else {
                return false;
            };
            let used = self.flows.get(&flow).map(|(_, used)| *used);
            if used.is_none_or(|used| now.since(used) >= Self::PATIENCE / 2) {
                self.flows.remove(&flow);
                return true;
            }
            self.order.push_back(flow);
        }
        false
    }
}

impl<V: Copy> Default for FlowTable<V> {
    fn default() -> Self {
        Self::new()
    }
}

/// The finaliser of splitmix64 (Steele, Lea and Flood 2014): spreads flows evenly. It is no
/// defence: whoever chooses its ports chooses its place in the order of a move, nothing else.
pub(crate) const fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    /// An IPv4 UDP packet without checksums.
    pub(crate) fn udp(
        source: Ipv4Addr,
        destination: Ipv4Addr,
        ports: (u16, u16),
        body: &[u8],
    ) -> Vec<u8> {
        let mut packet = vec![0; 28];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&((28 + body.len()) as u16).to_be_bytes());
        packet[8] = 64;
        packet[9] = UDP;
        packet[12..16].copy_from_slice(&source.octets());
        packet[16..20].copy_from_slice(&destination.octets());
        packet[20..22].copy_from_slice(&ports.0.to_be_bytes());
        packet[22..24].copy_from_slice(&ports.1.to_be_bytes());
        packet[24..26].copy_from_slice(&((8 + body.len()) as u16).to_be_bytes());
        packet.extend_from_slice(body);
        packet
    }

    #[test]
    fn both_directions_of_a_flow_have_one_name() {
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let there = InnerPacket::parse(&udp(a, b, (1000, 53), b"q")).unwrap();
        let back = InnerPacket::parse(&udp(b, a, (53, 1000), b"answer")).unwrap();
        let other = InnerPacket::parse(&udp(a, b, (1001, 53), b"q")).unwrap();
        assert_eq!(there.flow, back.flow);
        assert_ne!(there.flow, other.flow);
        assert_eq!(there.source, IpAddr::V4(a));
    }

    #[test]
    fn a_full_table_keeps_the_flows_in_use() {
        let mut table = FlowTable::new();
        let now = Timestamp::ZERO + Duration::from_secs(1000);
        for flow in 0..FlowTable::<u8>::CAPACITY as u64 + 10 {
            table.set(FlowHash(flow), 1, now);
        }
        assert_eq!(table.get(FlowHash(5), now), Some(1));
        assert_eq!(
            table.get(FlowHash(FlowTable::<u8>::CAPACITY as u64 + 5), now),
            None
        );
        let later = now + FlowTable::<u8>::PATIENCE * 3 / 4;
        table.set(FlowHash(u64::MAX), 2, later);
        assert_eq!(table.get(FlowHash(u64::MAX), later), Some(2));
    }

    #[test]
    fn a_packet_looks_at_few_flows_of_a_full_table() {
        let mut table = FlowTable::new();
        let now = Timestamp::ZERO + Duration::from_secs(1000);
        let full = FlowTable::<u8>::CAPACITY;
        (0..full as u64).for_each(|flow| table.set(FlowHash(flow), 1, now));
        let later = now + FlowTable::<u8>::PATIENCE;
        table.set(FlowHash(3), 1, later);
        for flow in 0..8 {
            table.set(FlowHash(1_000_000 + flow), 2, later);
        }
        assert_eq!((table.flows.len(), table.order.len()), (full, full));
        assert_eq!(
            table.get(FlowHash(3), later),
            Some(1),
            "the one in use stays"
        );
        assert_eq!(table.get(FlowHash(1_000_007), later), Some(2));
        assert!(
            table.flows.contains_key(&FlowHash(9)),
            "one makes room for one"
        );
        assert!(!table.flows.contains_key(&FlowHash(8)));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = InnerPacket::parse(&bytes);
        }

        #[test]
        fn ranks_lie_between_zero_and_one(hash in any::<u64>()) {
            prop_assert!((0.0..1.0).contains(&FlowHash(hash).rank()));
        }
    }
}
