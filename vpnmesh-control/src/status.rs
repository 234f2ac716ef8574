//! What the mesh looks like, for people and their tools.

use serde::{Deserialize, Serialize};
use vpnmesh_core::{ClientEntry, NodeEntry, NodeStatus, SiteEntry, Version};

use crate::{Handover, SessionCounts};

/// The whole mesh as its controller sees it.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct MeshStatus {
    /// The version of the last decision.
    pub version: Version,
    /// The version of the membership in force.
    pub membership: Version,
    /// Whether automation is frozen.
    pub frozen: bool,
    /// The nodes, by id.
    pub nodes: Vec<NodeView>,
    /// The clients, by id.
    pub clients: Vec<ClientEntry>,
    /// The sites, by id.
    pub sites: Vec<SiteEntry>,
    /// What an operator should know, one sentence each; at most [`MeshStatus::MAX_NOTES`].
    pub notes: Vec<String>,
    /// What was refused or ignored.
    pub counters: Counters,
}

impl MeshStatus {
    /// Older notes go first.
    pub const MAX_NOTES: usize = 16;
}

/// One node as the controller sees it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NodeView {
    /// Its entry in the membership.
    pub entry: NodeEntry,
    /// What the engine thinks of it.
    pub engine: Option<NodeStatus>,
    /// Whether its agent is connected.
    pub connected: bool,
    /// The version of its software.
    pub software: String,
    /// The greatest incarnation seen.
    pub incarnation: Option<u64>,
    /// Its sessions, as it said last.
    pub sessions: Option<SessionCounts>,
    /// Its handover, as it said last.
    pub handover: Option<Handover>,
}

/// What was refused or ignored since the controller started.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Counters {
    /// Reports that could not be meant: out of range, or about somebody else.
    pub bad_reports: u64,
    /// Agents that were cut off because they did not take their orders in time.
    pub slow_agents: u64,
    /// Sessions refused: strangers, and zombies of nodes that have started anew.
    pub refused_sessions: u64,
    /// Decisions that could not be written down at the first attempt.
    pub store_failures: u64,
}
