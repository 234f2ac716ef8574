//! Machines for the driver's tests.
#![allow(dead_code, reason = "each test program uses some of it")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vpnmesh_core::Timestamp;
use vpnmesh_transport::{Ecn, Machine, Transmit};

/// Waits until `fd` is readable.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, patience: Duration) {
    let timeout = Timespec {
        tv_sec: patience.as_secs() as i64,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(&timeout)).unwrap(), 1, "nothing came");
}

/// Packets side by side, and where each lies.
pub(crate) fn side_by_side(packets: &[Vec<u8>]) -> (Vec<u8>, Vec<Range<usize>>) {
    let mut end = 0;
    let ranges = packets.iter().map(|packet| {
        end += packet.len();
        end - packet.len()..end
    });
    let ranges = ranges.collect();
    (packets.concat(), ranges)
}

/// With a peer: inner packets to its datagrams and back. Without: every datagram goes back where it
/// came from, and inner packets go back with source and destination exchanged.
#[derive(Default)]
pub(crate) struct Bridge {
    peer: Option<SocketAddr>,
    transmits: VecDeque<Transmit>,
    inner: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
    pub(crate) datagrams: usize,
    pub(crate) out: usize,
    pub(crate) recycled: usize,
}

impl Bridge {
    pub(crate) fn to(peer: SocketAddr) -> Self {
        Self {
            peer: Some(peer),
            ..Self::default()
        }
    }

    fn copy(&mut self, data: &[u8]) -> Vec<u8> {
        self.out += 1;
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(data);
        buffer
    }
}

impl Machine for Bridge {
    type Command = Vec<u8>; // an inner packet, as it is
    type Event = ();

    fn handle_datagram(
        &mut self,
        from: SocketAddr,
        _: Ecn,
        data: &mut [u8],
        _: Timestamp,
    ) -> Option<Range<usize>> {
        self.datagrams += 1;
        if self.peer.is_some() {
            return Some(0..data.len());
        }
        let payload = self.copy(data);
        self.transmits.push_back(Transmit::one(from, payload));
        None
    }

    fn handle_inner(&mut self, packet: &[u8], _: Timestamp) {
        let mut payload = self.copy(packet);
        if let Some(to) = self.peer {
            self.transmits.push_back(Transmit::one(to, payload));
        } else if payload[0] & 0x70 == 0x40 {
            let (source, rest) = payload[12..].split_at_mut(4);
            source.swap_with_slice(&mut rest[..4]);
            let (port, rest) = payload[20..].split_at_mut(2);
            port.swap_with_slice(&mut rest[..2]);
            self.inner.push_back(payload);
        } else {
            self.recycle(payload);
        }
    }

    fn handle_command(&mut self, packet: Vec<u8>, _: Timestamp) {
        self.out += 1;
        self.inner.push_back(packet);
    }

    fn handle_timeout(&mut self, _: Timestamp) {}

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    fn poll_inner(&mut self) -> Option<Vec<u8>> {
        self.inner.pop_front()
    }

    fn poll_event(&mut self) -> Option<()> {
        None
    }

    fn poll_timeout(&self) -> Timestamp {
        Timestamp::MAX
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        self.recycled += 1;
        self.spare.push(buffer);
    }
}

/// Does what it is told and writes down what happens.
pub(crate) struct Script {
    pub(crate) calls: Vec<Call>,
    transmits: VecDeque<Transmit>,
    events: VecDeque<u32>,
    timeout: Timestamp,
    entered: Sender<()>,
    release: Receiver<()>,
    timed_out: Sender<()>,
}

#[derive(Debug, PartialEq, Eq, Clone)]
pub(crate) enum Order {
    Say(u32),
    SayMany(u32),
    Send(SocketAddr),
    /// Says that it is here and goes on once it is released.
    Wait,
    /// Likewise, with a timeout that is due right after the order came.
    WaitThenTimeout,
    TimeoutAfter(Duration),
    Panic,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Call {
    Datagram,
    Timeout,
}

/// The test's side of a [`Script`].
pub(crate) struct Gate {
    pub(crate) entered: Receiver<()>,
    pub(crate) release: Sender<()>,
    pub(crate) timed_out: Receiver<()>,
}

impl Script {
    pub(crate) fn new() -> (Self, Gate) {
        let (entered, entered_here) = channel();
        let (release_here, release) = channel();
        let (timed_out, timed_out_here) = channel();
        let script = Self {
            calls: Vec::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            timeout: Timestamp::MAX,
            entered,
            release,
            timed_out,
        };
        let gate = Gate {
            entered: entered_here,
            release: release_here,
            timed_out: timed_out_here,
        };
        (script, gate)
    }

    fn wait(&mut self) {
        self.entered.send(()).unwrap();
        self.release.recv().unwrap();
    }
}

impl Machine for Script {
    type Command = Order;
    type Event = u32;

    fn handle_datagram(
        &mut self,
        _: SocketAddr,
        _: Ecn,
        _: &mut [u8],
        _: Timestamp,
    ) -> Option<Range<usize>> {
        self.calls.push(Call::Datagram);
        None
    }

    fn handle_inner(&mut self, _: &[u8], _: Timestamp) {}

    fn handle_command(&mut self, order: Order, now: Timestamp) {
        match order {
            Order::Say(word) => self.events.push_back(word),
            Order::SayMany(words) => self.events.extend(0..words),
            Order::Send(to) => self
                .transmits
                .push_back(Transmit::one(to, b"done".to_vec())),
            Order::Wait => self.wait(),
            Order::WaitThenTimeout => {
                self.timeout = now + Duration::from_nanos(1);
                self.wait();
            }
            Order::TimeoutAfter(span) => self.timeout = now + span,
            Order::Panic => panic!("told to"),
        }
    }

    fn handle_timeout(&mut self, now: Timestamp) {
        assert!(self.timeout <= now, "a timeout that is not due");
        self.calls.push(Call::Timeout);
        self.timeout = Timestamp::MAX;
        let _ = self.timed_out.send(());
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    fn poll_inner(&mut self) -> Option<Vec<u8>> {
        None
    }

    fn poll_event(&mut self) -> Option<u32> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Timestamp {
        self.timeout
    }

    fn recycle(&mut self, _: Vec<u8>) {}
}
