//! The mesh as its log tells it: a pure machine that every replica can run.
//!
//! The same entries in the same order give the same state and the same effects. It knows no clock,
//! no file and no network; whoever runs it writes an entry down first and applies it then.

mod apply;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use vpnmesh_core::{
    ClientEntry, ClientId, Membership, MembershipError, NodeEntry, NodeId, NodeState, Order,
    OrderKind, Ratio, SiteEntry, SiteId, Version,
};

/// All that the log says about the mesh.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct MeshState {
    version: Version,                   // of the last entry
    membership: Version,                // of the last entry that changed the membership
    nodes: BTreeMap<NodeId, NodeEntry>, // members: see Refusal::Full
    clients: BTreeMap<ClientId, ClientEntry>,
    sites: BTreeMap<SiteId, SiteEntry>,
    next_id: u64, // greater than every id that ever was
    incarnations: BTreeMap<NodeId, (u64, [u8; 16])>, // known nodes only, as all below
    standbys: BTreeMap<NodeId, (NodeId, Version)>,
    shares: BTreeMap<NodeId, (NodeId, Ratio, Version)>,
    orders: BTreeMap<NodeId, Order>,
    held: BTreeSet<NodeId>,
    may_return: BTreeSet<NodeId>, // removed by automation
    frozen: bool,
}

/// What an entry brings about outside of the state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// The membership has a new version: sign it and send it to everybody.
    MembershipChanged,
    /// Sign this order and send it to everybody.
    Ordered(Order),
    /// Tell both nodes that `standby` shall get ready for `node`.
    Warm {
        /// When it was decided.
        version: Version,
        /// The node at risk.
        node: NodeId,
        /// Who shall take over.
        standby: NodeId,
    },
    /// Tell both nodes that it need not.
    Release {
        /// When it was decided.
        version: Version,
        /// The node that was at risk.
        node: NodeId,
        /// Who would have taken over.
        standby: NodeId,
    },
    /// Tell both nodes how much of `node`'s traffic `to` carries.
    Share {
        /// When it was decided.
        version: Version,
        /// The node that loses traffic.
        node: NodeId,
        /// The node that gets it.
        to: NodeId,
        /// The share that has left `node`.
        share: Ratio,
    },
}

/// Why an entry has no effect. Every replica refuses it alike.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The entry is not newer than the state: a second leader, or a replay.
    #[error("entry {offered:?} is not newer than {have:?}")]
    Stale {
        /// The state's version.
        have: Version,
        /// The entry's version.
        offered: Version,
    },
    /// No member has that id.
    #[error("no member has id {id:x}")]
    UnknownMember {
        /// The id.
        id: u64,
    },
    /// A member of another kind has that id.
    #[error("id {id:x} belongs to a member of another kind")]
    OtherKind {
        /// The id.
        id: u64,
    },
    /// The name cannot be used in certificates and files.
    #[error("{name:?} is not a name of 1 to 63 lower-case letters, digits, '-', '_' and '.'")]
    Name {
        /// The name.
        name: String,
    },
    /// Two members would have one name.
    #[error("the name {name} is taken")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The mesh is as large as it may be: every member is told of all others in one message.
    #[error(
        "the membership would take {bytes} bytes and may take {limit}: forget members that left, or \
         give shorter names and fewer prefixes"
    )]
    Full {
        /// What it would take.
        bytes: usize,
        /// [`Membership::MAX_ENCODED`].
        limit: usize,
    },
    /// A node cannot stand by for itself.
    #[error("node {node} cannot take over from itself")]
    Itself {
        /// The node.
        node: NodeId,
    },
    /// The node started with this or a greater incarnation before: this one is a zombie or a
    /// clone, or its disk was rolled back.
    #[error("node {node} has been seen as incarnation {seen}")]
    Incarnation {
        /// The node.
        node: NodeId,
        /// The greatest one seen.
        seen: u64,
    },
    /// Keys, ids or inner addresses would have two owners.
    #[error(transparent)]
    Membership(MembershipError),
}

impl MeshState {
    /// The version of the last entry.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The membership that is to be signed.
    #[must_use]
    pub fn membership(&self) -> Membership {
        Membership {
            version: self.membership,
            nodes: self.nodes.values().cloned().collect(),
            clients: self.clients.values().cloned().collect(),
            sites: self.sites.values().cloned().collect(),
        }
    }

    /// The version of [`MeshState::membership`].
    #[must_use]
    pub const fn membership_version(&self) -> Version {
        self.membership
    }

    /// The node of that id.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&NodeEntry> {
        self.nodes.get(&id)
    }

    /// The node of that name.
    #[must_use]
    pub fn node_named(&self, name: &str) -> Option<&NodeEntry> {
        self.nodes.values().find(|node| node.name == name)
    }

    /// An id that no member ever had.
    #[must_use]
    pub fn free_id(&self) -> u64 {
        self.next_id.max(1)
    }

    /// The greatest incarnation seen of a node.
    #[must_use]
    pub fn incarnation(&self, node: NodeId) -> Option<u64> {
        self.incarnations.get(&node).map(|(counter, _)| *counter)
    }

    /// What the node of that greatest incarnation drew at its start.
    #[must_use]
    pub fn incarnation_random(&self, node: NodeId) -> Option<[u8; 16]> {
        self.incarnations.get(&node).map(|(_, random)| *random)
    }

    /// The nodes that automation leaves alone.
    #[must_use]
    pub const fn held(&self) -> &BTreeSet<NodeId> {
        &self.held
    }

    /// The nodes that automation removed: they come back with a new incarnation.
    #[must_use]
    pub const fn may_return(&self) -> &BTreeSet<NodeId> {
        &self.may_return
    }

    /// How much of a node's traffic has left, and whereto.
    #[must_use]
    pub fn share(&self, node: NodeId) -> Option<(NodeId, Ratio)> {
        self.shares.get(&node).map(|(to, share, _)| (*to, *share))
    }

    /// Whether nobody ever joined.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.next_id == 0
    }

    /// Whether an operator stopped automation.
    #[must_use]
    pub const fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// What a node that connects must know besides the membership, oldest decision first.
    #[must_use]
    pub fn outstanding(&self, node: NodeId) -> Vec<Effect> {
        let warm = self
            .standbys
            .iter()
            .map(|(of, (standby, version))| Effect::Warm {
                version: *version,
                node: *of,
                standby: *standby,
            });
        let shares = self
            .shares
            .iter()
            .map(|(of, (to, share, version))| Effect::Share {
                version: *version,
                node: *of,
                to: *to,
                share: *share,
            });
        // Whoever may have traffic, or none at all, is known from the membership.
        let drains = self
            .orders
            .values()
            .filter(|order| order.kind == OrderKind::Drain);
        let orders = drains.copied().map(Effect::Ordered);
        let mut all: Vec<Effect> = warm.chain(shares).chain(orders).collect();
        all.retain(|effect| effect.concerns(node));
        all.sort_by_key(Effect::version);
        all
    }
}

impl Effect {
    /// Whether `node` has to hear of it.
    #[must_use]
    pub fn concerns(&self, node: NodeId) -> bool {
        match self {
            Self::MembershipChanged | Self::Ordered(_) => true,
            Self::Warm {
                node: of, standby, ..
            }
            | Self::Release {
                node: of, standby, ..
            } => node == *of || node == *standby,
            Self::Share { node: of, to, .. } => node == *of || node == *to,
        }
    }

    fn version(&self) -> Version {
        match self {
            Self::MembershipChanged => Version::default(),
            Self::Ordered(order) => order.version,
            Self::Warm { version, .. }
            | Self::Release { version, .. }
            | Self::Share { version, .. } => *version,
        }
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    (1..=63).contains(&name.len()) && name.chars().all(allowed)
}

const fn kind_for(state: NodeState) -> OrderKind {
    match state {
        NodeState::Active | NodeState::Standby => OrderKind::Restore,
        NodeState::Draining => OrderKind::Drain,
        NodeState::Removed => OrderKind::Remove,
    }
}
