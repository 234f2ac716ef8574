//! Where the nodes stand.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Membership, NodeId, NodeState, Region};

/// A node's place in the mesh.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Its region.
    pub region: Region,
    /// What the mesh wants of it.
    pub state: NodeState,
}

/// The nodes of a mesh by place, without keys and addresses.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Topology {
    places: BTreeMap<NodeId, Place>,
}

impl Topology {
    /// Whether the node is known, in whatever state.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.places.contains_key(&node)
    }

    /// How many nodes are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether no node is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The place of one node.
    #[must_use]
    pub fn place(&self, node: NodeId) -> Option<&Place> {
        self.places.get(&node)
    }

    /// All nodes by id.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Place)> {
        self.places.iter().map(|(node, place)| (*node, place))
    }

    /// The nodes that may carry traffic: active or standby.
    pub fn usable(&self) -> impl Iterator<Item = (NodeId, &Place)> {
        self.nodes()
            .filter(|(_, place)| matches!(place.state, NodeState::Active | NodeState::Standby))
    }

    /// The regions that have a usable node.
    #[must_use]
    pub fn regions(&self) -> BTreeSet<&Region> {
        self.usable().map(|(_, place)| &place.region).collect()
    }
}

impl From<&Membership> for Topology {
    fn from(membership: &Membership) -> Self {
        let place = |node: &crate::NodeEntry| Place {
            region: node.region.clone(),
            state: node.state,
        };
        let places = membership.nodes.iter().map(|node| (node.id, place(node)));
        Self {
            places: places.collect(),
        }
    }
}
