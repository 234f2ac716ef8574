//! Just enough routing netlink to configure a device: link, address, route.
//!
//! Requests act on the network namespace of the calling thread. Nothing here needs a program on
//! the machine.

use std::io;
use std::net::IpAddr;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use vpnmesh_core::Prefix;

/// Sets the device up, with an MTU and a transmit queue of `queue` packets.
pub(super) fn set_link(index: u32, mtu: Option<u32>, queue: Option<u32>) -> io::Result<()> {
    let up = libc::IFF_UP as u32;
    let mut request = Request::new(libc::RTM_NEWLINK, 0);
    request.raw(&[libc::AF_UNSPEC as u8, 0, 0, 0]); // family, padding, type
    for word in [index, up, up] {
        request.raw(&word.to_ne_bytes()); // index, flags, change mask
    }
    if let Some(mtu) = mtu {
        request.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes());
    }
    if let Some(queue) = queue {
        request.attribute(libc::IFLA_TXQLEN, &queue.to_ne_bytes());
    }
    request.send()
}

/// Gives the device an address; doing it again changes nothing.
pub(super) fn add_address(index: u32, address: IpAddr, bits: u8) -> io::Result<()> {
    request_address(
        libc::RTM_NEWADDR,
        libc::NLM_F_CREATE | libc::NLM_F_REPLACE,
        index,
        address,
        bits,
    )
}

/// Takes an address from the device.
pub(super) fn remove_address(index: u32, address: IpAddr, bits: u8) -> io::Result<()> {
    request_address(libc::RTM_DELADDR, 0, index, address, bits)
}

fn request_address(kind: u16, flags: i32, index: u32, address: IpAddr, bits: u8) -> io::Result<()> {
    let mut request = Request::new(kind, flags);
    let flags = if address.is_ipv6() {
        libc::IFA_F_NODAD as u8
    } else {
        0
    };
    request.raw(&[family(address), bits, flags, libc::RT_SCOPE_UNIVERSE]);
    request.raw(&index.to_ne_bytes());
    let octets = octets(address);
    request.attribute(libc::IFA_LOCAL, &octets);
    request.attribute(libc::IFA_ADDRESS, &octets);
    request.send()
}

/// Routes `to` into the device; an existing route to the same prefix is replaced.
pub(super) fn add_route(index: u32, to: Prefix) -> io::Result<()> {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    let mut request = Request::new(libc::RTM_NEWROUTE, flags);
    request.raw(&[
        family(to.network()),
        to.bits(),
        0, // source bits
        0, // type of service
        libc::RT_TABLE_MAIN,
        libc::RTPROT_STATIC,
        libc::RT_SCOPE_LINK,
        libc::RTN_UNICAST,
    ]);
    request.raw(&0_u32.to_ne_bytes()); // flags
    if to.bits() > 0 {
        request.attribute(libc::RTA_DST, &octets(to.network()));
    }
    request.attribute(libc::RTA_OIF, &index.to_ne_bytes());
    request.send()
}

/// The number of a device in the calling thread's namespace.
pub(super) fn index_of(name: &str) -> io::Result<u32> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    Ok(rustix::net::netdevice::name_to_index(socket, name)?)
}

/// One request: header, fixed part, attributes.
struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16, flags: i32) -> Self {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes[8..12].copy_from_slice(&1_u32.to_ne_bytes()); // sequence
        Self(bytes)
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let len = (4 + value.len()) as u16;
        self.raw(&len.to_ne_bytes());
        self.raw(&kind.to_ne_bytes());
        self.raw(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// Sends it to the kernel and reads the acknowledgement.
    fn send(mut self) -> io::Result<()> {
        let len = self.0.len() as u32;
        self.0[0..4].copy_from_slice(&len.to_ne_bytes());
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None, // NETLINK_ROUTE is protocol zero
        )?;
        rustix::net::send(&socket, &self.0, SendFlags::empty())?;
        let mut reply = [0; 1024];
        let (got, _) = rustix::net::recv(&socket, &mut reply, RecvFlags::empty())?;
        acknowledged(&reply[..got])
    }
}

/// Reads an acknowledgement: header, then a negative error number or zero.
fn acknowledged(reply: &[u8]) -> io::Result<()> {
    let field = |from: usize, to: usize| reply.get(from..to);
    let kind = field(4, 6)
        .and_then(|b| b.try_into().ok())
        .map(u16::from_ne_bytes);
    let code = field(HEADER, HEADER + 4)
        .and_then(|b| b.try_into().ok())
        .map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(kind), Some(0)) if i32::from(kind) == libc::NLMSG_ERROR => Ok(()),
        (Some(kind), Some(code)) if i32::from(kind) == libc::NLMSG_ERROR => {
            Err(io::Error::from_raw_os_error(-code))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

const fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_is_read_and_anything_else_is_refused() {
        let mut reply = vec![0_u8; 20];
        reply[4..6].copy_from_slice(&(libc::NLMSG_ERROR as u16).to_ne_bytes());
        assert!(acknowledged(&reply).is_ok());
        reply[16..20].copy_from_slice(&(-libc::EPERM).to_ne_bytes());
        let error = acknowledged(&reply).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(acknowledged(&reply[..10]).is_err());
        reply[4] = 99;
        assert!(acknowledged(&reply).is_err());
    }

    #[test]
    fn attributes_are_padded_to_four_bytes_but_keep_their_length() {
        let mut request = Request::new(libc::RTM_NEWROUTE, 0);
        request.attribute(7, &[1, 2, 3, 4, 5]);
        assert_eq!(request.0.len(), HEADER + 12);
        assert_eq!(request.0[HEADER..HEADER + 2], 9_u16.to_ne_bytes());
    }
}
