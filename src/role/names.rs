//! Names for people: what the membership calls each member.

use std::collections::BTreeMap;
use std::fmt::Display;

use vpnmesh_core::{ClientId, Membership, NodeId, SiteId};
use vpnmesh_transport::node::PeerId;

/// Turns ids into names. Strangers keep their id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    names: BTreeMap<u64, String>, // as many as the membership has members; ids are unique in it
}

impl Names {
    /// The names of a node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> String {
        self.name(id.0, id)
    }

    /// The name of a client.
    #[must_use]
    pub fn client(&self, id: ClientId) -> String {
        self.name(id.0, id)
    }

    /// The name of a site.
    #[must_use]
    pub fn site(&self, id: SiteId) -> String {
        self.name(id.0, id)
    }

    /// The name of a node or a site.
    #[must_use]
    pub fn peer(&self, id: PeerId) -> String {
        match id {
            PeerId::Node(node) => self.node(node),
            PeerId::Site(site) => self.site(site),
        }
    }

    fn name(&self, number: u64, id: impl Display) -> String {
        self.names
            .get(&number)
            .cloned()
            .unwrap_or_else(|| id.to_string())
    }
}

impl From<&Membership> for Names {
    fn from(membership: &Membership) -> Self {
        let nodes = membership.nodes.iter().map(|n| (n.id.0, n.name.clone()));
        let clients = membership.clients.iter().map(|c| (c.id.0, c.name.clone()));
        let sites = membership.sites.iter().map(|s| (s.id.0, s.name.clone()));
        Self {
            names: nodes.chain(clients).chain(sites).collect(),
        }
    }
}
