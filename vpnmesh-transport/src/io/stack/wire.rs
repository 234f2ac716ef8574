//! What smoltcp takes for its device: one packet in, and packets out in the forms of [`inner`].
//!
//! [`inner`]: crate::inner

use std::collections::VecDeque;
use std::ops::Range;

use smoltcp::phy::{
    Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken,
};
use smoltcp::time::Instant;

use super::flow::{DEFAULT_SEGMENT, advertise, end};
use crate::inner::{Layers, SUPER_HEAD, UNFINISHED, super_head};
use crate::io::packet::PacketBatch;

/// A device for one call of the stack.
pub(super) struct Wire<'w> {
    incoming: Option<&'w [u8]>,
    outgoing: &'w mut dyn Outgoing,
}

/// Where packets go that the stack writes.
pub(super) trait Outgoing {
    /// Room of [`SUPER_HEAD`] bytes and `len` for a packet.
    fn room(&mut self, len: usize) -> &mut [u8];

    /// The room holds the packet now.
    fn commit(&mut self, len: usize);
}

impl<'w> Wire<'w> {
    /// A device on which `packet` arrives.
    pub(super) fn bringing(packet: &'w [u8], outgoing: &'w mut dyn Outgoing) -> Self {
        Self {
            incoming: Some(packet),
            outgoing,
        }
    }

    /// A device on which nothing arrives.
    pub(super) fn taking(outgoing: &'w mut dyn Outgoing) -> Self {
        Self {
            incoming: None,
            outgoing,
        }
    }
}

impl Device for Wire<'_> {
    type RxToken<'t>
        = Incoming<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Leaving<'t>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Incoming<'_>, Leaving<'_>)> {
        let packet = self.incoming.take()?;
        Some((Incoming(packet), Leaving(&mut *self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leaving<'_>> {
        Some(Leaving(&mut *self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut checksum = ChecksumCapabilities::ignored();
        checksum.icmpv4 = Checksum::Both; // the forms know no unfinished ICMP
        checksum.icmpv6 = Checksum::Both;
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = PacketBatch::MAX_PACKET;
        capabilities.checksum = checksum;
        capabilities
    }
}

/// The packet that arrives.
pub(super) struct Incoming<'t>(&'t [u8]);

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Room for one packet that leaves.
pub(super) struct Leaving<'t>(&'t mut dyn Outgoing);

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let packet = &mut self.0.room(len)[SUPER_HEAD..];
        packet[..len.min(HEADERS)].fill(0); // headers are written field by field
        let result = f(packet);
        self.0.commit(len);
        result
    }
}

/// Packets of one connection, straight into the packet thread's batch.
pub(super) struct IntoBatch<'b> {
    batch: &'b mut PacketBatch,
    mtu: usize,
    segment: usize,
    sent: Option<u32>,
    spill: Vec<u8>, // stays empty while the batch has room
}

impl<'b> IntoBatch<'b> {
    /// `segment` is the payload that the peer takes in one packet.
    pub(super) fn new(batch: &'b mut PacketBatch, mtu: usize, segment: usize) -> Self {
        Self {
            batch,
            mtu,
            segment,
            sent: None,
            spill: Vec::new(),
        }
    }

    /// The sequence number behind what was sent, if that took any.
    pub(super) fn sent(&self) -> Option<u32> {
        self.sent
    }
}

impl Outgoing for IntoBatch<'_> {
    fn room(&mut self, len: usize) -> &mut [u8] {
        match self.batch.room() {
            Some(room) => &mut room[..SUPER_HEAD + len],
            None => {
                self.spill.resize(SUPER_HEAD + len, 0);
                &mut self.spill
            }
        }
    }

    fn commit(&mut self, len: usize) {
        if let Some(room) = self.batch.room() {
            let room = &mut room[..SUPER_HEAD + len];
            let plain = &room[SUPER_HEAD..];
            let layers = Layers::of(plain, plain[0] >> 4 == 6).filter(|layers| layers.tcp);
            self.sent = layers.and_then(|layers| end(plain, layers));
            let packet = dress(room, self.mtu, self.segment);
            self.batch.commit(packet);
        }
    }
}

/// Packets that wait for the packet thread. At the bound further ones are dropped, as on a full
/// link.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: VecDeque<(Vec<u8>, Range<usize>)>, // at most `bound`
    writing: Vec<u8>,
    spare: Vec<Vec<u8>>, // at most `bound`
    bound: usize,
    mtu: usize,
}

impl Outbox {
    pub(super) fn new(bound: usize, mtu: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            writing: Vec::new(),
            spare: Vec::new(),
            bound,
            mtu,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= self.bound
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Moves up to `most` packets into the batch while it has room.
    pub(super) fn drain(&mut self, batch: &mut PacketBatch, most: usize) {
        let most = batch.len() + most;
        while batch.len() < most
            && let Some((buffer, packet)) = self.queue.front()
            && batch.push(&buffer[packet.clone()])
        {
            self.spare
                .extend(self.queue.pop_front().map(|(buffer, _)| buffer));
        }
    }
}

impl Outgoing for Outbox {
    fn room(&mut self, len: usize) -> &mut [u8] {
        self.writing = self.spare.pop().unwrap_or_default();
        self.writing.resize(SUPER_HEAD + len, 0);
        &mut self.writing
    }

    fn commit(&mut self, _len: usize) {
        let mut buffer = std::mem::take(&mut self.writing);
        let packet = dress(&mut buffer, self.mtu, DEFAULT_SEGMENT);
        if self.is_full() {
            self.spare.push(buffer);
        } else {
            self.queue.push_back((buffer, packet));
        }
    }
}

/// Gives the packet behind the first [`SUPER_HEAD`] bytes the form in which it travels, in segments
/// of `segment` bytes at most; where it lies then.
fn dress(room: &mut [u8], mtu: usize, segment: usize) -> Range<usize> {
    let (head, packet) = room.split_at_mut(SUPER_HEAD);
    let end = SUPER_HEAD + packet.len();
    let v6 = packet[0] >> 4 == 6;
    let Some(layers) = Layers::of(packet, v6) else {
        finish_header(packet, v6);
        return SUPER_HEAD..end;
    };
    advertise(packet, layers, mtu);
    let segment = segment.min(mtu - layers.payload);
    if layers.tcp && packet.len() - layers.payload > segment {
        head.copy_from_slice(&super_head(segment as u16));
        return 0..end;
    }
    packet[0] |= UNFINISHED;
    SUPER_HEAD..end
}

/// Fills in the header checksum of an IPv4 packet that is neither TCP nor UDP.
fn finish_header(packet: &mut [u8], v6: bool) {
    let len = usize::from(packet[0] & 0x0f) * 4;
    let layers = Layers {
        v6,
        tcp: false,
        transport: len,
        payload: len,
    };
    layers.finish_ip(packet);
}

/// Longer than the headers of any packet that the stack writes.
const HEADERS: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inner::tests::{is_sound, packet};
    use crate::inner::{Inner, Rest};

    /// A packet as it would leave.
    fn dressed(packet: &[u8], segment: usize) -> Vec<u8> {
        let mut room = [&[0; SUPER_HEAD], packet].concat();
        let range = dress(&mut room, 1420, segment);
        room[range].to_vec()
    }

    #[test]
    fn a_long_packet_leaves_in_segments_that_fit_peer_and_path() {
        for (v6, segment, fits) in [(false, 9000, 1380), (true, 9000, 1360), (true, 536, 536)] {
            let left = dressed(&packet(v6, true, &[7; 10_000]), segment);
            let inner = Inner::parse(&left).unwrap();
            assert!(matches!(inner.rest(), Rest::Segments(_, size) if size == fits));
            inner.complete(|segment| assert!(is_sound(segment) && segment.len() <= 1420));
        }
        let left = dressed(&packet(false, true, &[7; 500]), 536);
        let rest = Inner::parse(&left).unwrap().rest();
        assert!(matches!(rest, Rest::Checksums(_)));
    }

    #[test]
    fn what_is_neither_tcp_nor_udp_leaves_complete() {
        let mut echo = packet(false, false, &[1; 20]);
        echo[9] = 1; // ICMP
        let left = dressed(&echo, 536);
        assert_eq!(Inner::parse(&left).unwrap().rest(), Rest::Nothing);
        assert_ne!(left[10..12], [0, 0]);
    }

    #[test]
    fn answers_beyond_the_bound_are_dropped() {
        let answer = packet(false, true, &[]);
        let mut replies = Outbox::new(5, 1420);
        for _ in 0..9 {
            let len = answer.len();
            replies.room(len)[SUPER_HEAD..].copy_from_slice(&answer);
            replies.commit(len);
        }
        let mut batch = PacketBatch::new(1000, 1 << 20);
        replies.drain(&mut batch, 100);
        assert_eq!(batch.len(), 5);
        assert!(replies.is_empty());
    }
}
