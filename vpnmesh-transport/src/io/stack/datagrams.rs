//! UDP of a stack: too simple to need smoltcp.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::flow::Flow;
use super::shared::Shared;
use super::wire::{Outbox, Outgoing};
use crate::inner::{Layers, SUPER_HEAD};
use crate::io::packet::PacketBatch;

/// The open ports and what leaves from them.
#[derive(Debug)]
pub(super) struct Datagrams {
    ports: BTreeMap<u16, Mailbox>,
    outgoing: Outbox, // at most `WAITING`; then senders wait
    mtu: usize,
}

/// One open port.
#[derive(Debug, Default)]
struct Mailbox {
    incoming: VecDeque<(SocketAddr, Vec<u8>)>, // at most `WAITING`; further ones are dropped
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Datagrams {
    pub(super) fn new(mtu: usize) -> Self {
        Self {
            ports: BTreeMap::new(),
            outgoing: Outbox::new(WAITING, mtu),
            mtu,
        }
    }

    pub(super) fn bind(&mut self, port: u16) -> io::Result<()> {
        if self.is_bound(port) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        self.ports.insert(port, Mailbox::default());
        Ok(())
    }

    pub(super) fn is_bound(&self, port: u16) -> bool {
        self.ports.contains_key(&port)
    }

    fn release(&mut self, port: u16) {
        self.ports.remove(&port);
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// A datagram arrived. `WouldBlock` if too many wait to be read.
    pub(super) fn deliver(
        &mut self,
        flow: Flow,
        packet: &[u8],
        layers: Layers,
        wakes: &mut Vec<Waker>,
    ) -> io::Result<()> {
        let mailbox = self.ports.get_mut(&flow.local.port());
        let mailbox = mailbox.ok_or(io::ErrorKind::NotConnected)?;
        if mailbox.incoming.len() >= WAITING {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = &packet[layers.transport + 4..layers.transport + 6];
        let end = layers.transport + usize::from(u16::from_be_bytes([len[0], len[1]]));
        let payload = &packet[layers.payload..end.clamp(layers.payload, packet.len())];
        mailbox.incoming.push_back((flow.remote, payload.to_vec()));
        wakes.extend(mailbox.reader.take());
        Ok(())
    }

    /// Puts a datagram among those that leave. `WouldBlock` if too many wait to leave.
    pub(super) fn send(&mut self, flow: Flow, bytes: &[u8]) -> io::Result<()> {
        let v6 = flow.local.is_ipv6();
        let transport = if v6 { 40 } else { 20 };
        let layers = Layers {
            v6,
            tcp: false,
            transport,
            payload: transport + 8,
        };
        let len = layers.payload + bytes.len();
        if len > self.mtu || flow.remote.port() == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.outgoing.is_full() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let packet = &mut self.outgoing.room(len)[SUPER_HEAD..];
        write_headers(packet, flow, layers);
        packet[layers.payload..].copy_from_slice(bytes);
        self.outgoing.commit(len);
        Ok(())
    }

    /// Moves what leaves into the batch while it has room, and wakes senders.
    pub(super) fn drain(&mut self, batch: &mut PacketBatch, wakes: &mut Vec<Waker>) {
        let full = self.outgoing.is_full();
        self.outgoing.drain(batch, AT_ONCE);
        if full && !self.outgoing.is_full() {
            let ports = self.ports.values_mut();
            wakes.extend(ports.filter_map(|mailbox| mailbox.writer.take()));
        }
    }

    pub(super) fn wake_all(&mut self, wakes: &mut Vec<Waker>) {
        for mailbox in self.ports.values_mut() {
            wakes.extend(mailbox.reader.take());
            wakes.extend(mailbox.writer.take());
        }
    }

    /// The oldest datagram of a port, or the reader waits.
    fn poll_take(&mut self, port: u16, cx: &mut Context<'_>) -> Poll<(SocketAddr, Vec<u8>)> {
        let Some(mailbox) = self.ports.get_mut(&port) else {
            return Poll::Pending; // open as long as its handle
        };
        if let Some(datagram) = mailbox.incoming.pop_front() {
            return Poll::Ready(datagram);
        }
        mailbox.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn wait_for_room(&mut self, port: u16, cx: &mut Context<'_>) {
        if let Some(mailbox) = self.ports.get_mut(&port) {
            mailbox.writer = Some(cx.waker().clone());
        }
    }
}

/// Writes the headers of a UDP packet without checksums.
fn write_headers(packet: &mut [u8], flow: Flow, layers: Layers) {
    let len = packet.len();
    packet[..layers.payload].fill(0);
    match (flow.local.ip(), flow.remote.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            packet[0] = 0x45;
            packet[6] = 0x40; // never fragmented
            (packet[8], packet[9]) = (HOPS, UDP);
            packet[12..16].copy_from_slice(&source.octets());
            packet[16..20].copy_from_slice(&destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            packet[0] = 0x60;
            (packet[6], packet[7]) = (UDP, HOPS);
            packet[8..24].copy_from_slice(&source.octets());
            packet[24..40].copy_from_slice(&destination.octets());
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {} // one family leaves
    }
    let ports = &mut packet[layers.transport..];
    ports[..2].copy_from_slice(&flow.local.port().to_be_bytes());
    ports[2..4].copy_from_slice(&flow.remote.port().to_be_bytes());
    layers.set_length(packet, len);
}

/// A UDP port of a [`Stack`](super::Stack), at the first address of each family.
///
/// At 1024 datagrams that nobody reads further ones are dropped, as by a kernel.
pub struct UdpPort {
    shared: Arc<Shared>,
    local: SocketAddr,
}

impl UdpPort {
    pub(super) fn new(shared: Arc<Shared>, address: IpAddr, port: u16) -> Self {
        Self {
            shared,
            local: SocketAddr::new(address, port),
        }
    }

    /// The first address of the stack, and the port.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Sends one datagram. Waits while 1024 of the stack wait to leave. One task at a time.
    ///
    /// # Errors
    /// `InvalidInput` if it does not fit one packet, `AddrNotAvailable` without an own address of
    /// that family, `BrokenPipe` if the member has stopped.
    pub async fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        let port = self.local.port();
        poll_fn(|cx| {
            self.shared.visit(|host, _| {
                let sent = host.send_datagram(port, to, bytes);
                match sent {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        host.datagrams().wait_for_room(port, cx);
                        Poll::Pending
                    }
                    outcome => Poll::Ready(outcome),
                }
            })
        })
        .await
    }

    /// Waits for the next datagram; its length, and who sent it. What does not fit is cut off. One
    /// task at a time.
    ///
    /// # Errors
    /// `BrokenPipe` if the member has stopped.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (from, datagram) = poll_fn(|cx| {
            self.shared.visit(|host, _| {
                let taken = host.datagrams().poll_take(self.local.port(), cx);
                match (taken, host.check_open()) {
                    (Poll::Pending, Err(error)) => Poll::Ready(Err(error)),
                    (taken, _) => taken.map(Ok),
                }
            })
        })
        .await?;
        let len = datagram.len().min(buffer.len());
        buffer[..len].copy_from_slice(&datagram[..len]);
        Ok((len, from))
    }
}

impl Drop for UdpPort {
    fn drop(&mut self) {
        let port = self.local.port();
        self.shared.visit(|host, _| host.datagrams().release(port));
    }
}

impl fmt::Debug for UdpPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpPort")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

/// Datagrams that may wait, in each direction. Taste.
const WAITING: usize = 1024;
/// Datagrams before the connections have their turn: half a batch. Taste.
const AT_ONCE: usize = 32;
const HOPS: u8 = 64; // RFC 1700 recommends it
const UDP: u8 = 17;
