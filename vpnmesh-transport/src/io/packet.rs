//! Where inner IP packets come from and go to.

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use crate::inner::Inner;

/// A local source and sink of inner IP packets: a TUN device, an in-process channel, a stack.
///
/// One packet is one whole IP packet without any other header. Calls never wait. A source may give
/// packets in any form of [`inner`](crate::inner); a sink that can only take complete ones has
/// them made by the default of [`Self::send`].
pub trait PacketIo: Debug + Send {
    /// The descriptor that is readable while [`Self::recv`] would bring something.
    fn readable(&self) -> BorrowedFd<'_>;

    /// Fills `batch` with packets until it is full or there are no more; says how many.
    ///
    /// # Errors
    /// No packet will come any more. What is in `batch` is valid.
    fn recv(&mut self, batch: &mut PacketBatch) -> io::Result<usize>;

    /// Writes one complete packet.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room now; everything else is about this packet alone, for
    /// example because it is not IP.
    fn send_packet(&mut self, packet: &[u8]) -> io::Result<()>;

    /// Writes packets in order, in any form: the parts `packets` of `from`. What does not fit or is
    /// refused is dropped and counted.
    fn send(&mut self, from: &[u8], packets: &[Range<usize>]) -> InnerSent {
        let mut sent = InnerSent::default();
        for packet in packets {
            match Inner::parse(&from[packet.clone()]) {
                Some(inner) => inner.complete(|packet| {
                    sent.count(1, packet.len(), &self.send_packet(packet));
                }),
                None => sent.invalid += 1,
            }
        }
        sent
    }

    /// System calls made since this was last asked, for the counters.
    fn take_system_calls(&mut self) -> u64 {
        0
    }
}

const _: Option<&dyn PacketIo> = None; // must stay object safe: a driver holds it in a `Box`

/// What became of the packets of one [`PacketIo::send`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InnerSent {
    /// Packets written.
    pub packets: usize,
    /// Bytes of these.
    pub bytes: usize,
    /// Packets dropped because there was no room.
    pub full: usize,
    /// Packets that were refused.
    pub invalid: usize,
}

impl InnerSent {
    pub(super) fn count(&mut self, packets: usize, bytes: usize, outcome: &io::Result<()>) {
        match outcome {
            Ok(()) => {
                self.packets += packets;
                self.bytes += bytes;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.full += packets,
            Err(_) => self.invalid += packets,
        }
    }
}

/// Packets side by side in one buffer that is allocated once.
#[derive(Debug)]
pub struct PacketBatch {
    buffer: Vec<u8>,
    packets: Vec<Range<usize>>, // in `buffer`, in order; at most `most`
    most: usize,
}

impl PacketBatch {
    /// The largest packet that fits.
    pub const MAX_PACKET: usize = 65_535;
    /// The space for one packet: before it there is room for what a device says of it.
    pub const ROOM: usize = Self::MAX_PACKET + 32;

    /// Room for `most` packets and for `bytes` of them, at the least for one of the largest size.
    #[must_use]
    pub fn new(most: usize, bytes: usize) -> Self {
        Self {
            buffer: vec![0; bytes.max(Self::ROOM)],
            packets: Vec::with_capacity(most.max(1)),
            most: most.max(1),
        }
    }

    /// Space of [`Self::ROOM`] bytes for the next packet; `None` if the batch is full.
    pub fn room(&mut self) -> Option<&mut [u8]> {
        let start = self.end();
        let fits = self.packets.len() < self.most && self.buffer.len() - start >= Self::ROOM;
        fits.then(|| &mut self.buffer[start..start + Self::ROOM])
    }

    /// This part of [`Self::room`] is a packet now.
    ///
    /// # Panics
    /// If it is no part of the room, or there was none.
    pub fn commit(&mut self, packet: Range<usize>) {
        let start = self.end();
        let (from, to) = (start + packet.start, start + packet.end);
        assert!(
            from <= to && to <= self.buffer.len() && self.packets.len() < self.most,
            "a packet lies in the room that there was"
        );
        self.packets.push(from..to);
    }

    /// Adds a copy of `packet`; false if it did not fit.
    pub fn push(&mut self, packet: &[u8]) -> bool {
        match self.room() {
            Some(room) if packet.len() <= Self::MAX_PACKET => {
                room[..packet.len()].copy_from_slice(packet);
                self.commit(0..packet.len());
                true
            }
            Some(_) | None => false,
        }
    }

    /// The packets, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let packets = self.packets.iter();
        packets.map(|packet| &self.buffer[packet.clone()])
    }

    /// How many packets are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether it holds no packet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Forgets all packets.
    pub fn clear(&mut self) {
        self.packets.clear();
    }

    /// The last packet and the space behind it.
    pub(super) fn last_and_rest(&mut self) -> Option<(&mut Range<usize>, &mut [u8])> {
        let last = self.packets.last_mut()?;
        Some((last, &mut self.buffer))
    }

    fn end(&self) -> usize {
        self.packets.last().map_or(0, |last| last.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_out_as_they_went_in() {
        let mut batch = PacketBatch::new(3, 0);
        assert!(batch.push(b""));
        assert!(!batch.push(&[0; PacketBatch::MAX_PACKET + 1]));
        assert_eq!(batch.len(), 1);
        batch.clear();
        assert!(batch.push(b"one"));
        assert!(
            !batch.push(b"two"),
            "no room for the largest packet is left"
        );
        assert_eq!(batch.iter().collect::<Vec<_>>(), [b"one"]);
    }

    #[test]
    fn a_batch_is_full_at_its_number_of_packets() {
        let mut batch = PacketBatch::new(2, 1 << 20);
        assert!(batch.push(b"one") && batch.push(b"two"));
        assert!(batch.room().is_none() && !batch.push(b"three"));
        assert_eq!(batch.iter().collect::<Vec<_>>(), [b"one", b"two"]);
    }
}
