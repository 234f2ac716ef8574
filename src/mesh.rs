//! A mesh within one process: every member on a thread of its own, over loopback UDP.
//!
//! Nothing needs privileges: inner packets go in and out by [`Endpoint`]s instead of TUN devices, or
//! TCP by [`Net`]s. It is the real thing otherwise: the same machines, handshakes and takeovers as between hosts.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use vpnmesh_core::{Membership, Prefix, Tier};
use vpnmesh_transport::io::{ChannelIo, Clock, PacketIo};

use crate::endpoint::{Endpoint, Place};
use crate::exchange::Exchangeable;
use crate::provision::{
    ClientDescription, MeshDescription, NodeDescription, Provisioned, SiteDescription, provision,
};
use crate::role::{Handle, client, node, site};
use crate::{Error, Net, role};

/// Describes a mesh within this process.
#[derive(Debug, Clone, Default)]
pub struct MeshBuilder {
    description: MeshDescription,
}

/// A running mesh within this process. Dropping it stops all its members.
pub struct Mesh {
    nodes: BTreeMap<String, Handle<node::Node>>,
    clients: BTreeMap<String, Handle<client::Client>>,
    sites: BTreeMap<String, Handle<site::Site>>,
    endpoints: BTreeMap<String, Endpoint>,
    _state: TempDir,
}

impl Mesh {
    /// Begins to describe a mesh.
    #[must_use]
    pub fn builder() -> MeshBuilder {
        MeshBuilder::default()
    }

    /// Takes the inner packets of a client or a site; each can be taken once.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is none of that name, or it was taken already.
    pub fn endpoint(&mut self, name: &str) -> Result<Endpoint, Error> {
        let missing = || {
            let problem = "is no client or site of this mesh, or was taken already";
            Error::invalid("endpoint", name, problem)
        };
        self.endpoints.remove(name).ok_or_else(missing)
    }

    /// Takes the TCP of a client or a site instead, to dial and to listen: see [`Net`].
    ///
    /// # Errors
    /// As [`Self::endpoint`]; [`Error::Io`] if the system gave no event descriptor.
    pub fn net(&mut self, name: &str) -> Result<Net, Error> {
        self.endpoint(name)?.into_net()
    }

    /// A node, to watch or to command it.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Handle<node::Node>> {
        self.nodes.get(name)
    }

    /// A client, to watch or to command it.
    #[must_use]
    pub fn client(&self, name: &str) -> Option<&Handle<client::Client>> {
        self.clients.get(name)
    }

    /// A site, to watch or to command it.
    #[must_use]
    pub fn site(&self, name: &str) -> Option<&Handle<site::Site>> {
        self.sites.get(name)
    }

    /// Ends a node without a word to anybody, as a crash does. Whether there was one.
    pub fn kill(&mut self, node: &str) -> bool {
        self.nodes.remove(node).is_some()
    }

    /// Waits until every client is attached and known at every site.
    ///
    /// # Errors
    /// [`Error::NotReady`] after `patience`; the mesh runs on.
    pub fn wait_ready(&self, patience: Duration) -> Result<(), Error> {
        let until = Clock.now() + patience;
        let ready = |client: &Handle<client::Client>| {
            client.report().is_some_and(|report| {
                let session = report.what.session;
                session.active.is_some() && session.sites_ready >= self.sites.len()
            })
        };
        for (name, client) in &self.clients {
            while !ready(client) {
                if Clock.now() >= until {
                    return Err(Error::NotReady {
                        name: name.clone(),
                        patience,
                    });
                }
                thread::sleep(POLL);
            }
        }
        Ok(())
    }
}

impl MeshBuilder {
    /// Adds a node in a region.
    #[must_use]
    pub fn node(mut self, name: &str, region: &str) -> Self {
        self.description.nodes.push(NodeDescription {
            name: name.to_owned(),
            region: region.to_owned(),
            address: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0), // chosen at the start
            active: true,
        });
        self
    }

    /// Adds a client with one inner address.
    #[must_use]
    pub fn client(mut self, name: &str, address: IpAddr) -> Self {
        self.description.clients.push(ClientDescription {
            name: name.to_owned(),
            prefixes: vec![Prefix::host(address)],
            tier: Tier::default(),
            tun: None,
        });
        self
    }

    /// Adds a site with the network behind it.
    #[must_use]
    pub fn site(mut self, name: &str, prefix: Prefix) -> Self {
        self.description.sites.push(SiteDescription {
            name: name.to_owned(),
            region: String::new(),
            prefixes: vec![prefix],
            tun: None,
            addresses: Vec::new(),
        });
        self
    }

    /// Starts all members and waits up to 30 s until packets flow.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the description contradicts itself, [`Error::NotReady`], and what
    /// sockets and threads may bring.
    pub fn start(mut self) -> Result<Mesh, Error> {
        let state = tempfile::tempdir().map_err(Error::system("create a temporary directory"))?;
        let mut sockets = Vec::new();
        for node in &mut self.description.nodes {
            let opened = UdpSocket::bind(node.address).and_then(|s| Ok((s.local_addr()?, s)));
            let (address, socket) = opened.map_err(Error::system("open a loopback socket"))?;
            node.address = address;
            sockets.push(socket);
        }
        let provisioned = provision(&self.description, &state.path().join("mesh"))?;
        let mut mesh = Mesh {
            nodes: BTreeMap::new(),
            clients: BTreeMap::new(),
            sites: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            _state: state,
        };
        self.start_members(&provisioned, sockets, &mut mesh)?;
        mesh.wait_ready(START_PATIENCE)?;
        Ok(mesh)
    }

    fn start_members(
        &self,
        provisioned: &Provisioned,
        sockets: Vec<UdpSocket>,
        mesh: &mut Mesh,
    ) -> Result<(), Error> {
        for (node, socket) in self.description.nodes.iter().zip(sockets) {
            let settings = node::Settings::new(provisioned.node(&node.name), node.address);
            let handle = node::start_with(settings, Some(socket))?;
            mesh.nodes.insert(node.name.clone(), handle);
        }
        let loopback = Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0));
        let membership = Arc::new(provisioned.membership().clone());
        for site in &self.description.sites {
            let (endpoint, io) = inner_side(&site.prefixes, &membership)?;
            let settings = site::Settings {
                listen: loopback,
                ..site::Settings::new(provisioned.site(&site.name))
            };
            let handle = role::site::start_with(settings, Some(io))?;
            mesh.sites.insert(site.name.clone(), handle);
            mesh.endpoints.insert(site.name.clone(), endpoint);
        }
        for client in &self.description.clients {
            let (endpoint, io) = inner_side(&client.prefixes, &membership)?;
            let settings = client::Settings {
                listen: loopback,
                ..client::Settings::new(provisioned.client(&client.name))
            };
            let handle = role::client::start_with(settings, Some(io))?;
            mesh.clients.insert(client.name.clone(), handle);
            mesh.endpoints.insert(client.name.clone(), endpoint);
        }
        Ok(())
    }
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mesh")
            .field("nodes", &self.nodes.keys())
            .field("clients", &self.clients.keys())
            .field("sites", &self.sites.keys())
            .finish_non_exhaustive()
    }
}

/// Both ends of a member's inner side.
fn inner_side(
    prefixes: &[Prefix],
    membership: &Arc<Membership>,
) -> Result<(Endpoint, Box<dyn PacketIo>), Error> {
    let (ours, theirs) = ChannelIo::pair(QUEUE)?;
    let (theirs, next) = Exchangeable::new(Box::new(theirs));
    let place = Place {
        prefixes: prefixes.to_vec(),
        membership: Arc::clone(membership),
        next,
    };
    Ok((Endpoint::at(place, ours), Box::new(theirs)))
}

/// Packets that may wait between an endpoint and its member.
const QUEUE: usize = 1024;
/// A handshake on a machine that is busy with everything else takes seconds.
const START_PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);
