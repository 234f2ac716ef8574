//! TCP and UDP in user space: connections through the tunnel without a device and without privileges.
//!
//! ```text
//!   task ── TcpStream ──┐                         ┌── recv ──▶ packet thread ──▶ tunnel
//!   task ── TcpStream ──┼─▶ Host: TCP of smoltcp ─┤
//!   task ── TcpListener ┘   (one lock, one alarm) └── send ◀── packet thread ◀── tunnel
//! ```
//!
//! [`Stack::new`] gives two ends: a [`StackIo`] for the driver of a member, in place of a TUN
//! device, and a [`Stack`] that dials and listens. There is no thread beside the packet thread: it
//! runs the protocol, and tasks copy in and out of the sockets' buffers.
//!
//! What is fast: the stack hands over ten segments at a time as a super-packet without checksums
//! and takes such in again (see [`inner`](crate::inner)); one batch of packets is one lock, at most
//! one acknowledgement and one wake-up for each connection.
//!
//! What it does not do: fragments, dialing its own addresses, selective retransmission. After three
//! duplicate acknowledgements it sends one unit of ten segments again, after a round trip and 200 ms
//! of silence all that was not acknowledged. A loss is therefore dearer than with the kernel's TCP.

mod alarm;
mod connection;
mod datagrams;
mod flow;
mod host;
mod listener;
mod patience;
mod shared;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use smoltcp::time::Instant;
use vpnmesh_core::{Prefix, Timestamp};

use super::clock::Clock;
use super::error::Error;
use super::packet::{InnerSent, PacketBatch, PacketIo};
use host::Host;
use shared::Shared;

pub use datagrams::UdpPort;
pub use listener::TcpListener;
pub use stream::TcpStream;

/// How a stack works. Each bound says what happens at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackConfig {
    /// The member's inner addresses: packets to others are dropped and counted. Connections leave
    /// from the first address of their family, see [`Self::host_of`]. None: nothing can be dialed.
    pub addresses: Vec<Prefix>,
    /// The longest packet on the wire, in bytes, `1280..=65535`. Default 1420, as with a TUN device:
    /// it fits a path of 1500. Larger: the transport splits each packet in two.
    pub mtu: usize,
    /// Bytes that a connection may hold until the peer has acknowledged them, up to 1 GiB. Default
    /// 1 MiB. A writer waits at it. Small: long paths are slow. Memory is used as it is filled.
    pub send_buffer: usize,
    /// Bytes that a connection may hold until they are read, likewise, rounded down to 65535 times a
    /// power of two, the least of which is 65535. The peer waits at it.
    pub receive_buffer: usize,
    /// Connections at one time, those that are ending included. Default 4096. Beyond it dialing
    /// fails with `QuotaExceeded`, and who comes to a listener is not answered and tries again.
    pub connections: usize,
    /// Connections of one listener that were not accepted yet. Default 256. Beyond it as above.
    pub backlog: usize,
    /// How long a connection may take to open. Default 60 s. Then dialing fails with `TimedOut`.
    pub patience: Duration,
}

impl Default for StackConfig {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            mtu: 1420,
            send_buffer: 1 << 20,
            receive_buffer: 1 << 20,
            connections: 4096,
            backlog: 256,
            patience: Duration::from_secs(60),
        }
    }
}

impl StackConfig {
    /// The address at which the owner of a whole prefix is found: the only one of a single-address
    /// prefix, else the one after the lowest, which is no address of a host.
    #[must_use]
    pub fn host_of(prefix: Prefix) -> IpAddr {
        match prefix.network() {
            IpAddr::V4(lowest) if prefix.bits() < 31 => IpAddr::V4((u32::from(lowest) | 1).into()),
            IpAddr::V6(lowest) if prefix.bits() < 127 => {
                IpAddr::V6((u128::from(lowest) | 1).into())
            }
            only => only,
        }
    }

    /// The same with every value where it may be.
    fn within_bounds(mut self) -> Self {
        self.mtu = self.mtu.clamp(LEAST_MTU, PacketBatch::MAX_PACKET);
        self.send_buffer = self.send_buffer.clamp(LEAST_BUFFER, MOST_BUFFER);
        self.receive_buffer = whole_window(self.receive_buffer.min(MOST_BUFFER));
        self
    }

    /// The address from which to reach `remote`.
    fn source_for(&self, remote: IpAddr) -> Option<IpAddr> {
        let mut own = self.addresses.iter().copied().map(Self::host_of);
        own.find(|own| own.is_ipv4() == remote.is_ipv4())
    }
}

/// The programs' end of a stack: dials and listens. Clones are the same stack.
#[derive(Debug, Clone)]
pub struct Stack {
    shared: Arc<Shared>,
    address: IpAddr,
}

impl Stack {
    /// A stack, and its end for the driver.
    ///
    /// # Errors
    /// [`Error::Start`] if the system gave no event descriptor or no random bytes.
    pub fn new(config: StackConfig) -> Result<(Self, StackIo), Error> {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|_| Error::Start(io::ErrorKind::Other.into()))?;
        let config = config.within_bounds();
        let any = IpAddr::from([0, 0, 0, 0]);
        let address = config
            .addresses
            .first()
            .copied()
            .map_or(any, StackConfig::host_of);
        let host = Host::new(config, u64::from_ne_bytes(seed), instant(Clock.now()));
        let shared = Arc::new(Shared::new(host).map_err(Error::Start)?);
        let stack = Self {
            shared: Arc::clone(&shared),
            address,
        };
        Ok((stack, StackIo { shared }))
    }

    /// The first address of the stack.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Opens a connection. Dropping the future gives it up.
    ///
    /// # Errors
    /// `ConnectionRefused` if nobody listens there, `TimedOut` if nobody answers in time,
    /// `QuotaExceeded` at the most connections, `AddrInUse` if all ports to this peer are taken,
    /// `AddrNotAvailable` without an own address of that family, `Unsupported` for an address of the
    /// stack itself, `BrokenPipe` if the member has stopped.
    pub async fn dial(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let (key, flow) = self.shared.visit(|host, now| host.connect(to, now))?;
        let stream = TcpStream::new(Arc::clone(&self.shared), key, flow);
        stream.opened().await
    }

    /// Listens at a port of all addresses; at a free one for zero.
    ///
    /// # Errors
    /// `AddrInUse` if somebody does already, `BrokenPipe` if the member has stopped.
    pub fn listen(&self, port: u16) -> io::Result<TcpListener> {
        let port = self.shared.visit(|host, _| host.listen(port))?;
        let shared = Arc::clone(&self.shared);
        Ok(TcpListener::new(shared, self.address, port))
    }

    /// Opens a UDP port at the first address of each family; a free one for zero.
    ///
    /// # Errors
    /// As [`Self::listen`].
    pub fn bind(&self, port: u16) -> io::Result<UdpPort> {
        let port = self.shared.visit(|host, _| host.bind(port))?;
        Ok(UdpPort::new(Arc::clone(&self.shared), self.address, port))
    }
}

/// The driver's end of a stack. Once it is dropped, every call on the stack fails with `BrokenPipe`.
#[derive(Debug)]
pub struct StackIo {
    shared: Arc<Shared>,
}

impl PacketIo for StackIo {
    fn readable(&self) -> BorrowedFd<'_> {
        self.shared.as_fd()
    }

    fn recv(&mut self, batch: &mut PacketBatch) -> io::Result<usize> {
        let filled = self.shared.fill(batch);
        self.shared.rest();
        Ok(filled)
    }

    fn send_packet(&mut self, packet: &[u8]) -> io::Result<()> {
        let sent = self.send(packet, slice::from_ref(&(0..packet.len())));
        match sent {
            InnerSent { packets: 1.., .. } => Ok(()),
            InnerSent { full: 1.., .. } => Err(io::ErrorKind::WouldBlock.into()),
            InnerSent { .. } => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Segments of one connection that follow each other go in as one.
    fn send(&mut self, from: &[u8], packets: &[Range<usize>]) -> InnerSent {
        self.shared
            .visit(|host, now| host.take_in(from, packets, now))
    }
}

impl Drop for StackIo {
    fn drop(&mut self) {
        self.shared.visit(|host, _| host.close());
    }
}

/// The greatest window that `bytes` can back, with its scale: 65535 times a power of two. smoltcp
/// takes the window of its SYN for a scaled one and believes a peer that fills it; so the scaled one
/// has to fit too. RFC 7323, section 2.2.
const fn whole_window(bytes: usize) -> usize {
    let mut window = u16::MAX as usize;
    while window * 2 <= bytes {
        window *= 2;
    }
    window
}

/// A time of the dataplane as smoltcp counts it: in microseconds.
fn instant(now: Timestamp) -> Instant {
    Instant::from_micros((now.0 / 1000) as i64)
}

/// Every IPv6 path carries it. RFC 8200, section 5.
const LEAST_MTU: usize = 1280;
/// Some segments. Taste.
const LEAST_BUFFER: usize = 16 << 10;
/// The greatest window that TCP knows. RFC 7323, section 2.2.
const MOST_BUFFER: usize = 1 << 30;
