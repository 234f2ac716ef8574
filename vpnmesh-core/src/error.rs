//! What can go wrong in core.

use crate::{NodeId, TunnelId};

/// Why core refused. Whatever it refused, it changed nothing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller named a node that never joined.
    #[error("node {node} is not in the mesh")]
    UnknownNode {
        /// The node.
        node: NodeId,
    },

    /// The caller named a tunnel that is not open.
    #[error("tunnel {tunnel} is not open")]
    UnknownTunnel {
        /// The tunnel.
        tunnel: TunnelId,
    },

    /// The caller opened a tunnel twice. The first one stays open.
    #[error("tunnel {tunnel} is open already")]
    TunnelExists {
        /// The tunnel.
        tunnel: TunnelId,
    },

    /// The tunnel manager carries no more tunnels. Close one first.
    #[error("all {limit} tunnels are in use")]
    TooManyTunnels {
        /// How many it carries.
        limit: usize,
    },

    /// Every shard has capacity zero. The old assignment stays.
    #[error("no shard has any capacity")]
    NoShard,

    /// The operator's configuration asks for something impossible.
    #[error("{field} is {value}, which is not {wanted}")]
    Policy {
        /// The field of the policy.
        field: &'static str,
        /// What it was set to.
        value: String,
        /// What would be accepted.
        wanted: &'static str,
    },
}
