//! Inner IP packets as members hand them to each other: complete, unfinished, or many in one.
//!
//! ```text
//! | 4 or 6, … |                                complete: an IP packet as any host sends it
//! | 4 or 6 with bit 7 set, … |                 unfinished: its checksums are not filled in
//! | 0x10 | 0 | segment size 2 | 4 or 6, … |    a super-packet: unfinished, to be cut into segments
//! ```
//!
//! A host that sends through a TUN device with offloads leaves checksums, and the cutting of long
//! TCP and UDP sends, to whoever carries them. Every datagram of a session is authenticated, so
//! nobody on the way needs them: the first byte, inside the seal, says what is left to do, and the
//! last member does it or leaves it to its own kernel. The forms add no byte to a full packet (the
//! mark is a bit that no IP version uses); a super-packet travels as one only where it fits.
//!
//! Unfinished packets are TCP or UDP, without fragments and IPv6 extension headers. Their IPv4 and
//! TCP or UDP checksum fields hold nothing of meaning.

/// An inner packet and what is left to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inner<'p> {
    /// The packet; only the lower half of its first byte is certain to be as in an IP packet.
    packet: &'p [u8],
    v6: bool,
    rest: Rest,
}

/// What is left to do with an inner packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Nothing.
    Nothing,
    /// The checksums.
    Checksums(Layers),
    /// Cutting it into segments of so many payload bytes, and their checksums.
    Segments(Layers, usize),
}

/// Where the headers of a TCP or UDP packet lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layers {
    /// Whether it is IPv6.
    pub v6: bool,
    /// Whether it is TCP, else UDP.
    pub tcp: bool,
    /// Where the TCP or UDP header begins.
    pub transport: usize,
    /// Where the payload begins.
    pub payload: usize,
}

impl<'p> Inner<'p> {
    /// Reads any of the three forms; `None` for everything else.
    #[must_use]
    pub fn parse(bytes: &'p [u8]) -> Option<Self> {
        let (packet, segment) = match *bytes {
            [SUPER, 0, low, high, ref packet @ ..] => {
                (packet, Some(usize::from(u16::from_le_bytes([low, high]))))
            }
            _ => (bytes, None),
        };
        let first = *packet.first()?;
        let v6 = match first & 0x70 {
            0x40 => false,
            0x60 => true,
            _ => return None,
        };
        whole(packet, v6)?;
        let unfinished = first & UNFINISHED != 0;
        let rest = match segment {
            None if unfinished => Rest::Checksums(Layers::of(packet, v6)?),
            None => Rest::Nothing,
            Some(_) if unfinished => return None,
            Some(size) => {
                let layers = Layers::of(packet, v6)?;
                let payload = packet.len() - layers.payload;
                if size < MIN_SEGMENT || payload == 0 {
                    return None;
                }
                Rest::Segments(layers, size)
            }
        };
        Some(Self { packet, v6, rest })
    }

    /// The packet, whose first byte may still be marked.
    #[must_use]
    pub const fn packet(&self) -> &'p [u8] {
        self.packet
    }

    /// Whether it is IPv6.
    #[must_use]
    pub const fn is_v6(&self) -> bool {
        self.v6
    }

    /// What is left to do.
    #[must_use]
    pub const fn rest(&self) -> Rest {
        self.rest
    }

    /// How many IP packets it stands for.
    #[must_use]
    pub const fn count(&self) -> usize {
        match self.rest {
            Rest::Nothing | Rest::Checksums(_) => 1,
            Rest::Segments(layers, size) => (self.packet.len() - layers.payload).div_ceil(size),
        }
    }

    /// Hands out what it stands for, as complete IP packets.
    pub fn complete(&self, mut give: impl FnMut(&[u8])) {
        let mut buffer = Vec::new();
        match self.rest {
            Rest::Nothing => give(self.packet),
            Rest::Checksums(layers) => {
                buffer.extend_from_slice(self.packet);
                finish(&mut buffer, layers);
                give(&buffer);
            }
            Rest::Segments(layers, size) => {
                for segment in Segments::new(self.packet, layers, size) {
                    buffer.clear();
                    segment.append(&mut buffer);
                    finish(&mut buffer, layers);
                    give(&buffer);
                }
            }
        }
    }
}

impl Layers {
    /// The layers of a whole TCP or UDP packet; `None` for anything else.
    #[must_use]
    pub fn of(packet: &[u8], v6: bool) -> Option<Self> {
        let (protocol, transport) = if v6 {
            (*packet.get(6)?, 40)
        } else {
            let fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x3fff != 0;
            if fragment {
                return None;
            }
            (*packet.get(9)?, usize::from(packet[0] & 0x0f) * 4)
        };
        let (tcp, length) = match protocol {
            TCP => {
                let length = usize::from(packet.get(transport + 12)? >> 4) * 4;
                (true, if length < 20 { return None } else { length })
            }
            UDP => (false, 8),
            _ => return None,
        };
        let payload = transport + length;
        (payload <= packet.len()).then_some(Self {
            v6,
            tcp,
            transport,
            payload,
        })
    }

    /// Where the checksum of the TCP or UDP header lies, counted from that header.
    #[must_use]
    pub const fn checksum_offset(self) -> usize {
        if self.tcp { 16 } else { 6 }
    }

    /// The checksum of the pseudo header of a packet of `len` bytes, not complemented: what a
    /// kernel that does the rest expects in the field. RFC 9293, section 3.1; RFC 8200, section 8.1.
    #[must_use]
    pub fn pseudo_checksum(self, header: &[u8], len: usize) -> u16 {
        let addresses = if self.v6 {
            &header[8..40]
        } else {
            &header[12..20]
        };
        let protocol = if self.tcp { TCP } else { UDP };
        let sum = add(u64::from(protocol), addresses) + (len - self.transport) as u64;
        fold(sum)
    }

    /// Makes the headers at the front of `header` those of a packet of `len` bytes.
    pub fn set_length(self, header: &mut [u8], len: usize) {
        let of_ip = if self.v6 { (4, len - 40) } else { (2, len) };
        put(header, of_ip.0, of_ip.1);
        if !self.tcp {
            put(header, self.transport + 4, len - self.transport);
        }
    }

    /// Fills in the checksum of an IPv4 header; IPv6 has none.
    pub fn finish_ip(self, header: &mut [u8]) {
        if !self.v6 {
            header[10..12].fill(0);
            let sum = !fold(add(0, &header[..self.transport]));
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        }
    }
}

/// The segments of a super-packet, in order.
#[derive(Debug, Clone)]
pub struct Segments<'p> {
    packet: &'p [u8],
    layers: Layers,
    size: usize,
    next: usize,
    count: usize,
}

/// One segment of a super-packet: unfinished.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'p> {
    header: &'p [u8],
    payload: &'p [u8],
    layers: Layers,
    number: usize,
    offset: usize,
    last: bool,
}

impl<'p> Segments<'p> {
    /// The segments of a super-packet, of `size` payload bytes each, the last one at most.
    #[must_use]
    pub const fn new(packet: &'p [u8], layers: Layers, size: usize) -> Self {
        Self {
            packet,
            layers,
            size,
            next: 0,
            count: (packet.len() - layers.payload).div_ceil(size),
        }
    }
}

impl<'p> Iterator for Segments<'p> {
    type Item = Segment<'p>;

    fn next(&mut self) -> Option<Segment<'p>> {
        if self.next == self.count {
            return None;
        }
        let number = self.next;
        self.next += 1;
        let (header, payload) = self.packet.split_at(self.layers.payload);
        let offset = number * self.size;
        let end = payload.len().min(offset + self.size);
        Some(Segment {
            header,
            payload: &payload[offset..end],
            layers: self.layers,
            number,
            offset,
            last: self.next == self.count,
        })
    }
}

impl Segment<'_> {
    /// Its length as an IP packet.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.header.len() + self.payload.len()
    }

    /// Whether it is empty: never, it has headers.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Writes the segment behind what `to` holds, marked as unfinished.
    pub fn append(&self, to: &mut Vec<u8>) {
        let start = to.len();
        to.extend_from_slice(self.header);
        to.extend_from_slice(self.payload);
        let header = &mut to[start..start + self.header.len()];
        header[0] |= UNFINISHED;
        self.layers.set_length(header, self.len());
        if !self.layers.v6 {
            let id = u16::from_be_bytes([header[4], header[5]]).wrapping_add(self.number as u16);
            header[4..6].copy_from_slice(&id.to_be_bytes());
        }
        if self.layers.tcp {
            let tcp = &mut header[self.layers.transport..];
            let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
            let sequence = sequence.wrapping_add(self.offset as u32);
            tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
            if !self.last {
                tcp[13] &= !(FIN | PSH);
            }
            if self.number > 0 {
                tcp[13] &= !CWR;
            }
        }
    }
}

/// Writes the head of a super-packet of segments of `size` bytes.
#[must_use]
pub const fn super_head(size: u16) -> [u8; SUPER_HEAD] {
    let [low, high] = size.to_le_bytes();
    [SUPER, 0, low, high]
}

/// Makes an unfinished packet a complete one.
pub fn finish(packet: &mut [u8], layers: Layers) {
    packet[0] &= !UNFINISHED;
    layers.finish_ip(packet);
    let at = layers.transport + layers.checksum_offset();
    packet[at..at + 2].fill(0);
    let pseudo = layers.pseudo_checksum(packet, packet.len());
    let sum = !fold(add(u64::from(pseudo), &packet[layers.transport..]));
    // RFC 768: a UDP checksum that comes out as zero is sent as all ones.
    let sum = if sum == 0 && !layers.tcp { 0xffff } else { sum };
    packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// Whether the checksums of a complete packet are right; a UDP packet over IPv4 may have none.
#[must_use]
pub fn is_intact(packet: &[u8], layers: Layers) -> bool {
    let at = layers.transport + layers.checksum_offset();
    let absent = !layers.tcp && !layers.v6 && packet[at..at + 2] == [0, 0]; // RFC 768
    let pseudo = layers.pseudo_checksum(packet, packet.len());
    let sum = || fold(add(u64::from(pseudo), &packet[layers.transport..]));
    let ip = layers.v6 || fold(add(0, &packet[..layers.transport])) == 0xffff;
    ip && (absent || sum() == 0xffff)
}

/// Fills in a checksum over everything from `start`, in a `field` that holds the pseudo header's;
/// `None` if they do not lie in the packet.
pub fn finish_field(packet: &mut [u8], start: usize, field: usize) -> Option<()> {
    if field < start || packet.len() < field + 2 {
        return None;
    }
    let sum = !fold(add(0, &packet[start..]));
    let sum = if sum == 0 { 0xffff } else { sum };
    packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// Where the IP header begins in a packet of any form.
pub(crate) fn ip_at(bytes: &[u8]) -> usize {
    if bytes.first() == Some(&SUPER) {
        SUPER_HEAD
    } else {
        0
    }
}

/// An Internet checksum over a word that was `before` and is `after` now. RFC 1624, equation 3.
pub(crate) fn update(sum: u16, before: u16, after: u16) -> u16 {
    !fold(u64::from(!sum) + u64::from(!before) + u64::from(after))
}

/// Whether the IP header belongs to a packet of exactly this length.
fn whole(packet: &[u8], v6: bool) -> Option<()> {
    let right = if v6 {
        let header = packet.get(..40)?;
        usize::from(u16::from_be_bytes([header[4], header[5]])) + 40 == packet.len()
    } else {
        let header = packet.get(..20)?;
        let header_len = usize::from(header[0] & 0x0f) * 4;
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        header_len >= 20 && total >= header_len && total == packet.len()
    };
    right.then_some(())
}

fn put(header: &mut [u8], at: usize, value: usize) {
    header[at..at + 2].copy_from_slice(&(value as u16).to_be_bytes());
}

/// Adds the 16-bit words of `bytes` to an Internet checksum. RFC 1071.
fn add(mut sum: u64, bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        sum += u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    }
    match *words.remainder() {
        [a] => sum + (u64::from(a) << 8),
        [a, b] => sum + u64::from(u16::from_be_bytes([a, b])),
        [a, b, c] => sum + u64::from(u32::from_be_bytes([a, b, c, 0])),
        _ => sum,
    }
}

const fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Marks the first byte of an unfinished packet.
pub const UNFINISHED: u8 = 0x80;
/// Length of what stands before a super-packet.
pub const SUPER_HEAD: usize = 4;
/// The shortest segments: a datagram stands for 90 packets at most. Linux cuts TCP into no less
/// than 48 bytes.
pub const MIN_SEGMENT: usize = 16;
const SUPER: u8 = 0x10;
const TCP: u8 = 6;
const UDP: u8 = 17;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A complete packet from port 1000 to port 2000, without checksums.
    pub(crate) fn packet(v6: bool, tcp: bool, payload: &[u8]) -> Vec<u8> {
        let mut packet = if v6 { vec![0; 40] } else { vec![0; 20] };
        packet[0] = if v6 { 0x60 } else { 0x45 };
        let protocol = if tcp { TCP } else { UDP };
        if v6 {
            packet[6] = protocol;
            packet[7] = 64;
            packet[8..24].copy_from_slice(&[0xfd; 16]);
            packet[24..40].copy_from_slice(&[0xfc; 16]);
        } else {
            packet[8] = 64;
            packet[9] = protocol;
            packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        }
        packet.extend([0x03, 0xe8, 0x07, 0xd0]);
        if tcp {
            packet.extend(7u32.to_be_bytes());
            packet.extend([0, 0, 0, 9, 0x50, FIN | PSH | 0x10, 1, 0, 0, 0, 0, 0]);
        } else {
            packet.extend([0; 4]);
        }
        packet.extend_from_slice(payload);
        let len = packet.len();
        Layers::of(&packet, v6)
            .unwrap()
            .set_length(&mut packet, len);
        packet
    }

    /// Whether all checksums of a complete packet are there and right.
    pub(crate) fn is_sound(packet: &[u8]) -> bool {
        let v6 = packet[0] >> 4 == 6;
        let layers = Layers::of(packet, v6).unwrap();
        let at = layers.transport + layers.checksum_offset();
        (layers.tcp || packet[at..at + 2] != [0, 0]) && is_intact(packet, layers)
    }

    fn super_packet(size: u16, packet: &[u8]) -> Vec<u8> {
        [&super_head(size)[..], packet].concat()
    }

    fn completed(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        Inner::parse(bytes)
            .unwrap()
            .complete(|packet| all.push(packet.to_vec()));
        all
    }

    #[test]
    fn a_known_header_has_its_known_checksum() {
        // The example of RFC 1071's discussions: Wikipedia, "Internet checksum".
        let mut header = [
            0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0,
            0xc7,
        ];
        let layers = Layers {
            v6: false,
            tcp: false,
            transport: 20,
            payload: 28,
        };
        layers.finish_ip(&mut header);
        assert_eq!(header[10..12], [0xb8, 0x61]);
    }

    #[test]
    fn the_last_segment_alone_ends_a_stream() {
        let long = packet(false, true, &[5; 250]);
        let segments = completed(&super_packet(100, &long));
        let flags: Vec<u8> = segments.iter().map(|segment| segment[33]).collect();
        assert_eq!(flags, [0x10, 0x10, FIN | PSH | 0x10]);
        let sequences: Vec<u8> = segments.iter().map(|segment| segment[27]).collect();
        assert_eq!(sequences, [7, 107, 207]);
        let ids: Vec<u8> = segments.iter().map(|segment| segment[5]).collect();
        assert_eq!(ids, [0, 1, 2]);
    }

    #[test]
    fn what_no_kernel_would_cut_is_refused() {
        let udp = packet(true, false, &[1; 200]);
        assert!(Inner::parse(&super_packet(0, &udp)).is_none());
        assert!(Inner::parse(&super_packet(15, &udp)).is_none());
        assert!(Inner::parse(&super_packet(16, &udp)).is_some());
        let empty = packet(true, false, &[]);
        assert!(Inner::parse(&super_packet(16, &empty)).is_none());
        let mut marked = udp.clone();
        marked[0] |= UNFINISHED;
        assert!(Inner::parse(&super_packet(100, &marked)).is_none());
        let mut icmp = marked;
        icmp[6] = 58;
        assert!(Inner::parse(&icmp).is_none(), "no checksum to fill in");
        icmp[0] &= !UNFINISHED;
        assert_eq!(Inner::parse(&icmp).unwrap().rest(), Rest::Nothing);
    }

    #[test]
    fn a_fragment_is_never_unfinished() {
        let mut fragment = packet(false, false, &[1; 20]);
        fragment[6] = 0x20;
        assert!(Inner::parse(&fragment).is_some());
        fragment[0] |= UNFINISHED;
        assert!(Inner::parse(&fragment).is_none());
    }

    proptest! {
        #[test]
        fn segments_hold_the_payload_and_right_checksums(
            v6 in any::<bool>(),
            tcp in any::<bool>(),
            payload in prop::collection::vec(any::<u8>(), 1..3000),
            size in 50u16..1400,
        ) {
            let long = packet(v6, tcp, &payload);
            let bytes = super_packet(size, &long);
            let segments = completed(&bytes);
            prop_assert_eq!(Inner::parse(&bytes).unwrap().count(), segments.len());
            let mut joined = Vec::new();
            for segment in &segments {
                prop_assert!(is_sound(segment));
                let layers = Layers::of(segment, v6).unwrap();
                prop_assert!(segment.len() - layers.payload <= usize::from(size));
                prop_assert_eq!(Inner::parse(segment).unwrap().rest(), Rest::Nothing);
                joined.extend_from_slice(&segment[layers.payload..]);
            }
            prop_assert_eq!(joined, payload);
        }

        #[test]
        fn an_unfinished_packet_becomes_sound(v6 in any::<bool>(), tcp in any::<bool>(), payload in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut unfinished = packet(v6, tcp, &payload);
            unfinished[0] |= UNFINISHED;
            let all = completed(&unfinished);
            prop_assert!(all.len() == 1 && is_sound(&all[0]));
        }

        #[test]
        fn any_bytes_parse_and_complete_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..120), form in 0usize..3) {
            let mut bytes = bytes;
            if form > 0 && bytes.len() > 8 {
                bytes[0] = [0x45, 0xc5][form - 1];
                let len = bytes.len() as u16;
                bytes[2..4].copy_from_slice(&len.to_be_bytes());
            }
            if let Some(inner) = Inner::parse(&bytes) {
                inner.complete(|packet| assert!(!packet.is_empty()));
            }
        }
    }
}
