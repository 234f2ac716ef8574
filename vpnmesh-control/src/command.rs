//! What can be written into the log of a mesh.

use serde::{Deserialize, Serialize};
use vpnmesh_core::{
    ClientEntry, ClientId, NodeEntry, NodeId, NodeState, Ratio, SiteEntry, Tier, Version,
};

/// One line of the log: a command at its place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogEntry {
    /// Greater than that of every entry before.
    pub version: Version,
    /// What to do.
    pub command: MeshCommand,
}

/// A change of the mesh.
///
/// The order of the variants is part of the log's format: new ones go to the end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MeshCommand {
    /// A controller starts to lead. Changes nothing but the term, and has the membership signed anew.
    BeginTerm,
    /// A node joins, or its entry changes.
    PutNode(NodeEntry),
    /// A client joins, or its entry changes.
    PutClient(ClientEntry),
    /// A site joins, or its entry changes.
    PutSite(SiteEntry),
    /// The member with this id, of whatever kind, leaves for good.
    Forget(u64),
    /// A node started with this incarnation.
    Started {
        /// The node.
        node: NodeId,
        /// Its incarnation, greater than all before.
        incarnation: u64,
        /// What it drew at its start.
        random: [u8; 16],
    },
    /// The mesh wants something else of a node.
    SetState {
        /// The node.
        node: NodeId,
        /// What the mesh wants of it.
        state: NodeState,
        /// Whether automation decided so. What it removed may come back by itself.
        automatic: bool,
    },
    /// A client is protected by another number of shadows.
    SetTier {
        /// The client.
        client: ClientId,
        /// Its tier.
        tier: Tier,
    },
    /// `standby` gets ready to take over from `node`.
    Warm {
        /// The node at risk.
        node: NodeId,
        /// Who shall take over.
        standby: NodeId,
    },
    /// `standby` is no longer needed for `node`.
    Release {
        /// The node that was at risk.
        node: NodeId,
        /// Who would have taken over.
        standby: NodeId,
    },
    /// `to` carries this share of what `node` had. Above zero the node drains, at zero it is
    /// active again.
    SetShare {
        /// The node that loses traffic.
        node: NodeId,
        /// The node that gets it.
        to: NodeId,
        /// The share that has left `node`.
        share: Ratio,
    },
    /// Automation leaves a node alone, or no longer does.
    Hold {
        /// The node.
        node: NodeId,
        /// Whether it is held.
        held: bool,
    },
    /// An operator stopped all automation, or let it go on.
    Freeze(bool),
}
