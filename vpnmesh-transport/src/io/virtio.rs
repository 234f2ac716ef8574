//! What a TUN device with offloads says in front of each packet.
//!
//! ```text
//! | flags 1 | gso type 1 | header length 2 | gso size 2 | checksum start 2 | checksum offset 2 |
//! ```
//!
//! In the byte order of the machine. Source: Virtual I/O Device 1.2, section 5.1.6; Linux
//! `include/uapi/linux/virtio_net.h`.

use std::ops::Range;

use super::packet::PacketBatch;
use crate::inner::{self, Layers, MIN_SEGMENT, SUPER_HEAD, UNFINISHED};

/// Length of the header.
pub(super) const HEAD: usize = 10;

/// The header of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Whether the checksum is left to the receiver.
    pub(super) unfinished: bool,
    pub(super) gso_type: u8,
    /// Where the payload begins.
    pub(super) header_len: u16,
    /// Payload bytes of a segment.
    pub(super) gso_size: u16,
    pub(super) checksum_start: u16,
    pub(super) checksum_offset: u16,
}

impl Head {
    pub(super) const COMPLETE: Self = Self {
        unfinished: false,
        gso_type: 0,
        header_len: 0,
        gso_size: 0,
        checksum_start: 0,
        checksum_offset: 0,
    };

    /// Of an unfinished packet, in segments of `size` bytes unless that is zero.
    pub(super) fn unfinished(layers: Layers, size: usize) -> Self {
        let gso_type = match (size, layers.tcp, layers.v6) {
            (0, _, _) => 0,
            (_, true, false) => TCP_V4,
            (_, true, true) => TCP_V6,
            (_, false, _) => UDP,
        };
        Self {
            unfinished: true,
            gso_type,
            header_len: layers.payload as u16,
            gso_size: size as u16,
            checksum_start: layers.transport as u16,
            checksum_offset: layers.checksum_offset() as u16,
        }
    }

    pub(super) fn encode(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[0] = u8::from(self.unfinished) * NEEDS_CHECKSUM;
        bytes[1] = self.gso_type;
        let words = [
            self.header_len,
            self.gso_size,
            self.checksum_start,
            self.checksum_offset,
        ];
        for (to, word) in bytes[2..].chunks_exact_mut(2).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8; HEAD]) -> Self {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            unfinished: bytes[0] & NEEDS_CHECKSUM != 0,
            gso_type: bytes[1] & !ECN,
            header_len: word(2),
            gso_size: word(4),
            checksum_start: word(6),
            checksum_offset: word(8),
        }
    }
}

/// Turns what a read left at the front of `room`, a header and a packet, into one of the forms of
/// [`inner`]; where it lies. `None` if the kernel would not write such a thing.
pub(super) fn take_in(room: &mut [u8], len: usize) -> Option<Range<usize>> {
    let head = Head::decode(room[..len].first_chunk()?);
    let packet = &mut room[HEAD..len];
    let v6 = match *packet.first()? >> 4 {
        4 => false,
        6 => true,
        _ => return Some(HEAD..len), // whoever reads it counts it
    };
    if !head.unfinished {
        return (head.gso_type == 0).then_some(HEAD..len);
    }
    let start = usize::from(head.checksum_start);
    let field = start + usize::from(head.checksum_offset);
    let layers = Layers::of(packet, v6).filter(|layers| {
        layers.transport == start
            && layers.checksum_offset() == field - start
            && (head.gso_type == 0 || head.gso_type == Head::unfinished(*layers, 1).gso_type)
    });
    let Some(layers) = layers else {
        inner::finish_field(packet, start, field)?;
        return (head.gso_type == 0).then_some(HEAD..len);
    };
    let size = usize::from(head.gso_size);
    if head.gso_type == 0 || packet.len() - layers.payload <= size {
        packet[0] |= UNFINISHED;
        return Some(HEAD..len);
    }
    let from = HEAD - SUPER_HEAD;
    room[from..HEAD].copy_from_slice(&inner::super_head(head.gso_size));
    (size >= MIN_SEGMENT).then_some(from..len)
}

/// Puts the last two packets of a batch into one, if the last one continues the other: equal UDP
/// datagrams of one flow that fit one datagram of any path together. True if it did.
pub(super) fn bundle(batch: &mut PacketBatch, next: Range<usize>) -> bool {
    let Some((last, buffer)) = batch.last_and_rest() else {
        return false;
    };
    let (next_start, next_end) = (last.end + next.start, last.end + next.end);
    let is_super = buffer[last.start] & 0xf0 == 0x10;
    let first = last.start + if is_super { SUPER_HEAD } else { 0 };
    let Some(shape) = udp_shape(&buffer[next_start..next_end], UNFINISHED) else {
        return false;
    };
    let marks = if is_super { 0 } else { UNFINISHED };
    let Some(before) = udp_shape(&buffer[first..last.end], marks) else {
        return false;
    };
    let size = if is_super {
        usize::from(u16::from_le_bytes([
            buffer[last.start + 2],
            buffer[last.start + 3],
        ]))
    } else {
        last.end - first - before.payload
    };
    let (held, added) = (
        last.end - first - before.payload,
        next_end - next_start - shape.payload,
    );
    let grown = last.end - first + added;
    if shape != before
        || size < MIN_SEGMENT
        || held % size != 0
        || added == 0
        || added > size
        || grown > BUNDLE
        || !same_flow(&buffer[first..], &buffer[next_start..], shape)
    {
        return false;
    }
    if !is_super {
        // There is room for a head in front of every packet: the kernel's own header was there.
        last.start -= SUPER_HEAD;
        buffer[last.start..first].copy_from_slice(&inner::super_head(size as u16));
        buffer[first] &= !UNFINISHED;
    }
    buffer.copy_within(next_start + shape.payload..next_end, last.end);
    last.end += added;
    shape.set_length(&mut buffer[first..], grown);
    true
}

/// Puts a UDP datagram together again whose two fragments are the last of a batch and `next`, if it
/// is a bit longer than the device's packets but fits a datagram of an Ethernet path: one packet to
/// carry instead of two, and a whole one can be merged with its like at the other end. A checksum
/// that is right is left to the receiver then, as with any other packet of a device. True if it did.
pub(super) fn join(batch: &mut PacketBatch, next: &Range<usize>) -> bool {
    let Some((last, buffer)) = batch.last_and_rest() else {
        return false;
    };
    let (start, next) = (last.start, last.end + next.start..last.end + next.end);
    let Some((len, rest)) = continued(&buffer[start..last.end], &buffer[next.clone()]) else {
        return false;
    };
    buffer.copy_within(next.start + IPV4..next.end, last.end);
    last.end += rest;
    let packet = &mut buffer[start..last.end];
    packet[6..8].fill(0); // no fragment any more
    let Some(layers) = Layers::of(packet, false) else {
        return true; // it has a UDP header: `continued` saw to that
    };
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    layers.finish_ip(packet);
    let has_checksum = packet[26..28] != [0, 0];
    if has_checksum && inner::is_intact(packet, layers) {
        packet[0] |= UNFINISHED;
    }
    true
}

/// The length of the whole datagram and of its second part, if `second` continues `first` and ends
/// it.
fn continued(first: &[u8], second: &[u8]) -> Option<(usize, usize)> {
    let plain = |packet: &[u8]| packet.len() > IPV4 && packet[0] == 0x45 && packet[9] == 17;
    if !plain(first) || !plain(second) || first.len() < IPV4 + 8 {
        return None;
    }
    let place = |packet: &[u8]| u16::from_be_bytes([packet[6], packet[7]]);
    let same = |range: Range<usize>| first[range.clone()] == second[range];
    let (held, rest) = (first.len() - IPV4, second.len() - IPV4);
    let whole = place(first) == MORE_FRAGMENTS
        && usize::from(place(second)) * 8 == held
        && same(1..2)
        && same(4..6)
        && same(8..10)
        && same(12..20);
    let udp = usize::from(u16::from_be_bytes([first[24], first[25]]));
    let len = first.len() + rest;
    (whole && udp == held + rest && len <= JOINED).then_some((len, rest))
}

/// The layers of a UDP packet whose first byte carries these marks.
fn udp_shape(packet: &[u8], marks: u8) -> Option<Layers> {
    let first = *packet.first()?;
    let layers = match first ^ marks {
        0x45 => Layers::of(packet, false)?,
        other if other >> 4 == 6 => Layers::of(packet, true)?,
        _ => return None,
    };
    (!layers.tcp).then_some(layers)
}

/// Whether two UDP packets differ in nothing but lengths, identification and checksums.
fn same_flow(a: &[u8], b: &[u8], layers: Layers) -> bool {
    let ports = layers.transport..layers.transport + 4;
    let same = |range: Range<usize>| a[range.clone()] == b[range];
    let ip = if layers.v6 {
        (a[0] ^ b[0]) & 0x0f == 0 && same(1..4) && same(6..40)
    } else {
        same(1..2) && same(6..10) && same(12..20)
    };
    ip && same(ports)
}

/// As long as a packet may be to fit a datagram on every path, and a bit less.
const BUNDLE: usize = 1190;
/// With its overhead a packet of this length fits 1500 bytes with an outer IPv4 header.
const JOINED: usize = 1440;
/// Length of an IPv4 header without options.
const IPV4: usize = 20;
const MORE_FRAGMENTS: u16 = 0x2000;
const NEEDS_CHECKSUM: u8 = 1;
const TCP_V4: u8 = 1;
const TCP_V6: u8 = 4;
const UDP: u8 = 5;
const ECN: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inner::tests::{is_sound, packet};
    use crate::inner::{Inner, Rest};

    /// What a device would write for a packet.
    fn from_device(head: Head, packet: &[u8]) -> Vec<u8> {
        [&head.encode()[..], packet].concat()
    }

    fn head_of(packet: &[u8], size: usize) -> Head {
        Head::unfinished(Layers::of(packet, packet[0] >> 4 == 6).unwrap(), size)
    }

    fn taken(head: Head, packet: &[u8]) -> Option<Vec<u8>> {
        let mut room = from_device(head, packet);
        let len = room.len();
        let range = take_in(&mut room, len)?;
        Some(room[range].to_vec())
    }

    #[test]
    fn each_kind_of_packet_takes_its_form() {
        for (v6, tcp) in [(false, false), (false, true), (true, false), (true, true)] {
            let long = packet(v6, tcp, &[9; 1000]);
            let complete = taken(Head::COMPLETE, &long).unwrap();
            assert_eq!(Inner::parse(&complete).unwrap().rest(), Rest::Nothing);
            let unfinished = taken(head_of(&long, 0), &long).unwrap();
            let rest = Inner::parse(&unfinished).unwrap().rest();
            assert!(matches!(rest, Rest::Checksums(_)));
            let cut = taken(head_of(&long, 300), &long).unwrap();
            assert_eq!(Inner::parse(&cut).unwrap().count(), 4);
            let fits = taken(head_of(&long, 1000), &long).unwrap();
            assert_eq!(Inner::parse(&fits).unwrap().count(), 1);
        }
    }

    /// The two fragments that a device of MTU 1420 makes of a datagram, as they are read.
    fn fragments(payload: &[u8], sound: bool) -> [Vec<u8>; 2] {
        let mut whole = packet(false, false, payload);
        let layers = Layers::of(&whole, false).unwrap();
        inner::finish(&mut whole, layers);
        whole[27] ^= u8::from(!sound);
        let cut = IPV4 + 1400;
        let mut parts = [whole[..cut].to_vec(), whole[..IPV4].to_vec()];
        parts[1].extend_from_slice(&whole[cut..]);
        for (part, place) in parts.iter_mut().zip([MORE_FRAGMENTS, 1400 / 8]) {
            let len = part.len() as u16;
            part[2..4].copy_from_slice(&len.to_be_bytes());
            part[6..8].copy_from_slice(&place.to_be_bytes());
        }
        parts
    }

    /// What a batch holds once it has read these packets.
    fn read(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut batch = PacketBatch::new(8, 1 << 20);
        for packet in packets {
            let room = batch.room().unwrap();
            let bytes = from_device(Head::COMPLETE, packet);
            room[..bytes.len()].copy_from_slice(&bytes);
            let taken = take_in(room, bytes.len()).unwrap();
            if !join(&mut batch, &taken) {
                batch.commit(taken);
            }
        }
        batch.iter().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn a_datagram_in_two_fragments_is_put_together_again() {
        let payload: Vec<u8> = (0..1400_u32).map(|n| n as u8).collect();
        let [first, second] = fragments(&payload, true);
        let [joined] = &read(&[first.clone(), second.clone()])[..] else {
            panic!("one packet")
        };
        let inner = Inner::parse(joined).unwrap();
        assert!(matches!(inner.rest(), Rest::Checksums(_)));
        inner.complete(|packet| {
            assert!(is_sound(packet) && packet.len() == 1428);
            assert_eq!(packet[28..], payload);
        });
        assert_eq!(read(&[second.clone(), first.clone()]).len(), 2, "overtaken");
        let mut other = second;
        other[5] ^= 1; // of another datagram
        assert_eq!(read(&[first, other]).len(), 2);
    }

    #[test]
    fn a_wrong_checksum_of_a_datagram_in_fragments_stays_wrong() {
        let [joined] = &read(&fragments(&[7; 1400], false))[..] else {
            panic!("one packet")
        };
        assert_eq!(Inner::parse(joined).unwrap().rest(), Rest::Nothing);
        assert!(!is_sound(joined));
    }

    #[test]
    fn what_fits_no_datagram_stays_in_fragments() {
        assert_eq!(read(&fragments(&[7; 1413], true)).len(), 2);
        assert_eq!(read(&fragments(&[7; 1412], true)).len(), 1);
    }

    #[test]
    fn a_checksum_that_is_not_at_the_usual_place_is_filled_in() {
        // An IPv6 UDP packet behind a hop-by-hop header: the kernel asks for its checksum too.
        let plain = packet(true, false, &[3; 33]);
        let mut extended = plain[..40].to_vec();
        extended.extend([17, 0, 1, 4, 0, 0, 0, 0]);
        extended.extend_from_slice(&plain[40..]);
        extended[6] = 0;
        let len = extended.len() as u16 - 40;
        extended[4..6].copy_from_slice(&len.to_be_bytes());
        let pseudo = Layers::of(&plain, true)
            .unwrap()
            .pseudo_checksum(&plain, plain.len());
        extended[54..56].copy_from_slice(&pseudo.to_be_bytes());
        let head = Head {
            unfinished: true,
            checksum_start: 48,
            checksum_offset: 6,
            ..Head::COMPLETE
        };
        let finished = taken(head, &extended).unwrap();
        assert_eq!(Inner::parse(&finished).unwrap().rest(), Rest::Nothing);
        let mut back = plain;
        back[40..].copy_from_slice(&finished[48..]);
        assert!(is_sound(&back));
    }

    #[test]
    fn nonsense_of_a_device_is_no_packet() {
        let udp = packet(false, false, &[1; 100]);
        let head = head_of(&udp, 0);
        let far = Head {
            checksum_start: 5000,
            ..head
        };
        assert_eq!(taken(far, &udp), None);
        assert_eq!(
            taken(
                Head {
                    gso_type: UDP,
                    ..Head::COMPLETE
                },
                &udp
            ),
            None
        );
        assert_eq!(taken(head_of(&udp, 3), &udp), None);
        assert_eq!(taken(head, &[]), None);
        assert_eq!(take_in(&mut [0; 9], 9), None);
    }

    fn bundled(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut batch = PacketBatch::new(100, 1 << 20);
        for packet in packets {
            let room = batch.room().unwrap();
            let bytes = from_device(head_of(packet, 0), packet);
            room[..bytes.len()].copy_from_slice(&bytes);
            let range = take_in(room, bytes.len()).unwrap();
            if !bundle(&mut batch, range.clone()) {
                batch.commit(range);
            }
        }
        batch.iter().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn equal_small_datagrams_travel_together_and_come_apart_again() {
        for v6 in [false, true] {
            let packets: Vec<_> = (0..30).map(|n| packet(v6, false, &[n; 100])).collect();
            let bundles = bundled(&packets);
            assert!(bundles.len() < 4, "{}", bundles.len());
            let mut apart = Vec::new();
            for bundle in &bundles {
                let inner = Inner::parse(bundle).unwrap();
                inner.complete(|packet| {
                    assert!(is_sound(packet));
                    apart.push(packet[Layers::of(packet, v6).unwrap().payload..].to_vec());
                });
            }
            let payloads: Vec<_> = (0..30).map(|n| vec![n; 100]).collect();
            assert_eq!(apart, payloads);
        }
    }

    #[test]
    fn what_differs_travels_alone() {
        let (short, long) = (
            packet(false, false, &[1; 50]),
            packet(false, false, &[2; 60]),
        );
        assert_eq!(bundled(&[short.clone(), long.clone()]).len(), 2);
        assert_eq!(
            bundled(&[long.clone(), short.clone(), short.clone()]).len(),
            2
        );
        let mut other_port = short.clone();
        other_port[21] ^= 1;
        assert_eq!(bundled(&[short.clone(), other_port]).len(), 2);
        let mut other_mark = short.clone();
        other_mark[1] = 1;
        assert_eq!(bundled(&[short.clone(), other_mark]).len(), 2);
        let tcp = packet(false, true, &[1; 50]);
        assert_eq!(bundled(&[tcp.clone(), tcp]).len(), 2);
        let v6 = packet(true, false, &[1; 50]);
        for (at, bit) in [(0, 0x08), (1, 0x10), (1, 0x20)] {
            let mut other_class = v6.clone();
            other_class[at] |= bit;
            assert_eq!(bundled(&[v6.clone(), other_class]).len(), 2);
        }
        assert_eq!(bundled(&[short, v6]).len(), 2);
        let tiny = packet(false, false, &[1; 5]);
        assert_eq!(bundled(&[tiny.clone(), tiny]).len(), 2);
    }
}
