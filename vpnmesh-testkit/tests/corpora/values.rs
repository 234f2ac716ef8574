//! Real values to plant: made by the encoders of the product.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use vpnmesh::udp_packet;
use vpnmesh_core::{
    ClientEntry, ClientId, Membership, NodeEntry, NodeId, NodeState, Prefix, PublicKey, Region,
    Secret, SessionId, SiteEntry, SiteId, Tier, Timestamp, Version,
};
use vpnmesh_transport::handshake::{
    Attempt, Authority, Decision, Initiator, Load, Request, Responder, ResponderConfig,
};
use vpnmesh_transport::inner::{UNFINISHED, super_head};
use vpnmesh_transport::record::{
    Placement, Purpose, SealContext, Sealed, SealingIdentity, SessionDocument, SessionRecord,
};
use vpnmesh_transport::{
    Cipher, Ciphers, CryptoSuite, Exchange, Identity, Incarnation, Pq, Profile, Profiles,
    SeededEntropy,
};

pub(crate) fn identity(id: u64) -> Identity {
    Identity::from_secret(
        &CryptoSuite::reproducible(),
        Secret::take(&mut [id as u8; 32]),
    )
}

pub(crate) fn address(id: u64) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, id as u8], 4500))
}

/// The mesh of the targets, in a later version and with node 2 drained.
pub(crate) fn membership(index: u64) -> Membership {
    let key = |id: u64| -> PublicKey { identity(id).public() };
    let nodes = (1..=3).map(|id| NodeEntry {
        id: NodeId(id),
        name: format!("n{id}"),
        region: Region("r".to_owned()),
        key: key(id),
        addresses: vec![address(id)],
        state: if id == 2 {
            NodeState::Draining
        } else {
            NodeState::Active
        },
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
        version: Version { term: 1, index },
        nodes: nodes.collect(),
        clients: clients.collect(),
        sites: sites.collect(),
    }
}

pub(crate) fn signed(membership: &Membership) -> Vec<u8> {
    postcard::to_stdvec(membership).unwrap()
}

pub(crate) fn session() -> SessionId {
    SessionId::new(ClientId(11), [7; 8])
}

pub(crate) fn record() -> SessionRecord {
    SessionRecord {
        session: session(),
        version: 41,
        client: ClientId(11),
        client_key: identity(11).public(),
        client_incarnation: 1,
        client_address: address(11),
        source_ips: vec![IpAddr::from([192, 0, 2, 9])],
        generation: 1,
        number: 1,
        holders: vec![NodeId(2), NodeId(1)],
        tier: Tier::Standard,
        profile: Profile::Standard.code(),
        cipher: Cipher::Aes256Gcm.code(),
        handshake_hash: [0x44; 32],
    }
}

fn holder() -> SealingIdentity {
    SealingIdentity::from_seed(NodeId(2), &Secret::take(&mut [0xa5; 32]))
}

/// A document for its holder, with secrets.
pub(crate) fn document() -> SessionDocument {
    let place = Placement {
        holder: NodeId(2),
        rank: 0,
        client_internal_ip: IpAddr::from([10, 0, 0, 11]),
        server_port: 4500,
        seq_number: 18_233,
    };
    let mut document = SessionDocument::describe(&record(), &place).unwrap();
    let branch = Secret::take(&mut [0x5a; 32]);
    document
        .seal(&branch, &holder().public(), &mut SeededEntropy::new(1))
        .unwrap();
    document
}

/// A sealed value, and the key that it is sealed to.
pub(crate) fn sealed() -> (Vec<u8>, Vec<u8>) {
    let context = SealContext {
        session: SessionId([1; 16]),
        generation: 1,
        rank: 1,
        profile: Profile::Standard,
        cipher: Cipher::Aes256Gcm,
        purpose: Purpose::SharedSecret,
    };
    let key = holder().public();
    let secret = Secret::take(&mut [3; 32]);
    let sealed = Sealed::seal(&secret, &key, &context, &mut SeededEntropy::new(2));
    (sealed.as_bytes().to_vec(), key.to_bytes().to_vec())
}

/// A UDP packet of client 11 to site 21.
pub(crate) fn packet(text: &[u8]) -> Vec<u8> {
    let (from, to) = (
        "10.0.0.11:5000".parse().unwrap(),
        "10.1.0.21:80".parse().unwrap(),
    );
    udp_packet(from, to, text).unwrap()
}

/// The same, back.
pub(crate) fn reply(text: &[u8]) -> Vec<u8> {
    let (from, to) = (
        "10.1.0.21:80".parse().unwrap(),
        "10.0.0.11:5000".parse().unwrap(),
    );
    udp_packet(from, to, text).unwrap()
}

/// A TCP packet over IPv6.
pub(crate) fn tcp_v6(text: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((20 + text.len() as u16).to_be_bytes());
    packet.extend([6, 64]);
    packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    packet.extend([
        0x13, 0x88, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 1, 0, 0, 0, 0, 0,
    ]);
    packet.extend_from_slice(text);
    packet
}

pub(crate) fn unfinished(mut packet: Vec<u8>) -> Vec<u8> {
    packet[0] |= UNFINISHED;
    packet
}

pub(crate) fn super_packet(packet: &[u8], size: u16) -> Vec<u8> {
    [&super_head(size)[..], packet].concat()
}

struct Open;

impl Authority for Open {
    fn knows(&mut self, _peer: &PublicKey) -> bool {
        true
    }

    fn decide(&mut self, _request: &Request<'_>) -> Decision {
        Decision::Accept {
            local_index: 9,
            payload: b"welcome".to_vec(),
        }
    }
}

/// What client 11 sends to node 1 in a handshake, and what comes back.
pub(crate) fn handshake(profile: Profile, load: Load) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let start = Timestamp(1_000_000_000);
    let suite = CryptoSuite::reproducible();
    let mut entropy = SeededEntropy::new(77);
    let client = identity(11);
    let attempt = Attempt {
        suite,
        identity: &client,
        peer: identity(1).public(),
        site_secret: None,
        profile,
        exchange: Exchange::Hybrid,
        ciphers: Ciphers::of(&Cipher::ALL),
        incarnation: Incarnation::new(3, &mut SeededEntropy::new(78)),
        counter: 1,
        local_index: 7001,
        payload: b"options",
        cookie: None,
        retry: Duration::from_millis(250),
    };
    let mut initiator = Initiator::new(attempt, &mut entropy, start).unwrap();
    let flight: Vec<Vec<u8>> = std::iter::from_fn(|| initiator.poll_transmit()).collect();
    let config = ResponderConfig {
        suite,
        identity: identity(1),
        site_secret: None,
        incarnation: Incarnation::default(),
        profiles: Profiles::of(&[Profile::Standard, Profile::High]),
        ciphers: Ciphers::of(&Cipher::ALL),
        pq: Pq::Require,
    };
    let mut responder = Responder::new(config, &mut entropy, start);
    let mut replies = Vec::new();
    for datagram in &flight {
        let (open, from) = (&mut Open, address(11));
        let outcome = responder.handle_datagram(from, datagram, load, open, &mut entropy, start);
        replies.extend(outcome.replies);
    }
    (flight, replies)
}
