//! A Linux TUN device with offloads.
//!
//! One read brings a packet whose checksum is not filled in, or up to 64 KiB of a TCP or UDP send
//! that is not cut into packets yet; one write takes the like. See [`inner`](crate::inner).
#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use vpnmesh_core::Prefix;

use super::error::Error;
use super::link::Link;
use super::merge::Merger;
use super::packet::{InnerSent, PacketBatch, PacketIo};
use super::virtio::{self, Head};

/// An open TUN device. It disappears when this is dropped, unless it was made persistent before.
///
/// The descriptor stays with the network namespace that it was opened in, so it can be given to a
/// thread of another one.
#[derive(Debug)]
pub struct Tun {
    device: OwnedFd,
    link: Link,
    merger: Merger,
    system_calls: u64,
}

impl Tun {
    /// Creates the interface `name`, or takes an existing TUN that nobody holds. A `%d` in the name
    /// becomes a free number. No address, no route, not up.
    ///
    /// # Errors
    /// [`Error::TunMissing`], [`Error::TunDenied`], [`Error::TunBusy`], [`Error::TunName`], else
    /// [`Error::Tun`].
    pub fn open(name: &str) -> Result<Self, Error> {
        let fail = |error| refused(name, error);
        let mut request = request(name).ok_or_else(|| fail(Errno::INVAL))?;
        let device = open(
            "/dev/net/tun",
            OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(fail)?;
        attach(&device, &mut request, FLAGS)
            .or_else(|error| match error {
                // The one that exists may have been made for several queues.
                Errno::INVAL => attach(&device, &mut request, FLAGS | libc::IFF_MULTI_QUEUE),
                other => Err(other),
            })
            .map_err(fail)?;
        offload(&device).map_err(fail)?;
        let link = Link::by_name(&given_name(&request))?;
        Ok(Self {
            device,
            link,
            merger: Merger::new(),
            system_calls: 0,
        })
    }

    /// The interface: its name, and how it is configured later.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Sets the largest inner packet, in bytes.
    ///
    /// # Errors
    /// See [`Link::set_mtu`].
    pub fn set_mtu(&mut self, mtu: u32) -> Result<(), Error> {
        self.link.set_mtu(mtu)
    }

    /// Brings the interface up.
    ///
    /// # Errors
    /// See [`Link::set_up`].
    pub fn set_up(&mut self) -> Result<(), Error> {
        self.link.set_up()
    }

    /// Adds an address with its on-link prefix.
    ///
    /// # Errors
    /// See [`Link::add_address`].
    pub fn add_address(&mut self, address: IpAddr, bits: u8) -> Result<(), Error> {
        self.link.add_address(address, bits)
    }

    /// Sends `prefix` into the tunnel.
    ///
    /// # Errors
    /// See [`Link::add_route`].
    pub fn add_route(&mut self, prefix: Prefix) -> Result<(), Error> {
        self.link.add_route(prefix, None)
    }
}

impl PacketIo for Tun {
    fn readable(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    fn recv(&mut self, batch: &mut PacketBatch) -> io::Result<usize> {
        let before = batch.len();
        while let Some(room) = batch.room() {
            self.system_calls += 1;
            let len = match rustix::io::read(&self.device, &mut *room) {
                Ok(len) => len,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            };
            if let Some(packet) = virtio::take_in(room, len)
                && !virtio::join(batch, &packet)
                && !virtio::bundle(batch, packet.clone())
            {
                batch.commit(packet);
            }
        }
        Ok(batch.len() - before)
    }

    /// What is not an IP packet, or comes while the interface is down, is refused by the kernel.
    fn send_packet(&mut self, packet: &[u8]) -> io::Result<()> {
        self.system_calls += 1;
        let head = Head::COMPLETE.encode();
        rustix::io::writev(&self.device, &[IoSlice::new(&head), IoSlice::new(packet)])?;
        Ok(())
    }

    fn send(&mut self, from: &[u8], packets: &[Range<usize>]) -> InnerSent {
        let mut sent = InnerSent::default();
        let mut rest = packets;
        while !rest.is_empty() {
            let taken = self.merger.gather(from, rest);
            rest = &rest[taken.max(1)..];
            if taken == 0 {
                sent.invalid += 1;
                continue;
            }
            self.system_calls += 1;
            let outcome = self.merger.write(self.device.as_fd(), from);
            let (packets, bytes) = self.merger.load();
            sent.count(packets, bytes, &outcome);
        }
        sent
    }

    fn take_system_calls(&mut self) -> u64 {
        std::mem::take(&mut self.system_calls)
    }
}

/// The request to create or take `name`; `None` if it cannot be a name.
fn request(name: &str) -> Option<libc::ifreq> {
    let bytes = name.as_bytes();
    let odd = |byte: &u8| *byte == 0 || *byte == b'/' || byte.is_ascii_whitespace();
    if bytes.is_empty() || bytes.len() >= libc::IFNAMSIZ || bytes.iter().any(odd) {
        return None;
    }
    // SAFETY: `ifreq` is bytes and integers, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    Some(request)
}

fn attach(device: &OwnedFd, request: &mut libc::ifreq, flags: libc::c_int) -> Result<(), Errno> {
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: `TUNSETIFF` reads and writes one `ifreq`, which is live and exclusively borrowed.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut *request) };
    if result == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// Asks for as much offload as the kernel has: UDP since Linux 6.2, TCP always.
fn offload(device: &OwnedFd) -> Result<(), Errno> {
    let mut result = Err(Errno::INVAL);
    for flags in [TCP_OFFLOADS | UDP_OFFLOADS, TCP_OFFLOADS, 0] {
        // SAFETY: the argument is a number, not a pointer.
        let set = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETOFFLOAD, flags) };
        if set == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        result = Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    result
}

fn given_name(request: &libc::ifreq) -> String {
    let bytes = request.ifr_name.iter().map(|&byte| byte as u8);
    let name: Vec<u8> = bytes.take_while(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&name).into_owned()
}

fn refused(name: &str, error: Errno) -> Error {
    let name = name.to_owned();
    match error {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => Error::TunMissing { name },
        Errno::PERM | Errno::ACCESS => Error::TunDenied { name },
        Errno::BUSY => Error::TunBusy { name },
        Errno::INVAL => Error::TunName { name },
        other => Error::Tun {
            name,
            source: other.into(),
        },
    }
}

const FLAGS: libc::c_int = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
const TCP_OFFLOADS: libc::c_uint =
    libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
const UDP_OFFLOADS: libc::c_uint = libc::TUN_F_USO4 | libc::TUN_F_USO6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_cannot_be_an_interface_is_refused_with_the_way_out() {
        for name in ["", "sixteen-letters-", "a b", "a/b", "a\0b"] {
            let error = Tun::open(name).unwrap_err();
            assert!(matches!(error, Error::TunName { .. }), "{name:?}: {error}");
            assert!(error.to_string().contains("1 to 15 characters"));
        }
    }

    #[test]
    fn each_refusal_names_the_interface_and_the_way_out() {
        for (code, way_out) in [
            (Errno::PERM, "CAP_NET_ADMIN"),
            (Errno::NOENT, "modprobe tun"),
            (Errno::BUSY, "another interface name"),
        ] {
            let text = refused("vm0", code).to_string();
            assert!(text.contains("vm0") && text.contains(way_out), "{text}");
        }
    }
}
