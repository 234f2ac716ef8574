//! TCP and UDP within the mesh, in user space: a member dials others by name and listens, without a device.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

use vpnmesh_core::{Membership, Prefix};
use vpnmesh_transport::io::{Stack, StackConfig, StackIo, TcpListener, TcpStream, UdpPort};

use crate::Error;

/// The TCP of one member: what it dials comes from the member's inner address, and what it listens
/// at is found there by everybody whom the mesh lets through.
///
/// Names are those of the membership at the time when this was made. A client stands for its first
/// address, a site for the address after the lowest of its prefix: `office` with 10.20.0.0/24 is
/// 10.20.0.1. A site's stack answers at every address of its prefixes. Clones are the same member.
///
/// Connections live at their ends: they survive the death of any node between them.
#[derive(Debug, Clone)]
pub struct Net {
    stack: Stack,
    names: BTreeMap<String, Vec<IpAddr>>, // as many as the membership has clients and sites
}

impl Net {
    /// The TCP of the member that owns `prefixes`, and the packet I/O to start it with:
    /// [`role::client::start_with`](crate::role::client::start_with) or
    /// [`role::site::start_with`](crate::role::site::start_with).
    ///
    /// # Errors
    /// [`Error::Io`] if the system gave no event descriptor.
    pub fn new(membership: &Membership, prefixes: &[Prefix]) -> Result<(Self, StackIo), Error> {
        let config = StackConfig {
            addresses: prefixes.to_vec(),
            ..StackConfig::default()
        };
        Self::with_config(membership, config)
    }

    /// The same with other buffers and bounds.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_config(
        membership: &Membership,
        config: StackConfig,
    ) -> Result<(Self, StackIo), Error> {
        let (stack, io) = Stack::new(config)?;
        let names = names(membership);
        Ok((Self { stack, names }, io))
    }

    /// Opens a connection to `host:port`, where `host` is the name of a client or a site, or an
    /// address, IPv6 in brackets. Dropping the future gives it up.
    ///
    /// # Errors
    /// `NotFound` if there is no such member, else as [`Stack::dial`].
    pub async fn dial(&self, to: &str) -> io::Result<TcpStream> {
        let mut outcome = Err(io::ErrorKind::AddrNotAvailable.into());
        for address in self.resolve(to)? {
            outcome = self.stack.dial(address).await;
            let other_family =
                matches!(&outcome, Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable);
            if !other_family {
                break;
            }
        }
        outcome
    }

    /// Listens at a port of the member's addresses; at a free one for zero.
    ///
    /// # Errors
    /// As [`Stack::listen`].
    pub fn listen(&self, port: u16) -> io::Result<TcpListener> {
        self.stack.listen(port)
    }

    /// Opens a UDP port at the member's address; a free one for zero. Send to what
    /// [`Self::resolve`] finds.
    ///
    /// # Errors
    /// As [`Stack::bind`].
    pub fn bind(&self, port: u16) -> io::Result<UdpPort> {
        self.stack.bind(port)
    }

    /// The addresses that `host:port` stands for.
    ///
    /// # Errors
    /// `NotFound` if it is neither the name of a client or a site nor an address.
    pub fn resolve(&self, to: &str) -> io::Result<Vec<SocketAddr>> {
        let named = to.rsplit_once(':').and_then(|(host, port)| {
            let addresses = self.names.get(host)?;
            let port = port.parse().ok()?;
            let ends = addresses.iter().map(|ip| SocketAddr::new(*ip, port));
            Some(ends.collect())
        });
        let literal = || to.parse().map(|address| vec![address]).ok();
        named.or_else(literal).ok_or_else(|| {
            let problem = "is neither client:port nor site:port of this mesh, nor address:port";
            io::Error::new(io::ErrorKind::NotFound, format!("{to:?} {problem}"))
        })
    }

    /// The member's first inner address.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.stack.address()
    }

    /// The stack, for addresses without names.
    #[must_use]
    pub const fn stack(&self) -> &Stack {
        &self.stack
    }
}

fn names(membership: &Membership) -> BTreeMap<String, Vec<IpAddr>> {
    let clients = membership.clients.iter().map(|c| (&c.name, &c.prefixes));
    let sites = membership.sites.iter().map(|s| (&s.name, &s.prefixes));
    let found = |prefixes: &Vec<Prefix>| {
        let prefixes = prefixes.iter().copied();
        prefixes.map(StackConfig::host_of).collect()
    };
    clients
        .chain(sites)
        .map(|(name, prefixes)| (name.clone(), found(prefixes)))
        .collect()
}
