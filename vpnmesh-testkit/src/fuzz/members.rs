//! A small mesh: nodes 1 to 3, clients 11 and 12, sites 21 and 22.

use std::net::SocketAddr;
use std::sync::OnceLock;

use vpnmesh_core::{
    ClientEntry, ClientId, Membership, NodeEntry, NodeId, NodeState, Prefix, PublicKey, Region,
    Secret, SiteEntry, SiteId, Tier, Timestamp, Version,
};
use vpnmesh_transport::station::{StationConfig, Verifier};
use vpnmesh_transport::{
    Cipher, Ciphers, CryptoSuite, Identity, Incarnation, Marking, Profile, SeededEntropy,
};

pub(super) const START: Timestamp = Timestamp(1_000_000_000);

/// Takes any membership that decodes and does not contradict itself.
#[derive(Debug)]
struct Unsigned;

impl Verifier for Unsigned {
    fn verify(&self, signed: &[u8]) -> Option<Membership> {
        let membership: Membership = postcard::from_bytes(signed).ok()?;
        membership.check().ok()?;
        Some(membership)
    }
}

pub(super) fn suite() -> CryptoSuite {
    CryptoSuite::reproducible()
}

pub(super) fn identity(id: u64) -> Identity {
    Identity::from_secret(&suite(), Secret::take(&mut [id as u8; 32]))
}

pub(super) fn address(id: u64) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, id as u8], 4500))
}

/// The life of a member.
pub(super) fn life(id: u64) -> Incarnation {
    Incarnation {
        counter: 1,
        random: [id as u8; 16],
    }
}

/// The membership, as it stands on disk.
pub(super) fn membership() -> &'static [u8] {
    static SIGNED: OnceLock<Vec<u8>> = OnceLock::new();
    SIGNED.get_or_init(|| {
        postcard::to_stdvec(&list()).expect("writing plain types into memory cannot fail")
    })
}

fn list() -> Membership {
    let key = |id: u64| -> PublicKey { identity(id).public() };
    let nodes = (1..=3).map(|id| NodeEntry {
        id: NodeId(id),
        name: format!("n{id}"),
        region: Region("r".to_owned()),
        key: key(id),
        addresses: vec![address(id)],
        state: NodeState::Active,
    });
    let clients = (11..=12).map(|id| ClientEntry {
        id: ClientId(id),
        name: format!("c{id}"),
        key: key(id),
        prefixes: vec![Prefix::host([10, 0, 0, id as u8].into())],
        tier: Tier::Standard,
    });
    let sites = (21..=22).map(|id| SiteEntry {
        id: SiteId(id),
        name: format!("s{id}"),
        region: Region("r".to_owned()),
        key: key(id),
        prefixes: vec![Prefix::host([10, 1, 0, id as u8].into())],
    });
    Membership {
        version: Version { term: 1, index: 1 },
        nodes: nodes.collect(),
        clients: clients.collect(),
        sites: sites.collect(),
    }
}

pub(super) fn station(id: u64) -> StationConfig {
    StationConfig {
        suite: suite(),
        identity: identity(id),
        incarnation: life(id),
        entropy: Box::new(SeededEntropy::new(id)),
        profile: Profile::Standard,
        ciphers: Ciphers::of(&Cipher::ALL),
        site_secret: None,
        membership: membership().to_vec(),
        verifier: Box::new(Unsigned),
        marking: Marking::default(),
    }
}
