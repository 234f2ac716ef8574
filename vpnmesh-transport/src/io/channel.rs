//! Inner packets between two threads of one process: no device, no privileges.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::error::Error;
use super::packet::{InnerSent, PacketBatch, PacketIo};
use super::queue::{Queue, Refused};
use crate::inner::Inner;

/// One end of an in-process link. Both ends are alike: give one to a driver and keep the other.
///
/// What is sent while the other end's queue is full is dropped, as on a wire. Buffers travel back,
/// so a link in steady state allocates nothing.
#[derive(Debug)]
pub struct ChannelIo {
    incoming: Arc<Queue<Vec<u8>>>,
    outgoing: Arc<Queue<Vec<u8>>>,
    spare: Vec<Vec<u8>>, // read buffers, to be written again; at most `SPARE` between calls
    complete: Vec<Vec<u8>>, // packets of one call of `send`; empty between calls
}

impl ChannelIo {
    /// A link whose two queues hold `bound` packets each.
    ///
    /// # Errors
    /// [`Error::Start`] if the system gave no event descriptor.
    pub fn pair(bound: usize) -> Result<(Self, Self), Error> {
        let bound = bound.max(1);
        let a = Arc::new(Queue::new(bound).map_err(Error::Start)?);
        let b = Arc::new(Queue::new(bound).map_err(Error::Start)?);
        Ok((Self::new(&a, &b), Self::new(&b, &a)))
    }

    fn new(incoming: &Arc<Queue<Vec<u8>>>, outgoing: &Arc<Queue<Vec<u8>>>) -> Self {
        Self {
            incoming: Arc::clone(incoming),
            outgoing: Arc::clone(outgoing),
            spare: Vec::new(),
            complete: Vec::new(),
        }
    }

    /// Copies packets out while `accept` has room for them; their buffers are kept for sending.
    fn take(&mut self, accept: impl FnMut(&Vec<u8>) -> bool) -> io::Result<usize> {
        let kept = self.spare.len();
        let taken = self.incoming.take_while(&mut self.spare, accept);
        for buffer in &mut self.spare[kept..] {
            buffer.clear();
        }
        self.spare.truncate(SPARE);
        taken.ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    /// Reads one packet into `buffer` and says its length; a longer one is cut.
    ///
    /// # Errors
    /// `WouldBlock` if there is none now; everything else means that no packet will come any more.
    pub fn recv_packet(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = None;
        self.take(|packet| {
            if read.is_some() {
                return false;
            }
            let len = packet.len().min(buffer.len());
            buffer[..len].copy_from_slice(&packet[..len]);
            read = Some(len);
            true
        })?;
        read.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }
}

impl PacketIo for ChannelIo {
    fn readable(&self) -> BorrowedFd<'_> {
        self.incoming.as_fd()
    }

    fn send_packet(&mut self, packet: &[u8]) -> io::Result<()> {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(packet);
        self.outgoing.push(buffer).map_err(|(refused, buffer)| {
            self.spare.push(buffer);
            match refused {
                Refused::Full => io::ErrorKind::WouldBlock.into(),
                Refused::Closed => io::ErrorKind::BrokenPipe.into(),
            }
        })
    }

    /// Takes the whole batch under one lock.
    fn recv(&mut self, batch: &mut PacketBatch) -> io::Result<usize> {
        self.take(|packet| batch.push(packet) || packet.len() > PacketBatch::MAX_PACKET)
    }

    /// Puts all packets in under one lock. What is no IP packet goes through as it is.
    fn send(&mut self, from: &[u8], packets: &[Range<usize>]) -> InnerSent {
        let mut sent = InnerSent::default();
        let mut complete = std::mem::take(&mut self.complete);
        let spare = &mut self.spare;
        let mut add = |packet: &[u8]| {
            let mut buffer = spare.pop().unwrap_or_default();
            buffer.extend_from_slice(packet);
            complete.push(buffer);
        };
        for packet in packets {
            let bytes = &from[packet.clone()];
            match Inner::parse(bytes) {
                Some(inner) => inner.complete(&mut add),
                None => add(bytes),
            }
        }
        let (all, mut bytes) = (complete.len(), 0);
        let pushed = self.outgoing.push_all(complete.drain(..), |packet| {
            bytes += packet.len();
            packet
        });
        match pushed {
            Ok(pushed) => {
                sent.packets = pushed;
                sent.bytes = bytes;
                sent.full = all - pushed;
            }
            Err(_) => sent.invalid = all,
        }
        complete.clear();
        self.complete = complete;
        sent
    }
}

impl Drop for ChannelIo {
    fn drop(&mut self) {
        self.incoming.close();
        self.outgoing.close();
    }
}

const SPARE: usize = 256; // some batches; taste

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inner;
    use crate::inner::tests::{is_sound, packet};

    fn received(io: &mut ChannelIo) -> Vec<Vec<u8>> {
        let mut batch = PacketBatch::new(8, 1 << 20);
        io.recv(&mut batch).unwrap();
        batch.iter().map(<[u8]>::to_vec).collect()
    }

    /// Sends packets of one byte each.
    fn send(io: &mut ChannelIo, packets: &[u8]) -> InnerSent {
        let ranges: Vec<_> = (0..packets.len()).map(|at| at..at + 1).collect();
        io.send(packets, &ranges)
    }

    #[test]
    fn packets_arrive_whole_and_in_order_both_ways() {
        let (mut a, mut b) = ChannelIo::pair(8).unwrap();
        a.send_packet(b"one").unwrap();
        assert_eq!(a.send(b"two", &[0..3, 1..1]).packets, 2);
        assert_eq!(received(&mut b), [b"one".to_vec(), b"two".to_vec(), vec![]]);
        b.send_packet(b"back").unwrap();
        let mut buffer = [0; 2];
        assert_eq!(a.recv_packet(&mut buffer).unwrap(), 2);
        assert_eq!(&buffer, b"ba");
        assert_eq!(
            a.recv_packet(&mut buffer).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    }

    #[test]
    fn a_full_link_drops_and_counts() {
        let (mut a, mut b) = ChannelIo::pair(2).unwrap();
        let sent = send(&mut a, &[1, 2, 3]);
        assert_eq!((sent.packets, sent.full, sent.bytes), (2, 1, 2));
        assert_eq!(
            a.send_packet(&[4]).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        assert_eq!(received(&mut b), [vec![1], vec![2]]);
    }

    #[test]
    fn a_batch_without_room_leaves_the_rest_in_the_link() {
        let (mut a, mut b) = ChannelIo::pair(20).unwrap();
        let packets: Vec<_> = (0..10).map(|n| vec![n]).collect();
        send(&mut a, &packets.concat());
        assert_eq!(received(&mut b), packets[..8]);
        assert_eq!(received(&mut b), packets[8..]);
    }

    #[test]
    fn unfinished_packets_arrive_complete() {
        let (mut a, mut b) = ChannelIo::pair(20).unwrap();
        let long = packet(false, true, &[7; 250]);
        let bytes = [&inner::super_head(100)[..], &long].concat();
        assert_eq!(
            a.send(&bytes, std::slice::from_ref(&(0..bytes.len())))
                .packets,
            3
        );
        let segments = received(&mut b);
        assert!(segments.len() == 3 && segments.iter().all(|segment| is_sound(segment)));
    }

    #[test]
    fn the_end_of_the_peer_shows_after_its_last_packet() {
        let (mut a, mut b) = ChannelIo::pair(2).unwrap();
        a.send_packet(b"last").unwrap();
        drop(a);
        assert_eq!(received(&mut b), [b"last".to_vec()]);
        let mut batch = PacketBatch::new(1, 0);
        assert_eq!(
            b.recv(&mut batch).unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
        assert_eq!(send(&mut b, &[1]).invalid, 1);
    }
}
