//! Configures network interfaces over rtnetlink, without external programs.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::net::netdevice::name_to_index;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, sendto,
    socket_with,
};
use vpnmesh_core::Prefix;

use super::error::Error;

/// An interface of this thread's network namespace.
#[derive(Debug)]
pub struct Link {
    name: String,
    index: u32,
    netlink: OwnedFd,
    sequence: u32,
}

impl Link {
    /// The interface called `name`.
    ///
    /// # Errors
    /// [`Error::LinkMissing`], or [`Error::Link`] if there is no netlink here.
    pub fn by_name(name: &str) -> Result<Self, Error> {
        let netlink = open().map_err(|source| Error::Link {
            name: name.to_owned(),
            what: "open netlink".to_owned(),
            source,
        })?;
        let index = index_of(name).map_err(|_| Error::LinkMissing {
            name: name.to_owned(),
        })?;
        Ok(Self {
            name: name.to_owned(),
            index,
            netlink,
            sequence: 0,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its index.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Sets the largest packet that the interface takes, in bytes.
    ///
    /// # Errors
    /// [`Error::LinkDenied`] or [`Error::Link`].
    pub fn set_mtu(&mut self, mtu: u32) -> Result<(), Error> {
        let message = self
            .link_message(RTM_NEWLINK, 0)
            .attribute(IFLA_MTU, &mtu.to_ne_bytes());
        self.request(message, || format!("set mtu {mtu}"))
    }

    /// Brings the interface up.
    ///
    /// # Errors
    /// [`Error::LinkDenied`] or [`Error::Link`].
    pub fn set_up(&mut self) -> Result<(), Error> {
        let message = self.link_message(RTM_NEWLINK, IFF_UP);
        self.request(message, || "bring it up".to_owned())
    }

    /// Removes the interface itself.
    ///
    /// # Errors
    /// [`Error::LinkDenied`] or [`Error::Link`].
    pub fn remove(mut self) -> Result<(), Error> {
        let message = self.link_message(RTM_DELLINK, 0);
        self.request(message, || "remove it".to_owned())
    }

    /// Adds `address` with an on-link prefix of `bits`. An address that is there already stays.
    ///
    /// # Errors
    /// [`Error::LinkDenied`] or [`Error::Link`].
    pub fn add_address(&mut self, address: IpAddr, bits: u8) -> Result<(), Error> {
        let message = self.address_message(RTM_NEWADDR, CREATE | REPLACE, address, bits);
        self.request(message, || format!("add address {address}/{bits}"))
    }

    /// Removes an address. One that is not there is an error.
    ///
    /// # Errors
    /// [`Error::LinkDenied`] or [`Error::Link`].
    pub fn remove_address(&mut self, address: IpAddr, bits: u8) -> Result<(), Error> {
        let message = self.address_message(RTM_DELADDR, 0, address, bits);
        self.request(message, || format!("remove address {address}/{bits}"))
    }

    /// Sends `prefix` out of this interface, by way of `gateway` if given. Replaces a route to the
    /// same prefix.
    ///
    /// # Errors
    /// [`Error::LinkDenied`] or [`Error::Link`].
    pub fn add_route(&mut self, prefix: Prefix, gateway: Option<IpAddr>) -> Result<(), Error> {
        let message = self.route_message(RTM_NEWROUTE, CREATE | REPLACE, prefix, gateway);
        self.request(message, || format!("add route {prefix}"))
    }

    /// Removes the route to `prefix` out of this interface.
    ///
    /// # Errors
    /// [`Error::LinkDenied`] or [`Error::Link`].
    pub fn remove_route(&mut self, prefix: Prefix) -> Result<(), Error> {
        let message = self.route_message(RTM_DELROUTE, 0, prefix, None);
        self.request(message, || format!("remove route {prefix}"))
    }

    fn link_message(&self, kind: u16, flags: u32) -> Message {
        Message::new(kind, 0)
            .bytes(&[0; 4]) // family, padding, type
            .bytes(&self.index.to_ne_bytes())
            .bytes(&flags.to_ne_bytes())
            .bytes(&flags.to_ne_bytes()) // which flags are meant
    }

    fn address_message(&self, kind: u16, flags: u16, address: IpAddr, bits: u8) -> Message {
        let octets = Octets::of(address);
        let no_detection = if address.is_ipv6() { IFA_F_NODAD } else { 0 };
        Message::new(kind, flags)
            .bytes(&[family(address), bits, no_detection, RT_SCOPE_UNIVERSE])
            .bytes(&self.index.to_ne_bytes())
            .attribute(IFA_LOCAL, octets.as_ref())
            .attribute(IFA_ADDRESS, octets.as_ref())
    }

    fn route_message(
        &self,
        kind: u16,
        flags: u16,
        prefix: Prefix,
        gateway: Option<IpAddr>,
    ) -> Message {
        let network = prefix.network();
        let scope = match (kind, gateway) {
            (RTM_DELROUTE, _) => RT_SCOPE_NOWHERE, // any
            (_, Some(_)) => RT_SCOPE_UNIVERSE,
            (_, None) if network.is_ipv6() => RT_SCOPE_UNIVERSE,
            (_, None) => RT_SCOPE_LINK,
        };
        let message = Message::new(kind, flags)
            .bytes(&[family(network), prefix.bits(), 0, 0])
            .bytes(&[RT_TABLE_MAIN, RTPROT_STATIC, scope, RTN_UNICAST])
            .bytes(&[0; 4]) // flags
            .attribute(RTA_DST, Octets::of(network).as_ref())
            .attribute(RTA_OIF, &self.index.to_ne_bytes());
        match gateway {
            Some(gateway) => message.attribute(RTA_GATEWAY, Octets::of(gateway).as_ref()),
            None => message,
        }
    }

    fn request(&mut self, message: Message, what: impl Fn() -> String) -> Result<(), Error> {
        self.sequence += 1;
        exchange(&self.netlink, &message.finish(self.sequence), self.sequence).map_err(|source| {
            let (name, what) = (self.name.clone(), what());
            match source.raw_os_error() {
                Some(libc::EPERM) => Error::LinkDenied { name, what },
                _ => Error::Link { name, what, source },
            }
        })
    }
}

/// A netlink request in the making; layout in rtnetlink(7).
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; 4]; // length, set at the end
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(REQUEST | ACK | flags).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]); // sequence, set at the end; port
        Self(bytes)
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn attribute(self, kind: u16, value: &[u8]) -> Self {
        let len = (ATTRIBUTE_HEADER + value.len()) as u16;
        let padding = [0; 3];
        self.bytes(&len.to_ne_bytes())
            .bytes(&kind.to_ne_bytes())
            .bytes(value)
            .bytes(&padding[..value.len().next_multiple_of(4) - value.len()])
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

enum Octets {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl Octets {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::V4(v4.octets()),
            IpAddr::V6(v6) => Self::V6(v6.octets()),
        }
    }
}

impl AsRef<[u8]> for Octets {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::V4(octets) => octets,
            Self::V6(octets) => octets,
        }
    }
}

fn family(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    family as u8
}

fn open() -> io::Result<OwnedFd> {
    let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
    Ok(socket_with(
        family,
        SocketType::RAW,
        flags,
        None, // NETLINK_ROUTE is protocol 0
    )?)
}

fn index_of(name: &str) -> io::Result<u32> {
    let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
    let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
    Ok(name_to_index(&socket, name)?)
}

/// Sends one request and waits for its acknowledgement, which the kernel writes before the send
/// returns.
fn exchange(socket: &OwnedFd, request: &[u8], sequence: u32) -> io::Result<()> {
    let kernel = netlink::SocketAddrNetlink::new(0, 0);
    sendto(socket, request, SendFlags::empty(), &kernel)?;
    let mut buffer = [0; 4096];
    loop {
        let (filled, _) = recv(socket, &mut buffer[..], RecvFlags::empty())?;
        if let Some(outcome) = acknowledgement(&buffer[..filled], sequence) {
            return outcome;
        }
    }
}

/// The outcome of request `sequence` if this is its answer.
fn acknowledgement(answer: &[u8], sequence: u32) -> Option<io::Result<()>> {
    let word = |at: usize| answer.get(at..at + 4)?.try_into().ok();
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    if kind != NLMSG_ERROR || u32::from_ne_bytes(word(8)?) != sequence {
        return None;
    }
    match i32::from_ne_bytes(word(16)?) {
        0 => Some(Ok(())),
        code => Some(Err(io::Error::from_raw_os_error(code.wrapping_neg()))),
    }
}

// Numbers from linux/netlink.h, linux/rtnetlink.h, linux/if_link.h and linux/if_addr.h.
const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const REQUEST: u16 = 0x001;
const ACK: u16 = 0x004;
const REPLACE: u16 = 0x100;
const CREATE: u16 = 0x400;
const IFF_UP: u32 = 1;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 0x02;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RT_SCOPE_NOWHERE: u8 = 255;
const RTN_UNICAST: u8 = 1;
const ATTRIBUTE_HEADER: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_interface_is_named() {
        let error = Link::by_name("nosuchlink0").unwrap_err();
        assert!(error.to_string().contains("nosuchlink0"));
    }

    #[test]
    fn only_the_answer_to_this_request_counts() {
        let mut answer = vec![0; 20];
        answer[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        answer[8..12].copy_from_slice(&7_u32.to_ne_bytes());
        answer[16..20].copy_from_slice(&(-libc::EPERM).to_ne_bytes());
        assert!(acknowledgement(&answer, 6).is_none());
        let error = acknowledgement(&answer, 7).unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        for cut in 0..20 {
            assert!(acknowledgement(&answer[..cut], 7).is_none());
        }
    }
}
