//! Puts inner packets of one flow together, so that the kernel takes many in one call.
//!
//! Only unfinished packets are merged: they were authenticated on the way, and their checksums are
//! the kernel's to leave out. Segments of one TCP stream must follow each other without a gap, UDP
//! datagrams must be of one size, and nothing else in their headers may differ.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::virtio::{HEAD, Head};
use crate::inner::{Inner, Layers, Rest, UNFINISHED};

/// One write to the device: a header, and payloads where they lie.
pub(super) struct Merger {
    head: [u8; HEAD],
    header: Vec<u8>, // IP and transport header; empty for a complete packet
    payloads: Vec<Range<usize>>, // at most `PARTS`
    bytes: usize,    // of all payloads
    packets: usize,
    parts: Vec<libc::iovec>, // laid out within one call of `write`
}

// SAFETY: the pointers in `parts` are written and read within one call of `write`.
unsafe impl Send for Merger {}

impl Merger {
    pub(super) fn new() -> Self {
        Self {
            head: [0; HEAD],
            header: Vec::with_capacity(120),
            payloads: Vec::with_capacity(PARTS),
            bytes: 0,
            packets: 0,
            parts: Vec::with_capacity(PARTS + 2),
        }
    }

    /// How many IP packets the write holds, and their bytes.
    pub(super) fn load(&self) -> (usize, usize) {
        (self.packets, self.bytes + self.packets * self.header.len())
    }

    /// Takes from the front of `packets` what goes into one write; how many of them. Zero: the
    /// first one is no packet.
    pub(super) fn gather(&mut self, from: &[u8], packets: &[Range<usize>]) -> usize {
        self.header.clear();
        self.payloads.clear();
        let Some((range, inner)) = packets.first().and_then(|range| look(from, range)) else {
            return 0;
        };
        self.packets = inner.count();
        let (layers, size) = match inner.rest() {
            Rest::Nothing => {
                self.head = Head::COMPLETE.encode();
                self.bytes = range.len();
                self.payloads.push(range);
                return 1;
            }
            Rest::Checksums(layers) => (layers, range.len() - layers.payload),
            Rest::Segments(layers, size) => (layers, size),
        };
        let first = inner.packet();
        self.header.extend_from_slice(&first[..layers.payload]);
        self.header[0] &= !UNFINISHED;
        self.payloads.push(range.start + layers.payload..range.end);
        self.bytes = range.len() - layers.payload;
        let mut taken = 1;
        if size > 0 && may_grow(&self.header, layers) {
            taken += self.grow(from, &packets[1..], layers, size);
        }
        self.finish(layers, size);
        taken
    }

    /// Adds packets that continue the first one; how many.
    fn grow(
        &mut self,
        from: &[u8],
        packets: &[Range<usize>],
        layers: Layers,
        size: usize,
    ) -> usize {
        let mut taken = 0;
        for range in packets {
            let full = self.bytes.is_multiple_of(size) && self.payloads.len() < PARTS;
            let Some((range, inner)) = look(from, range).filter(|_| full) else {
                break;
            };
            let added = range.len().saturating_sub(layers.payload);
            let same = match inner.rest() {
                Rest::Checksums(other) => other == layers && added <= size,
                Rest::Segments(other, of) => other == layers && of == size,
                Rest::Nothing => false,
            };
            let packets = self.packets + inner.count();
            let fits = layers.payload + self.bytes + added <= MAX_PACKET
                && (layers.tcp || packets <= UDP_SEGMENTS);
            if !same || added == 0 || !fits || !self.continues(inner.packet(), layers) {
                break;
            }
            self.payloads.push(range.start + layers.payload..range.end);
            self.bytes += added;
            self.packets = packets;
            taken += 1;
            if layers.tcp {
                let ends = inner.packet()[layers.transport + 13] & (FIN | PSH);
                self.header[layers.transport + 13] |= ends;
                if ends != 0 {
                    break;
                }
            }
        }
        taken
    }

    /// Whether `packet` has the same headers and follows what is here.
    fn continues(&self, packet: &[u8], layers: Layers) -> bool {
        let (here, t) = (&self.header[..], layers.transport);
        let same = |range: Range<usize>| here[range.clone()] == packet[range];
        let ip = if layers.v6 {
            here[0] == packet[0] & !UNFINISHED && same(1..4) && same(6..40)
        } else {
            here[0] == packet[0] & !UNFINISHED && same(1..2) && same(6..10) && same(12..t)
        };
        if !layers.tcp {
            return ip && same(t..t + 4);
        }
        let sequence = |header: &[u8]| {
            u32::from_be_bytes([header[t + 4], header[t + 5], header[t + 6], header[t + 7]])
        };
        let next = sequence(here).wrapping_add(self.bytes as u32);
        ip && sequence(packet) == next
            && same(t..t + 4)
            && same(t + 8..t + 13)
            && packet[t + 13] & !(FIN | PSH) == ACK
            && same(t + 14..t + 16)
            && same(t + 18..layers.payload)
    }

    /// Makes the headers those of the whole.
    fn finish(&mut self, layers: Layers, size: usize) {
        let len = layers.payload + self.bytes;
        layers.set_length(&mut self.header, len);
        layers.finish_ip(&mut self.header);
        let field = layers.transport + layers.checksum_offset();
        let pseudo = layers.pseudo_checksum(&self.header, len);
        self.header[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
        let size = if self.packets > 1 { size } else { 0 };
        self.head = Head::unfinished(layers, size).encode();
    }

    /// Makes what was gathered, whose payloads lie in `from`, one packet in `whole`.
    #[cfg(feature = "stack")]
    pub(super) fn join(&self, from: &[u8], whole: &mut Vec<u8>) {
        whole.clear();
        whole.extend_from_slice(&self.header);
        for payload in &self.payloads {
            whole.extend_from_slice(&from[payload.clone()]);
        }
    }

    /// Writes what was gathered, whose payloads lie in `from`.
    pub(super) fn write(&mut self, device: BorrowedFd<'_>, from: &[u8]) -> io::Result<()> {
        self.parts.clear();
        let part = |bytes: &[u8]| libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        self.parts.push(part(&self.head));
        self.parts.push(part(&self.header));
        let payloads = self.payloads.iter();
        self.parts
            .extend(payloads.map(|range| part(&from[range.clone()])));
        // SAFETY: `parts` holds `len` initialised slices of `self` and `from`, which are borrowed
        // until the call returns; the kernel reads them only.
        let written = unsafe {
            libc::writev(
                device.as_raw_fd(),
                self.parts.as_ptr(),
                self.parts.len() as libc::c_int,
            )
        };
        if written < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

impl std::fmt::Debug for Merger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Merger").finish_non_exhaustive()
    }
}

/// The packet at `range` of `from`, and where it lies without the head of a super-packet.
fn look<'p>(from: &'p [u8], range: &Range<usize>) -> Option<(Range<usize>, Inner<'p>)> {
    let inner = Inner::parse(&from[range.clone()])?;
    let start = range.end - inner.packet().len();
    Some((start..range.end, inner))
}

/// Whether anything may stand behind a packet with this header.
fn may_grow(header: &[u8], layers: Layers) -> bool {
    !layers.tcp || header[layers.transport + 13] == ACK
}

/// Payloads in one write: more than 64 KiB of full packets have.
const PARTS: usize = 128;
/// The longest packet that a write takes.
const MAX_PACKET: usize = 65_535;
/// `UDP_MAX_SEGMENTS` of kernels before 6.9.
const UDP_SEGMENTS: usize = 64;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inner::tests::packet;
    use crate::inner::{Segments, super_head};

    /// Packets side by side, and where they lie.
    fn side_by_side(packets: &[Vec<u8>]) -> (Vec<u8>, Vec<Range<usize>>) {
        let mut end = 0;
        let ranges = packets.iter().map(|packet| {
            end += packet.len();
            end - packet.len()..end
        });
        let ranges = ranges.collect();
        (packets.concat(), ranges)
    }

    /// The packets of each write, and whether it is cut by the kernel.
    fn writes(packets: &[Vec<u8>]) -> Vec<usize> {
        let (from, ranges) = side_by_side(packets);
        let (mut merger, mut rest, mut all) = (Merger::new(), &ranges[..], Vec::new());
        while !rest.is_empty() {
            let taken = merger.gather(&from, rest);
            assert!(taken > 0);
            rest = &rest[taken..];
            all.push(merger.load().0);
        }
        all
    }

    fn stream(v6: bool, tcp: bool, len: usize, size: usize) -> Vec<Vec<u8>> {
        let long = packet(v6, tcp, &vec![6; len]);
        let layers = Layers::of(&long, v6).unwrap();
        let segments = Segments::new(&long, layers, size);
        let append = |segment: crate::inner::Segment<'_>| {
            let mut packet = Vec::new();
            segment.append(&mut packet);
            packet
        };
        segments.map(append).collect()
    }

    #[test]
    fn the_segments_of_a_stream_become_what_they_were() {
        for (v6, tcp) in [(false, true), (true, true), (false, false), (true, false)] {
            let segments = stream(v6, tcp, 30_000, 1000);
            let (from, ranges) = side_by_side(&segments);
            let mut merger = Merger::new();
            assert_eq!(merger.gather(&from, &ranges), 30);
            let mut whole = packet(v6, tcp, &[6; 30_000]);
            let layers = Layers::of(&whole, v6).unwrap();
            layers.finish_ip(&mut whole);
            let field = layers.transport + layers.checksum_offset();
            let pseudo = layers.pseudo_checksum(&whole, whole.len());
            whole[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
            assert_eq!(merger.header, whole[..layers.payload]);
            assert_eq!(merger.head, Head::unfinished(layers, 1000).encode());
            assert_eq!(merger.bytes, 30_000);
        }
    }

    #[test]
    fn a_gap_a_short_segment_or_an_end_ends_a_write() {
        let mut lost = stream(false, true, 5000, 1000);
        lost.remove(2);
        assert_eq!(writes(&lost), [2, 2]);
        let mut short = stream(false, true, 4500, 1000);
        short.extend(stream(false, true, 1000, 1000));
        assert_eq!(writes(&short), [5, 1]);
        let swapped: Vec<_> = stream(true, true, 3000, 1000).into_iter().rev().collect();
        assert_eq!(writes(&swapped), [1, 1, 1]);
    }

    #[test]
    fn other_flows_marks_and_complete_packets_are_not_merged() {
        let one = stream(false, false, 200, 100);
        let mut other = one.clone();
        other[1][21] ^= 1;
        assert_eq!(writes(&other), [1, 1]);
        let mut marked = one.clone();
        marked[1][1] = 3;
        assert_eq!(writes(&marked), [1, 1]);
        let mut congested = stream(true, true, 2000, 1000);
        congested[1][1] |= 0x30;
        assert_eq!(writes(&congested), [1, 1]);
        let complete: Vec<_> = (0..2).map(|_| packet(false, false, &[1; 100])).collect();
        assert_eq!(writes(&complete), [1, 1]);
    }

    #[test]
    fn super_packets_of_one_size_become_one() {
        let bundle = |payload: &[u8]| {
            let udp = packet(false, false, payload);
            [&super_head(100)[..], &udp].concat()
        };
        let bundles = [bundle(&[1; 1000]), bundle(&[2; 1000]), bundle(&[3; 350])];
        assert_eq!(writes(&bundles), [24]);
        let many: Vec<_> = (0..10).map(|_| bundle(&[1; 1000])).collect();
        assert_eq!(writes(&many), [60, 40]);
    }

    #[test]
    fn what_is_no_packet_is_left_out() {
        let mut merger = Merger::new();
        assert_eq!(
            merger.gather(&[0xff; 40], std::slice::from_ref(&(0..40))),
            0
        );
        assert_eq!(merger.gather(&[], &[]), 0);
    }
}
