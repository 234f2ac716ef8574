//! A UDP socket that moves batches.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};

use super::error::Error;
use super::send::Sender;
use super::stats::IoCounters;
use crate::Ecn;
use crate::machine::Transmit;

/// How a socket is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpConfig {
    /// The local address; port 0 takes a free one. `[::]` serves IPv4 too.
    pub bind: SocketAddr,
    /// Kernel receive buffer in bytes. Too small: bursts are lost while the thread is busy. Too
    /// large: under overload datagrams wait that long before they are looked at. Above the system
    /// limit (`net.core.rmem_max`) only with `CAP_NET_ADMIN`, else cut to it.
    pub receive_buffer: usize,
    /// Kernel send buffer in bytes, likewise.
    pub send_buffer: usize,
}

impl UdpConfig {
    /// The defaults at `bind`: 4 MiB each way.
    #[must_use]
    pub const fn new(bind: SocketAddr) -> Self {
        Self {
            bind,
            receive_buffer: 4 << 20,
            send_buffer: 4 << 20,
        }
    }
}

/// A non-blocking UDP socket, never fragmenting, with coalesced receives and segmented sends.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
    state: UdpSocketState,
    sender: Sender,
    local: SocketAddr,
    receive_buffer: usize,
}

/// What a receive call found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// There may be more.
    More,
    /// Everything that had arrived when the call began is in the batch.
    Drained,
}

/// How a send ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The queue is empty.
    All,
    /// The send buffer is full: wait until the socket is writable.
    Blocked,
}

impl UdpSocket {
    /// Opens a socket at `bind` with the defaults.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn bind(bind: SocketAddr) -> Result<Self, Error> {
        Self::open(&UdpConfig::new(bind))
    }

    /// Opens a socket.
    ///
    /// # Errors
    /// [`Error::PortInUse`], [`Error::AddressNotAvailable`], [`Error::PortDenied`], else
    /// [`Error::Socket`].
    pub fn open(config: &UdpConfig) -> Result<Self, Error> {
        let address = config.bind;
        let fail = |source| refused(address, source);
        let socket = Socket::new(
            Domain::for_address(address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )
        .map_err(fail)?;
        if address.is_ipv6() {
            socket.set_only_v6(false).map_err(fail)?;
        }
        socket.bind(&address.into()).map_err(fail)?;
        Self::set_up(socket, address, config).map_err(fail)
    }

    /// Takes a bound socket over, for example one that was opened in another network namespace.
    ///
    /// # Errors
    /// [`Error::Socket`] if it is not a bound UDP socket.
    pub fn from_std(socket: std::net::UdpSocket) -> Result<Self, Error> {
        let address = socket.local_addr().map_err(|source| Error::Socket {
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            source,
        })?;
        Self::set_up(socket.into(), address, &UdpConfig::new(address))
            .map_err(|source| refused(address, source))
    }

    fn set_up(socket: Socket, address: SocketAddr, config: &UdpConfig) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        stop_timestamps(&socket)?;
        grow_buffers(&socket, config);
        let receive_buffer = socket.recv_buffer_size()?;
        let local = socket
            .local_addr()?
            .as_socket()
            .ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self {
            sender: Sender::new(state.max_gso_segments() > 1, address.is_ipv6()),
            socket,
            state,
            local,
            receive_buffer,
        })
    }

    /// The address that it is bound to, with the port that it got.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The kernel's receive buffer in bytes, overhead included.
    #[must_use]
    pub fn receive_buffer(&self) -> usize {
        self.receive_buffer
    }

    /// Receives a batch; the last one is overwritten.
    ///
    /// # Errors
    /// None is fatal: the socket can be used again.
    pub fn recv(
        &mut self,
        batch: &mut UdpBatch,
        counters: &mut IoCounters,
    ) -> io::Result<Received> {
        batch.filled = 0;
        counters.system_calls += 1;
        let mut slots = batch.storage.chunks_exact_mut(SLOT);
        let mut buffers: [IoSliceMut<'_>; BATCH] = std::array::from_fn(|_| {
            IoSliceMut::new(slots.next().expect("the storage has one slot per message"))
        });
        let result = self.state.recv(
            UdpSockRef::from(&self.socket),
            &mut buffers,
            &mut batch.meta,
        );
        match result {
            Ok(filled) => batch.filled = filled,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(Received::Drained);
            }
            Err(error) => return Err(error),
        }
        for meta in &batch.meta[..batch.filled] {
            counters.rx_datagrams += meta.len.div_ceil(meta.stride.max(1)).max(1) as u64;
            counters.rx_bytes += meta.len as u64;
        }
        counters.rx_batches += 1;
        // The kernel stops early only when nothing is left.
        Ok(if batch.filled < BATCH {
            Received::Drained
        } else {
            Received::More
        })
    }

    /// Sends `queue` in order. Spent payloads go to `spent`, those of dropped datagrams too.
    ///
    /// A datagram that the kernel refuses is a counted drop.
    pub fn send(
        &mut self,
        queue: &mut VecDeque<Transmit>,
        counters: &mut IoCounters,
        mut spent: impl FnMut(Vec<u8>),
    ) -> Sent {
        let mut singly = 0_usize; // transmits at the head that the kernel would not segment
        while let Some(head) = queue.front() {
            if head.count() > 1 && (singly > 0 || !self.sender.segments()) {
                let run = take_apart(queue, &mut spent);
                singly = (singly + run).saturating_sub(1);
            }
            counters.system_calls += 1;
            match self.sender.send(self.socket.as_fd(), queue, singly == 0) {
                Ok(taken) => {
                    counters.tx_batches += 1;
                    singly = singly.saturating_sub(taken);
                    for sent in queue.drain(..taken) {
                        counters.tx_datagrams += sent.count() as u64;
                        counters.tx_bytes += sent.payload.len() as u64;
                        spent(sent.payload);
                    }
                }
                Err((error, _)) if error.kind() == io::ErrorKind::WouldBlock => {
                    counters.tx_waits += 1;
                    return Sent::Blocked;
                }
                Err((error, _)) if error.kind() == io::ErrorKind::Interrupted => {}
                Err((error, run)) if run.is_segmented() => {
                    counters.tx_unsegmented += 1;
                    singly = run.transmits;
                    if error.raw_os_error() == Some(libc::EIO) {
                        self.sender.stop_segmenting();
                    }
                }
                Err((error, _)) => {
                    singly = singly.saturating_sub(1);
                    *drop_counter(&error, counters) += 1;
                    spent(queue.pop_front().expect("the queue is not empty").payload);
                }
            }
        }
        Sent::All
    }

    /// Whether the kernel cuts runs of datagrams for us.
    #[must_use]
    pub fn segments(&self) -> bool {
        self.sender.segments()
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The datagrams of one receive call.
pub struct UdpBatch {
    storage: Vec<u8>, // `BATCH` slots of `SLOT` bytes; pages that no datagram touched cost nothing
    meta: [RecvMeta; BATCH],
    filled: usize,
}

/// One datagram of a batch.
#[derive(Debug)]
pub struct Datagram<'a> {
    /// The peer; IPv4 peers of a dual-stack socket come as IPv4.
    pub from: SocketAddr,
    /// Its payload, to be opened in place.
    pub data: &'a mut [u8],
    /// Where the payload begins in the batch's storage.
    pub(super) start: usize,
    /// The ECN bits of its IP header.
    pub ecn: Ecn,
}

impl UdpBatch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self {
            storage: vec![0; BATCH * SLOT],
            meta: [RecvMeta::default(); BATCH],
            filled: 0,
        }
    }

    /// How many messages were received, each of one or more datagrams.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.filled
    }

    /// Whether nothing was received.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// The datagrams of one message, in order.
    ///
    /// # Panics
    /// If there are not so many messages.
    pub fn message(&mut self, message: usize) -> impl Iterator<Item = Datagram<'_>> {
        let start = message * SLOT;
        let slot = &mut self.storage[start..start + SLOT];
        datagrams(slot, start, &self.meta[..self.filled][message])
    }

    /// All datagrams in the order in which they arrived.
    pub fn datagrams(&mut self) -> impl Iterator<Item = Datagram<'_>> {
        let slots = self.storage.chunks_exact_mut(SLOT).enumerate();
        slots
            .zip(&self.meta[..self.filled])
            .flat_map(|((n, slot), meta)| datagrams(slot, n * SLOT, meta))
    }

    /// Where all datagrams lie.
    pub(super) fn storage(&self) -> &[u8] {
        &self.storage
    }

    /// What the datagrams weigh in the kernel's receive buffer, at the least.
    pub(super) fn weight(&self) -> usize {
        self.meta[..self.filled]
            .iter()
            .map(|meta| meta.len + OVERHEAD * meta.len.div_ceil(meta.stride.max(1)).max(1))
            .sum()
    }
}

impl Default for UdpBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for UdpBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UdpBatch")
            .field("filled", &self.filled)
            .finish_non_exhaustive()
    }
}

/// The datagrams of a message in `slot`, which lies at `start` of the storage.
fn datagrams<'a>(
    slot: &'a mut [u8],
    start: usize,
    meta: &RecvMeta,
) -> impl Iterator<Item = Datagram<'a>> + use<'a> {
    let (len, stride) = (meta.len, meta.stride.max(1));
    let from = unmapped(meta.addr);
    let ecn = meta.ecn.map_or(Ecn::NotEct, |ecn| Ecn::of(ecn as u8));
    let (data, empty) = slot[..len.max(1)].split_at_mut(len);
    let nothing = (len == 0).then_some(&mut empty[..0]);
    let payloads = data.chunks_mut(stride).chain(nothing).enumerate();
    payloads.map(move |(n, data)| Datagram {
        from,
        data,
        start: start + n * stride,
        ecn,
    })
}

/// Replaces the run at the head of `queue` by its datagrams; how many.
fn take_apart(queue: &mut VecDeque<Transmit>, spent: &mut impl FnMut(Vec<u8>)) -> usize {
    let Some(run) = queue.pop_front() else {
        return 0;
    };
    let datagrams: Vec<_> = run.datagrams().map(<[u8]>::to_vec).collect();
    let count = datagrams.len();
    for payload in datagrams.into_iter().rev() {
        let alone = Transmit::one(run.to, payload);
        queue.push_front(Transmit {
            class: run.class,
            ..alone
        });
    }
    spent(run.payload);
    count
}

/// IPv4 peers as IPv4; others with their scope, without which a link-local one has no way back.
fn unmapped(address: SocketAddr) -> SocketAddr {
    let mapped = match address {
        SocketAddr::V4(_) => None,
        SocketAddr::V6(v6) => v6.ip().to_ipv4_mapped(),
    };
    mapped.map_or(address, |v4| SocketAddr::from((v4, address.port())))
}

fn refused(address: SocketAddr, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::AddrInUse => Error::PortInUse { address },
        io::ErrorKind::AddrNotAvailable => Error::AddressNotAvailable { address },
        io::ErrorKind::PermissionDenied => Error::PortDenied { address },
        _ => Error::Socket { address, source },
    }
}

fn drop_counter<'a>(error: &io::Error, counters: &'a mut IoCounters) -> &'a mut u64 {
    match error.raw_os_error() {
        Some(libc::EMSGSIZE) => &mut counters.tx_dropped_too_big,
        Some(libc::ECONNREFUSED) => &mut counters.tx_dropped_refused,
        Some(libc::ENOBUFS | libc::ENOMEM) => &mut counters.tx_dropped_no_buffers,
        Some(
            libc::ENETUNREACH
            | libc::EHOSTUNREACH
            | libc::ENETDOWN
            | libc::EADDRNOTAVAIL
            | libc::EAFNOSUPPORT
            | libc::EINVAL
            | libc::EPERM
            | libc::EACCES,
        ) => &mut counters.tx_dropped_unreachable,
        _ => &mut counters.tx_dropped_other,
    }
}

/// quinn-udp asks for receive timestamps, but its control buffer has no room for them beside the
/// rest: on a coalesced receive the ECN bits fall off.
fn stop_timestamps(socket: &Socket) -> io::Result<()> {
    let off: libc::c_int = 0;
    // SAFETY: the option value is a live `c_int` and its length is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const off).cast(),
            mem::size_of_val(&off) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Past the system limit where this process may, else up to it. Small buffers are no error.
fn grow_buffers(socket: &Socket, config: &UdpConfig) {
    if sockopt::set_socket_recv_buffer_size_force(socket, config.receive_buffer).is_err() {
        let _ = socket.set_recv_buffer_size(config.receive_buffer);
    }
    if sockopt::set_socket_send_buffer_size_force(socket, config.send_buffer).is_err() {
        let _ = socket.set_send_buffer_size(config.send_buffer);
    }
}

/// Messages in one receive call.
const BATCH: usize = quinn_udp::BATCH_SIZE;
/// Bytes of one message: the largest coalesced datagram. No power of two, so that the heads of the
/// slots do not all fall into the same cache sets.
const SLOT: usize = 65_536 + 1_344;
/// What the kernel's bookkeeping of one datagram weighs at the least. Measured: a one-byte datagram
/// takes 768 B.
const OVERHEAD: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TrafficClass;

    #[test]
    fn a_run_that_is_taken_apart_keeps_its_class() {
        let run = Transmit {
            segment: 4,
            class: TrafficClass(0b11),
            ..Transmit::one(([127, 0, 0, 1], 1).into(), vec![5; 10])
        };
        let mut queue = VecDeque::from([run]);
        assert_eq!(take_apart(&mut queue, &mut |_| {}), 3);
        let alone: Vec<_> = queue
            .iter()
            .map(|it| (it.payload.len(), it.class.0))
            .collect();
        assert_eq!(alone, [(4, 0b11), (4, 0b11), (2, 0b11)]);
    }
}
