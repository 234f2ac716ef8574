//! The two ends of a conversation, and the segment size that its SYN agrees on.

use std::net::{IpAddr, SocketAddr};

use crate::inner::Layers;

/// Both ends, as this side sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Flow {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

impl Flow {
    /// Of a TCP or UDP packet that arrived.
    pub(super) fn of(packet: &[u8], layers: Layers) -> Option<Self> {
        let port = |at: usize| Some(u16::from_be_bytes(*packet.get(at..)?.first_chunk()?));
        let (source, destination) = addresses(packet, layers.v6)?;
        Some(Self {
            local: SocketAddr::new(destination, port(layers.transport + 2)?),
            remote: SocketAddr::new(source, port(layers.transport)?),
        })
    }
}

/// Source and destination of an IP packet.
pub(super) fn addresses(packet: &[u8], v6: bool) -> Option<(IpAddr, IpAddr)> {
    if v6 {
        let at = |at: usize| Some(IpAddr::from(*packet.get(at..)?.first_chunk::<16>()?));
        Some((at(8)?, at(24)?))
    } else {
        let at = |at: usize| Some(IpAddr::from(*packet.get(at..)?.first_chunk::<4>()?));
        Some((at(12)?, at(16)?))
    }
}

/// The sequence number of a TCP packet.
pub(super) fn sequence(packet: &[u8], layers: Layers) -> u32 {
    let tcp = &packet[layers.transport..];
    u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]])
}

/// What a TCP packet acknowledges, if it has the flag.
pub(super) fn acknowledgement(packet: &[u8], layers: Layers) -> u32 {
    let tcp = &packet[layers.transport..];
    u32::from_be_bytes([tcp[8], tcp[9], tcp[10], tcp[11]])
}

/// The sequence number behind a TCP packet; `None` if it takes none.
pub(super) fn end(packet: &[u8], layers: Layers) -> Option<u32> {
    let payload = (packet.len() - layers.payload) as u32;
    let flags = flags(packet, layers);
    let len = payload + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
    (len > 0).then(|| sequence(packet, layers).wrapping_add(len))
}

/// The flags of a TCP packet.
pub(super) fn flags(packet: &[u8], layers: Layers) -> u8 {
    packet[layers.transport + 13]
}

/// Makes a SYN that leaves say what a path of `mtu` carries; anything else stays as it is.
///
/// The stack itself sends and takes far longer packets: the transport cuts and joins them.
pub(super) fn advertise(packet: &mut [u8], layers: Layers, mtu: usize) {
    if let Some(field) = segment_field(packet, layers) {
        let most = most_payload(layers, mtu).min(usize::from(u16::MAX)) as u16;
        let told = u16::from_be_bytes([packet[field], packet[field + 1]]);
        packet[field..field + 2].copy_from_slice(&told.min(most).to_be_bytes());
    }
}

/// Reads the segment size from a SYN that arrived, and makes it the stack's unit: [`UNIT`] segments.
/// `None` if it names none: then nothing is changed, and the stack takes 536 bytes.
pub(super) fn widen(packet: &mut [u8], layers: Layers, mtu: usize) -> Option<usize> {
    let field = segment_field(packet, layers)?;
    let told = usize::from(u16::from_be_bytes([packet[field], packet[field + 1]]));
    if told == 0 {
        return None; // as if it were absent, like Linux
    }
    let segment = told.max(LEAST_SEGMENT).min(most_payload(layers, mtu));
    let unit = (segment * UNIT).min(MOST_PAYLOAD) as u16;
    packet[field..field + 2].copy_from_slice(&unit.to_be_bytes());
    Some(segment)
}

/// Where the value of the option "maximum segment size" lies. RFC 9293, section 3.2.
fn segment_field(packet: &[u8], layers: Layers) -> Option<usize> {
    if !layers.tcp || flags(packet, layers) & SYN == 0 {
        return None;
    }
    let mut at = layers.transport + 20;
    while at < layers.payload {
        match (packet[at], packet.get(at + 1).copied()) {
            (END, _) => return None,
            (NOTHING, _) => at += 1,
            (SEGMENT_SIZE, Some(4)) => return (at + 4 <= layers.payload).then_some(at + 2),
            (_, Some(len @ 2..)) => at += usize::from(len),
            (_, _) => return None,
        }
    }
    None
}

/// Payload of a packet of `mtu` bytes whose TCP header has no options.
const fn most_payload(layers: Layers, mtu: usize) -> usize {
    mtu - (layers.transport + 20)
}

/// Segments that the stack handles as one. Congestion control counts in this unit, as one
/// acknowledgement here answers for a whole batch: it is the initial window of RFC 6928.
pub(super) const UNIT: usize = 10;
/// What a peer without the option takes. RFC 9293, section 3.7.1.
pub(super) const DEFAULT_SEGMENT: usize = 536;
/// As Linux, `TCP_MIN_SND_MSS`: options never fill a whole segment.
const LEAST_SEGMENT: usize = 48;
/// Payload of the longest IPv4 packet.
const MOST_PAYLOAD: usize = 65_495;
const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const ACK: u8 = 0x10;
const END: u8 = 0;
const NOTHING: u8 = 1;
const SEGMENT_SIZE: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inner::tests::packet;

    /// A SYN with these options, a multiple of four bytes.
    fn syn(v6: bool, options: &[u8]) -> (Vec<u8>, Layers) {
        let mut packet = packet(v6, true, options);
        let start = if v6 { 40 } else { 20 };
        packet[start + 12] = (((20 + options.len()) / 4) << 4) as u8;
        packet[start + 13] = SYN;
        let layers = Layers::of(&packet, v6).unwrap();
        (packet, layers)
    }

    #[test]
    fn a_syn_says_what_the_path_carries_and_is_read_in_the_unit_of_the_stack() {
        for (v6, fits) in [(false, 1380), (true, 1360)] {
            let (mut packet, layers) = syn(v6, &[1, 1, 1, 1, 2, 4, 0xff, 0xd7]);
            advertise(&mut packet, layers, 1420);
            let before = packet.clone();
            advertise(&mut packet, layers, 9000);
            assert_eq!(packet, before, "it only ever shrinks");
            assert_eq!(widen(&mut packet, layers, 1500), Some(fits));
            assert_eq!(
                widen(&mut packet, layers, 1420),
                Some(fits),
                "{UNIT} times that"
            );
        }
    }

    #[test]
    fn a_syn_without_the_option_stays_as_it_is() {
        for options in [
            &[][..],
            &[0, 2, 4, 9],
            &[2, 4, 0, 0],
            &[3, 0, 2, 4],
            &[2, 3, 1, 1],
        ] {
            let (mut packet, layers) = syn(false, options);
            let before = packet.clone();
            assert_eq!(widen(&mut packet, layers, 1420), None, "{options:?}");
            assert_eq!(packet, before);
        }
    }

    #[test]
    fn both_ends_are_named_from_this_side() {
        for v6 in [false, true] {
            let (packet, layers) = syn(v6, &[]);
            let flow = Flow::of(&packet, layers).unwrap();
            assert_eq!((flow.local.port(), flow.remote.port()), (2000, 1000));
            assert_eq!(flow.local.is_ipv6(), v6);
        }
    }
}
