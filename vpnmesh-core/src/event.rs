//! What the engine is told.

use crate::{NodeId, StandbyFailure};
use std::time::Duration;

/// Something that happened, told by whoever carries out actions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Event {
    /// `standby` is up to date and can take over from `node`.
    StandbyReady {
        /// The node at risk.
        node: NodeId,
        /// Who can take over.
        standby: NodeId,
    },
    /// `standby` cannot take over from `node`, or no longer.
    StandbyFailed {
        /// The node at risk.
        node: NodeId,
        /// Who cannot take over.
        standby: NodeId,
        /// What is wrong.
        reason: StandbyFailure,
    },
    /// `node` holds no session any more.
    NodeDrained {
        /// The node.
        node: NodeId,
    },
    /// `node` started with a new incarnation.
    NodeJoined {
        /// The node.
        node: NodeId,
    },
    /// The engine's own process ran this much late: it widens its own timeouts.
    OwnDelay {
        /// How late.
        delay: Duration,
    },
}

/// What an operator, or the security floor, orders.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Command {
    /// Move all traffic away from `node`, step by step, then remove it.
    Drain {
        /// The node.
        node: NodeId,
    },
    /// Turn a drain back, or take a removed node back.
    Undrain {
        /// The node.
        node: NodeId,
    },
    /// Security: `node` must lose its traffic. Beats everything but [`Command::Hold`].
    Evict {
        /// The node.
        node: NodeId,
    },
    /// Move nothing away from `node` by automation until [`Command::Release`].
    Hold {
        /// The node.
        node: NodeId,
    },
    /// Ends [`Command::Hold`].
    Release {
        /// The node.
        node: NodeId,
    },
    /// Stop all automation.
    Freeze,
    /// Let automation go on, whatever froze it.
    Thaw,
}
