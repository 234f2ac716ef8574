//! What can go wrong when sockets, devices and threads are opened. Packets never end up here.

use std::io;
use std::net::SocketAddr;

/// Why a socket, a device or the driver could not be set up, or why it ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process holds the port. Nothing was opened.
    #[error(
        "udp port {address} is in use: stop the other program, or listen on another port (port 0 takes any)"
    )]
    PortInUse {
        /// What was asked for.
        address: SocketAddr,
    },

    /// No interface of this machine carries the address. Nothing was opened.
    #[error(
        "udp address {address} is not on this machine: use one that `ip address` lists, or 0.0.0.0 or [::] for all"
    )]
    AddressNotAvailable {
        /// What was asked for.
        address: SocketAddr,
    },

    /// The system refuses the port to this user. Nothing was opened.
    #[error(
        "udp port {address} was refused: ports below 1024 need CAP_NET_BIND_SERVICE; use a higher port"
    )]
    PortDenied {
        /// What was asked for.
        address: SocketAddr,
    },

    /// The socket could not be opened or set up for another reason.
    #[error("cannot open udp socket {address}")]
    Socket {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },

    /// The kernel has no TUN, or this container was not given it.
    #[error(
        "cannot create {name}: /dev/net/tun is missing; load it with `modprobe tun`, give the container the device, or use the userspace mode"
    )]
    TunMissing {
        /// The interface that was asked for.
        name: String,
    },

    /// No right to create or to take the interface.
    #[error(
        "cannot create {name}: it needs CAP_NET_ADMIN (run as root, or `setcap cap_net_admin+ep` on the program), or run in the lab or in userspace mode"
    )]
    TunDenied {
        /// The interface that was asked for.
        name: String,
    },

    /// Another process has the interface open.
    #[error("{name} is held by another program: stop it, or choose another interface name")]
    TunBusy {
        /// The interface that was asked for.
        name: String,
    },

    /// The name cannot be an interface name, or an interface of another kind has it.
    #[error(
        "{name:?} cannot be a TUN interface: use 1 to 15 characters without space or slash, and no name of another kind of interface"
    )]
    TunName {
        /// The interface that was asked for.
        name: String,
    },

    /// The interface could not be opened for another reason.
    #[error("cannot open interface {name}")]
    Tun {
        /// The interface that was asked for.
        name: String,
        /// What the system said.
        source: io::Error,
    },

    /// There is no such interface in this network namespace.
    #[error("there is no interface {name} in this network namespace")]
    LinkMissing {
        /// The interface that was asked for.
        name: String,
    },

    /// No right to configure the interface. Nothing was changed.
    #[error("cannot {what} on {name}: it needs CAP_NET_ADMIN")]
    LinkDenied {
        /// The interface.
        name: String,
        /// The change, such as `add address 10.0.0.1/24`.
        what: String,
    },

    /// The kernel refused a change of the interface. Nothing was changed.
    #[error("cannot {what} on {name}")]
    Link {
        /// The interface.
        name: String,
        /// The change, such as `add address 10.0.0.1/24`.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },

    /// The other end of a channel or the device under a [`PacketIo`](super::PacketIo) is gone. The
    /// driver runs on without it.
    #[error("the local packet I/O ended")]
    PacketIoEnded(#[source] io::Error),

    /// The system gave no thread or no event descriptor. Nothing runs.
    #[error("cannot start the packet thread")]
    Start(#[source] io::Error),

    /// The machine panicked: a bug. Its state is lost.
    #[error("the packet thread died")]
    DriverDied,
}
