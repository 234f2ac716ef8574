//! Who is in a simulated mesh, and how its machines are started.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use vpnmesh_core::{
    ClientEntry, ClientId, Membership, NodeEntry, NodeId, NodeState, Prefix, Region, SiteEntry,
    SiteId, Tier, Version,
};
use vpnmesh_transport::client::{ClientConfig, ClientTimers};
use vpnmesh_transport::node::{NodeConfig, NodeTimers};
use vpnmesh_transport::site::SiteConfig;
use vpnmesh_transport::station::{StationConfig, Verifier};
use vpnmesh_transport::{Ciphers, Entropy, Identity, Incarnation, Marking, Profile, SeededEntropy};

use super::ledger;
use crate::link::derive_seed;

/// How large a mesh is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Nodes, spread over three regions.
    pub nodes: usize,
    /// Clients.
    pub clients: usize,
    /// Sites.
    pub sites: usize,
    /// The tier of all clients.
    pub tier: Tier,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            nodes: 4,
            clients: 2,
            sites: 2,
            tier: Tier::Standard,
        }
    }
}

/// What outlives a crash of an actor: its key, its durable counter, its membership.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    pub(super) key_seed: u64,
    pub(super) incarnation: u64,
    pub(super) membership: Vec<u8>,
}

/// Takes any membership that decodes: signatures are tested where they are made.
#[derive(Debug)]
struct Unsigned;

impl Verifier for Unsigned {
    fn verify(&self, signed: &[u8]) -> Option<Membership> {
        let membership: Membership = postcard::from_bytes(signed).ok()?;
        membership.check().ok()?;
        Some(membership)
    }
}

pub(super) fn sign(membership: &Membership) -> Vec<u8> {
    postcard::to_stdvec(membership).expect("writing plain types into memory cannot fail")
}

pub(super) const fn node_id(index: usize) -> NodeId {
    NodeId(100 + index as u64)
}

pub(super) const fn client_id(index: usize) -> ClientId {
    ClientId(200 + index as u64)
}

pub(super) const fn site_id(index: usize) -> SiteId {
    SiteId(300 + index as u64)
}

/// The outer address of an actor.
pub(super) fn outer(group: u8, index: usize) -> SocketAddr {
    let host = u8::try_from(index + 1).expect("simulated meshes are small");
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 18, group, host)), 4500)
}

/// The inner address of a client.
pub(super) fn client_inner(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, index as u8 + 1)
}

/// The inner address of the resource behind a site.
pub(super) fn site_inner(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 88, index as u8 + 1, 1)
}

fn identity(key_seed: u64) -> Identity {
    Identity::generate(&ledger::suite(), &mut SeededEntropy::new(key_seed))
}

pub(super) fn key_seed(seed: u64, id: u64) -> u64 {
    derive_seed(seed, 1_000_000 + id)
}

pub(super) fn membership(seed: u64, shape: Shape) -> Membership {
    let regions = ["eu", "us", "ap"];
    let public = |id: u64| identity(key_seed(seed, id)).public();
    let nodes = (0..shape.nodes).map(|index| NodeEntry {
        id: node_id(index),
        name: format!("n{}", index + 1),
        region: Region(regions[index % regions.len()].to_owned()),
        key: public(node_id(index).0),
        addresses: vec![outer(1, index)],
        state: NodeState::Active,
    });
    let clients = (0..shape.clients).map(|index| ClientEntry {
        id: client_id(index),
        name: format!("c{}", index + 1),
        key: public(client_id(index).0),
        prefixes: vec![Prefix::host(client_inner(index).into())],
        tier: shape.tier,
    });
    let sites = (0..shape.sites).map(|index| SiteEntry {
        id: site_id(index),
        name: format!("s{}", index + 1),
        region: Region(regions[index % regions.len()].to_owned()),
        key: public(site_id(index).0),
        prefixes: vec![
            Prefix::new(site_inner(index).into(), 24).expect("24 bits fit an IPv4 address"),
        ],
    });
    Membership {
        version: Version { term: 1, index: 1 },
        nodes: nodes.collect(),
        clients: clients.collect(),
        sites: sites.collect(),
    }
}

fn station(disk: &Disk, mut entropy: Box<dyn Entropy>) -> StationConfig {
    StationConfig {
        suite: ledger::suite(),
        identity: identity(disk.key_seed),
        incarnation: Incarnation::new(disk.incarnation, &mut *entropy),
        entropy,
        profile: Profile::Standard,
        ciphers: Ciphers::of(&vpnmesh_transport::Cipher::ALL),
        site_secret: None,
        membership: disk.membership.clone(),
        verifier: Box::new(Unsigned),
        marking: Marking::default(),
    }
}

pub(super) fn node_config(disk: &Disk, entropy: Box<dyn Entropy>) -> NodeConfig {
    NodeConfig {
        station: station(disk, entropy),
        shadows: vpnmesh_core::ShadowPolicy::default(),
        timers: NodeTimers::default(),
    }
}

pub(super) fn client_config(disk: &Disk, entropy: Box<dyn Entropy>) -> ClientConfig {
    ClientConfig {
        station: station(disk, entropy),
        tier: None,
        timers: ClientTimers::default(),
    }
}

pub(super) fn site_config(disk: &Disk, entropy: Box<dyn Entropy>) -> SiteConfig {
    SiteConfig::new(station(disk, entropy))
}
