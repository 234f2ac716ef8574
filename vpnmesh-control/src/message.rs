//! What agents and the controller tell each other.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vpnmesh_core::{
    ClientId, Event, HealthReport, NodeId, NodeSample, Order, Prefix, PublicKey, Ratio, Region,
    Tier, Version,
};

/// The first words of an agent on each connection.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Hello {
    /// Who the node takes itself for; its certificate must say the same.
    pub name: String,
    /// Grows at each start of the node.
    pub incarnation: u64,
    /// Drawn at each start: two processes with one counter, clones say, differ in it.
    pub random: [u8; 16],
    /// The version of the newest membership that the node holds.
    pub seen: Version,
    /// The version of the node's software, for people.
    pub software: String,
}

/// What a node tells the controller.
#[derive(Clone, PartialEq, Debug)]
pub enum AgentReport {
    /// How the node itself does.
    Sample(NodeSample),
    /// What the node sees of another, or foresees for itself; `from` is the node.
    Health(HealthReport),
    /// How many sessions it holds.
    Sessions(SessionCounts),
    /// What came of an order: a standby got ready or failed, or the node is empty.
    Event(Event),
    /// How far a handover is.
    Handover(Handover),
}

/// The sessions of a node.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct SessionCounts {
    /// Sessions whose packets it carries.
    pub held: u64,
    /// Sessions that it shadows.
    pub shadowed: u64,
    /// Age of the oldest state that it keeps as a shadow.
    pub staleness: Duration,
}

/// How far the sessions of the reporting node have moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Handover {
    /// Where they move.
    pub to: NodeId,
    /// Sessions that have moved.
    pub moved: u64,
    /// Sessions that are still here.
    pub remaining: u64,
}

/// What the controller tells a node. The agent passes on what is newer than what it passed on
/// before, each kind by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ControllerOrder {
    /// A newer membership, signed by the mesh root.
    Membership {
        /// Its version.
        version: Version,
        /// Opaque here.
        signed: Vec<u8>,
    },
    /// An order about one node, this one or another, to be relayed to clients.
    Signed {
        /// The order, as the controller says.
        order: Order,
        /// The same, signed by the mesh root.
        signed: Vec<u8>,
    },
    /// `standby` shall get ready to take over from `node`; both get to hear it.
    Warm {
        /// When it was decided.
        version: Version,
        /// The node at risk.
        node: NodeId,
        /// Who shall take over.
        standby: NodeId,
    },
    /// It need not any more.
    Release {
        /// When it was decided.
        version: Version,
        /// The node that was at risk.
        node: NodeId,
        /// Who would have taken over.
        standby: NodeId,
    },
    /// `to` shall carry this share of `node`'s traffic; both get to hear it.
    SetShare {
        /// When it was decided.
        version: Version,
        /// The node that loses traffic.
        node: NodeId,
        /// The node that gets it.
        to: NodeId,
        /// The share that leaves `node`.
        share: Ratio,
    },
}

/// What an administrator wants changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Move all traffic away from a node, step by step, then remove it.
    Drain(NodeId),
    /// Turn a drain back, or take a removed node back.
    Undrain(NodeId),
    /// The node is trusted with nothing any more, at once.
    Remove(NodeId),
    /// Automation leaves the node alone.
    Hold(NodeId),
    /// Ends [`Change::Hold`].
    Release(NodeId),
    /// All automation stops.
    Freeze,
    /// Automation goes on, whatever stopped it.
    Thaw,
    /// A client is protected by another number of shadows.
    SetTier(ClientId, Tier),
    /// A member joins; it gets an id of its own.
    Join(Candidate),
    /// The member with this id leaves for good.
    Forget(u64),
}

/// A member that is to join.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Its name, unique in the mesh.
    pub name: String,
    /// Its static key.
    pub key: PublicKey,
    /// What it is.
    pub kind: CandidateKind,
}

/// What a [`Candidate`] is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CandidateKind {
    /// An endpoint node.
    Node {
        /// Where it stands.
        region: Region,
        /// Where it listens; the first one is tried first.
        addresses: Vec<SocketAddr>,
    },
    /// A client.
    Client {
        /// The inner addresses that belong to its key alone.
        prefixes: Vec<Prefix>,
        /// How many shadows its sessions have.
        tier: Tier,
    },
    /// A site.
    Site {
        /// Where it stands.
        region: Region,
        /// The inner networks behind it.
        prefixes: Vec<Prefix>,
    },
}

/// What came of a [`Change`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Changed {
    /// The version at which it holds.
    pub version: Version,
    /// The id of the member that joined.
    pub member: Option<u64>,
}
