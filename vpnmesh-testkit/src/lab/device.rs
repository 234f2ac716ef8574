//! TUN devices: create, set up, address, route. No program on the machine is needed.
//!
//! Everything acts on the network namespace of the calling thread. The descriptor of a device
//! works in every namespace.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use vpnmesh_core::Prefix;

use super::netlink;

/// A TUN device: one read or write is one IP packet without any header before it.
///
/// The device goes away when its last descriptor is closed.
#[derive(Debug)]
pub struct Tun {
    name: String,
    index: u32,
    fd: OwnedFd,
}

impl Tun {
    /// Creates the device `name` (1 to 15 bytes) in the calling thread's namespace, non-blocking.
    /// It is down and has no address yet.
    ///
    /// # Errors
    /// The kernel's: no TUN support, no right to it, or the name is taken.
    pub fn create(name: &str) -> io::Result<Self> {
        let fd = rustix::fs::open(
            TUN_PATH,
            OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        attach(fd.as_fd(), name)?;
        let index = netlink::index_of(name)?;
        Ok(Self {
            name: name.to_owned(),
            index,
            fd,
        })
    }

    /// Sets the device up with an MTU and a transmit queue of `queue` packets.
    ///
    /// # Errors
    /// The kernel's.
    pub fn up(&self, mtu: u32, queue: u32) -> io::Result<()> {
        netlink::set_link(self.index, Some(mtu), Some(queue))
    }

    /// Adds a host address (/32 or /128).
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_address(&self, address: IpAddr) -> io::Result<()> {
        netlink::add_address(self.index, address, Prefix::host(address).bits())
    }

    /// Takes a host address away.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_address(&self, address: IpAddr) -> io::Result<()> {
        netlink::remove_address(self.index, address, Prefix::host(address).bits())
    }

    /// Routes a prefix into the device, which is up.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_route(&self, to: Prefix) -> io::Result<()> {
        netlink::add_route(self.index, to)
    }

    /// The name of the device.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of the device in its namespace.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// A second descriptor of the same device.
    ///
    /// # Errors
    /// The kernel's: no descriptor left.
    pub fn try_clone_fd(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sets the loopback device of the calling thread's namespace up.
pub(super) fn loopback_up() -> io::Result<()> {
    netlink::set_link(netlink::index_of("lo")?, None, None)
}

/// Binds an open clone device to the interface `name`.
#[allow(unsafe_code)]
fn attach(fd: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let mut request = InterfaceRequest {
        name: [0; libc::IFNAMSIZ],
        flags: (libc::IFF_TUN | libc::IFF_NO_PI) as u16,
        rest: [0; 22],
    };
    if name.is_empty() || name.len() >= libc::IFNAMSIZ {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: the descriptor is open, TUNSETIFF reads and writes one `struct ifreq`, and
    // `InterfaceRequest` has its size and layout and outlives the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `struct ifreq` as TUNSETIFF uses it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: u16,
    rest: [u8; 22],
}

const _: () = assert!(size_of::<InterfaceRequest>() == size_of::<libc::ifreq>());

/// The clone device of the TUN driver.
pub(super) const TUN_PATH: &str = "/dev/net/tun";
