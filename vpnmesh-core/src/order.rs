//! What the controller orders about one node, in a form that anyone can relay.

use std::fmt::{self, Debug};

use crate::{Membership, NodeId, Ratio, Version};

/// An order about one node. Whoever obeys keeps the greatest version and ignores lower ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Order {
    /// Greater replaces lower; nothing replaces greater.
    pub version: Version,
    /// The node it is about.
    pub node: NodeId,
    /// What shall happen to it.
    pub kind: OrderKind,
    /// The share of its traffic that shall leave: all of it for [`OrderKind::Remove`], nothing for
    /// [`OrderKind::Restore`].
    pub share: Ratio,
}

/// What an [`Order`] can ask for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum OrderKind {
    /// Traffic leaves; the node helps.
    Drain,
    /// Traffic leaves at once; the node is trusted with nothing.
    Remove,
    /// The node may have traffic again.
    Restore,
}

impl fmt::Display for OrderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drain => "drain",
            Self::Remove => "remove",
            Self::Restore => "restore",
        })
    }
}

/// Signs in the name of the mesh. What comes out is opaque to whoever carries it.
pub trait MeshSigner: Debug + Send + Sync {
    /// The signed form of a membership.
    fn sign_membership(&self, membership: &Membership) -> Vec<u8>;

    /// The signed form of an order.
    fn sign_order(&self, order: &Order) -> Vec<u8>;
}

const _: Option<&dyn MeshSigner> = None; // must stay object safe
