//! One node of a small mesh, for the unit tests of its parts.

use std::net::SocketAddr;

use vpnmesh_core::{
    ClientEntry, ClientId, Membership, NodeEntry, NodeId, NodeState, Prefix, Region, Secret,
    SessionId, ShadowPolicy, SiteEntry, SiteId, Tier, Timestamp, Version,
};

use super::branches::BranchKey;
use super::held::Role;
use super::{NodeConfig, NodeMachine, NodeTimers};
use crate::channel::{Channel, ChannelId, End};
use crate::leg::Leg;
use crate::message::{BranchBytes, NodeMessage};
use crate::record::SessionRecord;
use crate::schedule::{self, MoveContext, TookProof};
use crate::station::{StationConfig, Verifier};
use crate::{
    Cipher, Ciphers, CryptoSuite, DropReason, Identity, Incarnation, Marking, Profile,
    SeededEntropy,
};

/// The node under test, among nodes 1 to 5, clients 11 to 15 and sites 21 and 22.
pub(super) const ME: NodeId = NodeId(1);
pub(crate) const START: Timestamp = Timestamp(1_000_000_000);

/// Takes any membership that decodes.
#[derive(Debug)]
struct Unsigned;

impl Verifier for Unsigned {
    fn verify(&self, signed: &[u8]) -> Option<Membership> {
        postcard::from_bytes(signed).ok()
    }
}

pub(crate) fn identity(id: u64) -> Identity {
    Identity::generate(
        &CryptoSuite::reproducible(),
        &mut SeededEntropy::new(1000 + id),
    )
}

pub(crate) fn address(id: u64) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, id as u8], 4500))
}

pub(crate) fn membership(index: u64) -> Membership {
    let nodes = (1..=5).map(|id| NodeEntry {
        id: NodeId(id),
        name: format!("n{id}"),
        region: Region("r".to_owned()),
        key: identity(id).public(),
        addresses: vec![address(id)],
        state: NodeState::Active,
    });
    let clients = (11..=15).map(|id| ClientEntry {
        id: ClientId(id),
        name: format!("c{id}"),
        key: identity(id).public(),
        prefixes: vec![Prefix::host([10, 0, 0, id as u8].into())],
        tier: Tier::Standard,
    });
    let sites = (21..=22).map(|id| SiteEntry {
        id: SiteId(id),
        name: format!("s{id}"),
        region: Region("r".to_owned()),
        key: identity(id).public(),
        prefixes: vec![Prefix::host([10, 1, 0, id as u8].into())],
    });
    Membership {
        version: Version { term: 1, index },
        nodes: nodes.collect(),
        clients: clients.collect(),
        sites: sites.collect(),
    }
}

pub(crate) fn sign(membership: &Membership) -> Vec<u8> {
    postcard::to_stdvec(membership).unwrap()
}

pub(crate) fn station(id: u64) -> StationConfig {
    StationConfig {
        suite: CryptoSuite::reproducible(),
        identity: identity(id),
        incarnation: Incarnation::default(),
        entropy: Box::new(SeededEntropy::new(id)),
        profile: Profile::Standard,
        ciphers: Ciphers::of(&Cipher::ALL),
        site_secret: None,
        membership: sign(&membership(1)),
        verifier: Box::new(Unsigned),
        marking: Marking::default(),
    }
}

pub(super) fn node() -> NodeMachine {
    let config = NodeConfig {
        station: station(ME.0),
        shadows: ShadowPolicy::default(),
        timers: NodeTimers::default(),
    };
    NodeMachine::new(config, START).unwrap()
}

pub(super) fn session(client: u64) -> SessionId {
    SessionId::new(ClientId(client), [7; 8])
}

/// The state of a client's session in `generation`; the first of `holders` is the primary.
pub(super) fn record(client: u64, generation: u32, number: u32, holders: &[u64]) -> SessionRecord {
    SessionRecord {
        session: session(client),
        version: 1,
        client: ClientId(client),
        client_key: identity(client).public(),
        client_incarnation: 1,
        client_address: address(client),
        source_ips: Vec::new(),
        generation,
        number,
        holders: holders.iter().map(|id| NodeId(*id)).collect(),
        tier: Tier::Standard,
        profile: Profile::Standard.code(),
        cipher: Cipher::ChaCha20Poly1305.code(),
        handshake_hash: [5; 32],
    }
}

/// The secret that our branch of a generation has, if `giver` made it.
pub(super) fn secret(generation: u32, giver: u64) -> [u8; 32] {
    let mut bytes = [3; 32];
    bytes[0] = generation as u8;
    bytes[1] = giver as u8;
    bytes
}

pub(super) fn key(record: &SessionRecord) -> BranchKey {
    BranchKey {
        session: record.session,
        generation: record.generation,
        giver: record.holders[0],
    }
}

impl NodeMachine {
    /// `from` makes us a shadow.
    pub(super) fn be_given(&mut self, from: u64, record: &SessionRecord) {
        let message = NodeMessage::Install {
            record: Box::new(record.clone()),
            branch: 1,
            secret: BranchBytes(secret(record.generation, from)),
        };
        self.handle_node_message(NodeId(from), message, START);
    }

    /// `from` says what the state is.
    pub(super) fn be_told(&mut self, from: u64, record: &SessionRecord) {
        let message = NodeMessage::Update(vec![record.clone()]);
        self.handle_node_message(NodeId(from), message, START);
    }

    /// `taker` says that the client activated it.
    pub(super) fn hear_took(&mut self, taker: u64, record: &SessionRecord, proof: TookProof) {
        let message = NodeMessage::Took {
            session: record.session,
            generation: record.generation,
            number: record.number,
            proof,
        };
        self.handle_node_message(NodeId(taker), message, START);
    }

    /// Holds the session of `record` as its primary; the client's end of the channel.
    pub(super) fn take(&mut self, record: &SessionRecord) -> Channel {
        let (suite, branch) = (CryptoSuite::reproducible(), Secret::take(&mut [9; 32]));
        let of_move = MoveContext {
            session: record.session,
            generation: record.generation,
            branch: 0,
            number: record.number,
            nonce: [0; 16],
            holder: Incarnation::default(),
        };
        let keys = schedule::move_keys(&branch, &of_move);
        let id = ChannelId {
            session: record.session,
            generation: record.generation,
            number: record.number,
            branch: 0,
        };
        let (index, client) = (self.fresh_index(), record.client.0 as u32);
        let end = |end, indices| {
            let cipher = Cipher::from_code(record.cipher).unwrap();
            let mut channel = Channel::new(&suite, cipher, end, id, &keys, indices, START);
            channel.confirmed = true;
            channel
        };
        let ours = end(End::Holder, (index, client));
        let leg = Leg::new(record.client_address, ours, self.timers.client, START);
        let branch = branch.duplicate();
        self.hold(record.clone(), leg, branch, Role::Primary, index, START);
        end(End::Client, (client, index))
    }

    pub(super) fn dropped(&self, reason: DropReason) -> u64 {
        let drops = self.station.out.drops();
        drops.get(&reason).copied().unwrap_or(0)
    }
}
