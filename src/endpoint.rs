//! The inner side of a member within this process: whole IP packets in and out.

use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vpnmesh_core::{Membership, Prefix};
use vpnmesh_transport::io::{ChannelIo, PacketIo};

use crate::exchange::Next;
use crate::{Error, Net};

/// Sends and receives the inner packets of one client or site.
#[derive(Debug)]
pub struct Endpoint {
    link: ChannelIo,
    place: Option<Place>,
}

/// Where an endpoint stands in a mesh.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) prefixes: Vec<Prefix>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) next: Next,
}

impl From<ChannelIo> for Endpoint {
    /// The other end of the link belongs to the member.
    fn from(link: ChannelIo) -> Self {
        Self { link, place: None }
    }
}

impl Endpoint {
    /// The other end of the link belongs to the member at `place`.
    pub(crate) fn at(place: Place, link: ChannelIo) -> Self {
        Self {
            link,
            place: Some(place),
        }
    }

    /// Gives up single packets for TCP: the member's own, in user space.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the endpoint was not taken from a [`Mesh`](crate::Mesh): start the
    /// member with the packet I/O of [`Net::new`] then.
    pub fn into_net(self) -> Result<Net, Error> {
        let Some(place) = self.place else {
            let problem = "belongs to no mesh of this process: start its member with Net::new";
            return Err(Error::invalid("endpoint", "", problem));
        };
        let (net, io) = Net::new(&place.membership, &place.prefixes)?;
        place.next.put(Box::new(io));
        drop(self.link); // the member notices, and finds the next one
        Ok(net)
    }

    /// Sends one IP packet.
    ///
    /// # Errors
    /// `WouldBlock` if 1024 packets wait already, `BrokenPipe` if the member has stopped.
    pub fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        self.link.send_packet(packet)
    }

    /// Waits for the next IP packet.
    ///
    /// # Errors
    /// `TimedOut` after `patience`, `BrokenPipe` if the member has stopped.
    pub fn recv(&mut self, patience: Duration) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; MAX_PACKET];
        loop {
            match self.link.recv_packet(&mut buffer) {
                Ok(len) => {
                    buffer.truncate(len);
                    return Ok(buffer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(patience)?,
                Err(error) => return Err(error),
            }
        }
    }

    fn wait(&self, patience: Duration) -> io::Result<()> {
        let readable = self.link.readable();
        let timeout = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        let mut wanted = [PollFd::new(&readable, PollFlags::IN)];
        match poll(&mut wanted, Some(&timeout)) {
            Ok(0) => Err(io::ErrorKind::TimedOut.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// An IPv4 packet with one UDP datagram, for first steps and tests; `None` above 65507 bytes.
#[must_use]
pub fn udp_packet(from: SocketAddrV4, to: SocketAddrV4, text: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(28 + text.len()).ok()?;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]); // TTL 64, UDP, checksum below
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    let sum: u32 = packet
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    packet[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    packet.extend(from.port().to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend((length - 20).to_be_bytes());
    packet.extend([0, 0]); // no checksum: IPv4 allows it
    packet.extend(text);
    Some(packet)
}

const MAX_PACKET: usize = 65_535; // RFC 791

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_a_packet_from_a_kernel() {
        let from = "192.168.0.1:5000".parse().unwrap();
        let to = "192.168.0.199:7".parse().unwrap();
        let packet = udp_packet(from, to, &[0; 87]).unwrap();
        // Header sums to 0xffff with its checksum, RFC 1071.
        let sum: u32 = packet[..20]
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
            .sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        assert!(udp_packet(from, to, &[0; 65_508]).is_none());
    }
}
