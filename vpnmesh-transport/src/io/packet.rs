//! Where inner IP packets come from and go to.

use std::fmt::Debug;
use std::io;
use std::os::fd::BorrowedFd;

/// A local source and sink of inner IP packets: a TUN device, an in-process channel, a stack.
///
/// One packet is one whole IP packet without any other header. Calls never wait: no packet is
/// `WouldBlock`. The batch calls are what a driver uses; their defaults repeat the single ones.
pub trait PacketIo: Debug + Send {
    /// The descriptor that is readable while [`Self::recv`] would bring something.
    fn readable(&self) -> BorrowedFd<'_>;

    /// Reads one packet into `buffer` and says its length.
    ///
    /// # Errors
    /// `WouldBlock` if there is none now; everything else means that no packet will come any more.
    fn recv_packet(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes one packet.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room now; everything else is about this packet alone, for
    /// example because it is not IP.
    fn send_packet(&mut self, packet: &[u8]) -> io::Result<()>;

    /// Fills `batch` with packets until it is full or there are no more; says how many.
    ///
    /// # Errors
    /// No packet will come any more. What is in `batch` is valid.
    fn recv(&mut self, batch: &mut PacketBatch) -> io::Result<usize> {
        let before = batch.len();
        while let Some(room) = batch.room() {
            match self.recv_packet(room) {
                Ok(len) => batch.commit(len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(batch.len() - before)
    }

    /// Writes packets in order. What does not fit or is refused is dropped and counted.
    fn send(&mut self, packets: &[Vec<u8>]) -> InnerSent {
        let mut sent = InnerSent::default();
        for packet in packets {
            sent.count(packet.len(), &self.send_packet(packet));
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
    fn count(&mut self, len: usize, outcome: &io::Result<()>) {
        match outcome {
            Ok(()) => {
                self.packets += 1;
                self.bytes += len;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.full += 1,
            Err(_) => self.invalid += 1,
        }
    }
}

/// Packets side by side in one buffer that is allocated once.
#[derive(Debug)]
pub struct PacketBatch {
    buffer: Vec<u8>,
    ends: Vec<usize>, // of each packet in `buffer`; at most `most`
    most: usize,
}

impl PacketBatch {
    /// The largest packet that fits.
    pub const MAX_PACKET: usize = 65_535;

    /// Room for `most` packets and for `bytes` of them, at the least for one of the largest size.
    #[must_use]
    pub fn new(most: usize, bytes: usize) -> Self {
        Self {
            buffer: vec![0; bytes.max(Self::MAX_PACKET)],
            ends: Vec::with_capacity(most.max(1)),
            most: most.max(1),
        }
    }

    /// Space for the next packet, large enough for any; `None` if the batch is full.
    pub fn room(&mut self) -> Option<&mut [u8]> {
        let start = self.end();
        let fits = self.ends.len() < self.most && self.buffer.len() - start >= Self::MAX_PACKET;
        fits.then(|| &mut self.buffer[start..start + Self::MAX_PACKET])
    }

    /// The first `len` bytes of [`Self::room`] are a packet now.
    ///
    /// # Panics
    /// If `len` is more than the room, or there was none.
    pub fn commit(&mut self, len: usize) {
        assert!(len <= Self::MAX_PACKET, "a packet is at most its room");
        let end = self.end() + len;
        assert!(
            end <= self.buffer.len() && self.ends.len() < self.most,
            "there was room"
        );
        self.ends.push(end);
    }

    /// Adds a copy of `packet`; false if it did not fit.
    pub fn push(&mut self, packet: &[u8]) -> bool {
        match self.room() {
            Some(room) if packet.len() <= room.len() => {
                room[..packet.len()].copy_from_slice(packet);
                self.commit(packet.len());
                true
            }
            Some(_) | None => false,
        }
    }

    /// The packets, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, &end)| &self.buffer[start..end])
    }

    /// How many packets are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it holds no packet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Forgets all packets.
    pub fn clear(&mut self) {
        self.ends.clear();
    }

    fn end(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
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
