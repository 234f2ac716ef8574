//! Sockets, TUN devices and the thread that drives a [`Machine`](crate::Machine) over them. Linux.
//!
//! ```text
//!   UdpSocket ──batches──▶ ┌─────────┐ ──inner packets──▶ PacketIo (Tun, ChannelIo, StackIo)
//!             ◀─GSO runs── │ Machine │ ◀──batches────────
//!                          └─────────┘ ◀──commands── DriverHandle ◀──events──
//! ```
//!
//! Start from [`Driver::spawn`]. What is absent: no async runtime, no allocation and no lock per
//! packet, no packet policy. Everything that can fail on one datagram or one inner packet is a
//! counter in [`IoCounters`], never an error.

mod alert;
mod channel;
mod clock;
mod driver;
mod error;
mod link;
mod merge;
mod packet;
mod queue;
mod send;
#[cfg(feature = "stack")]
mod stack;
mod stats;
mod tun;
mod turn;
mod udp;
mod virtio;
mod wake;

pub use channel::ChannelIo;
pub use clock::Clock;
pub use driver::{CommandError, CommandSender, Driver, DriverConfig, DriverHandle, EventSink};
pub use error::Error;
pub use link::Link;
pub use packet::{InnerSent, PacketBatch, PacketIo};
#[cfg(feature = "stack")]
pub use stack::{Stack, StackConfig, StackIo, TcpListener, TcpStream, UdpPort};
pub use stats::{IoCounters, IoStats};
pub use tun::Tun;
pub use udp::{Datagram, Received, Sent, UdpBatch, UdpConfig, UdpSocket};

/// Turns what a TUN device with offloads wrote, `len` bytes at the front of `room`, into one of the
/// forms of [`inner`](crate::inner); where it lies. `None` if no kernel writes such a thing. For
/// whoever tests it: the driver does so by itself.
///
/// # Panics
/// If `room` is shorter than `len`.
#[cfg(feature = "testing")]
#[must_use]
pub fn read_device_packet(room: &mut [u8], len: usize) -> Option<std::ops::Range<usize>> {
    virtio::take_in(room, len)
}
