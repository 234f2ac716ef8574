//! The inner side of a member within this process, which can be exchanged while the member runs.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};

use vpnmesh_transport::io::{InnerSent, PacketBatch, PacketIo};

/// A packet I/O that gives way to the next one as soon as it ends.
#[derive(Debug)]
pub(crate) struct Exchangeable {
    current: Box<dyn PacketIo>,
    next: Next,
}

/// Where the next packet I/O is put before the current one is ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Next(Arc<Mutex<Option<Box<dyn PacketIo>>>>);

impl Next {
    pub(crate) fn put(&self, next: Box<dyn PacketIo>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(next);
    }

    fn take(&self) -> Option<Box<dyn PacketIo>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Exchangeable {
    pub(crate) fn new(current: Box<dyn PacketIo>) -> (Self, Next) {
        let next = Next::default();
        let exchangeable = Self {
            current,
            next: next.clone(),
        };
        (exchangeable, next)
    }

    /// The current one has ended: whether there is another.
    fn exchange(&mut self) -> bool {
        let next = self.next.take();
        let found = next.is_some();
        if let Some(next) = next {
            self.current = next;
        }
        found
    }
}

impl PacketIo for Exchangeable {
    fn readable(&self) -> BorrowedFd<'_> {
        self.current.readable()
    }

    fn recv(&mut self, batch: &mut PacketBatch) -> io::Result<usize> {
        match self.current.recv(batch) {
            Err(_) if self.exchange() => self.current.recv(batch),
            outcome => outcome,
        }
    }

    fn send_packet(&mut self, packet: &[u8]) -> io::Result<()> {
        self.current.send_packet(packet)
    }

    fn send(&mut self, from: &[u8], packets: &[Range<usize>]) -> InnerSent {
        let sent = self.current.send(from, packets);
        if sent.packets == 0 && sent.invalid > 0 && self.exchange() {
            return self.current.send(from, packets);
        }
        sent
    }

    fn take_system_calls(&mut self) -> u64 {
        self.current.take_system_calls()
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use vpnmesh_transport::io::ChannelIo;

    use super::*;

    #[test]
    fn the_next_one_takes_over_where_the_first_one_ended() {
        let (mut before, first) = ChannelIo::pair(8).unwrap();
        let (mut after, second) = ChannelIo::pair(8).unwrap();
        let (mut io, next) = Exchangeable::new(Box::new(first));
        before.send_packet(b"before").unwrap();
        after.send_packet(b"after").unwrap();
        let mut batch = PacketBatch::new(8, 1 << 20);
        io.recv(&mut batch).unwrap();
        next.put(Box::new(second));
        drop(before);
        io.recv(&mut batch).unwrap();
        assert_eq!(batch.iter().collect::<Vec<_>>(), [&b"before"[..], b"after"]);
    }

    #[test]
    fn a_packet_that_finds_the_first_one_ended_goes_to_the_next_one() {
        let (before, first) = ChannelIo::pair(8).unwrap();
        let (mut after, second) = ChannelIo::pair(8).unwrap();
        let (mut io, next) = Exchangeable::new(Box::new(first));
        drop(before);
        let send = |io: &mut Exchangeable| io.send(b"one", slice::from_ref(&(0..3)));
        assert_eq!(send(&mut io).invalid, 1, "there is no other yet");
        next.put(Box::new(second));
        assert_eq!(send(&mut io).packets, 1);
        let mut buffer = [0; 3];
        assert_eq!(after.recv_packet(&mut buffer).unwrap(), 3);
    }
}
