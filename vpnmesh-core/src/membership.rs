//! Who belongs to the mesh: the signed list that every client and site keeps.
//!
//! This module holds the words only. `vpnmesh-keys` signs and verifies the list.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use crate::{ClientId, NodeId, Prefix, Region, SiteId};

/// A static X25519 public key: the identity of a member in every handshake.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("..")
    }
}

/// Orders states of the mesh: the controller's term, then the index in its log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Version {
    /// The controller's term.
    pub term: u64,
    /// The index within the log.
    pub index: u64,
}

/// What the mesh wants of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum NodeState {
    /// Takes new sessions.
    Active,
    /// Ready to shadow and to take over; new sessions go elsewhere.
    Standby,
    /// Hands its sessions over; takes none.
    Draining,
    /// No longer trusted with anything. Clients leave at once.
    Removed,
}

/// A node of the mesh.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NodeEntry {
    /// Its name in every record.
    pub id: NodeId,
    /// Its name for people.
    pub name: String,
    /// Where it stands.
    pub region: Region,
    /// Its static key.
    pub key: PublicKey,
    /// Where it listens; the first one is tried first.
    pub addresses: Vec<SocketAddr>,
    /// What the mesh wants of it.
    pub state: NodeState,
}

/// A client of the mesh.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ClientEntry {
    /// Its name in every record.
    pub id: ClientId,
    /// Its name for people.
    pub name: String,
    /// Its static key.
    pub key: PublicKey,
    /// The inner addresses that belong to this key alone.
    pub prefixes: Vec<Prefix>,
    /// How many shadows its sessions have.
    pub tier: Tier,
}

/// A site: an agent and the networks behind it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SiteEntry {
    /// Its name in every record.
    pub id: SiteId,
    /// Its name for people.
    pub name: String,
    /// Where it stands.
    pub region: Region,
    /// Its static key.
    pub key: PublicKey,
    /// The inner networks behind it.
    pub prefixes: Vec<Prefix>,
}

/// How much protection a session gets: the number of its shadows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Tier {
    /// One shadow.
    Basic,
    /// Two shadows.
    #[default]
    Standard,
    /// Three shadows.
    Premium,
}

impl Tier {
    /// The number of shadows wanted.
    #[must_use]
    pub const fn shadows(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Standard => 2,
            Self::Premium => 3,
        }
    }
}

/// Who belongs to the mesh, at one version.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Membership {
    /// Greater replaces lower; nothing replaces greater.
    pub version: Version,
    /// The nodes, ordered by id.
    pub nodes: Vec<NodeEntry>,
    /// The clients, ordered by id.
    pub clients: Vec<ClientEntry>,
    /// The sites, ordered by id.
    pub sites: Vec<SiteEntry>,
}

/// Why a membership cannot be used. The one in force stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MembershipError {
    /// Two members share a key or an id.
    #[error("member {name} shares its {what} with another member")]
    Shared {
        /// The member.
        name: String,
        /// What is shared.
        what: &'static str,
    },
    /// Two members claim overlapping inner addresses.
    #[error("prefix {prefix} of {name} overlaps {other}")]
    Overlap {
        /// The member.
        name: String,
        /// Its prefix.
        prefix: Prefix,
        /// The prefix that was there before.
        other: Prefix,
    },
}

impl Membership {
    /// The longest encoding (postcard) that a controller lets it grow to, in bytes: some thousand
    /// members. It travels whole, with its signature, in one control message.
    pub const MAX_ENCODED: usize = 240 << 10;

    /// The node of that id.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&NodeEntry> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// The node of that key.
    #[must_use]
    pub fn node_by_key(&self, key: &PublicKey) -> Option<&NodeEntry> {
        self.nodes.iter().find(|node| node.key == *key)
    }

    /// The client of that id.
    #[must_use]
    pub fn client(&self, id: ClientId) -> Option<&ClientEntry> {
        self.clients.iter().find(|client| client.id == id)
    }

    /// The client of that key.
    #[must_use]
    pub fn client_by_key(&self, key: &PublicKey) -> Option<&ClientEntry> {
        self.clients.iter().find(|client| client.key == *key)
    }

    /// The site of that id.
    #[must_use]
    pub fn site(&self, id: SiteId) -> Option<&SiteEntry> {
        self.sites.iter().find(|site| site.id == id)
    }

    /// The site of that key.
    #[must_use]
    pub fn site_by_key(&self, key: &PublicKey) -> Option<&SiteEntry> {
        self.sites.iter().find(|site| site.key == *key)
    }

    /// Checks that keys, ids and inner addresses have one owner each.
    ///
    /// # Errors
    /// The first [`MembershipError`] met.
    pub fn check(&self) -> Result<(), MembershipError> {
        let nodes = self.nodes.iter().map(|n| (&n.name, n.key, n.id.0));
        let clients = self.clients.iter().map(|c| (&c.name, c.key, c.id.0));
        let sites = self.sites.iter().map(|s| (&s.name, s.key, s.id.0));
        let mut keys = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for (name, key, id) in nodes.chain(clients).chain(sites) {
            let shared = |what| MembershipError::Shared {
                name: name.clone(),
                what,
            };
            if !keys.insert(key) {
                return Err(shared("key"));
            }
            if !ids.insert(id) {
                return Err(shared("id"));
            }
        }
        self.check_prefixes()
    }

    fn check_prefixes(&self) -> Result<(), MembershipError> {
        let clients = self.clients.iter().map(|c| (&c.name, &c.prefixes));
        let sites = self.sites.iter().map(|s| (&s.name, &s.prefixes));
        let all = clients.chain(sites);
        let mut all: Vec<(Prefix, &String)> = all
            .flat_map(|(name, prefixes)| prefixes.iter().map(move |prefix| (*prefix, name)))
            .collect();
        // Ordered by network, what lies inside a prefix follows it: neighbours show every overlap.
        all.sort();
        for pair in all.windows(2) {
            let [(other, _), (prefix, name)] = pair else {
                continue;
            };
            if other.contains(prefix.network()) {
                return Err(MembershipError::Overlap {
                    name: (*name).clone(),
                    prefix: *prefix,
                    other: *other,
                });
            }
        }
        Ok(())
    }
}
