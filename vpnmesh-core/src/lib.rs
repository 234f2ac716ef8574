//! The words of vpnmesh and its decisions, without any I/O.
//!
//! Start from [`Membership`] (who belongs to the mesh), the ids and the units. State machines in
//! all crates take input and a [`Timestamp`] and hand out work; none of them reads a clock.
//!
//! The decisions follow the data: [`NodeSample`] and [`HealthReport`] come in, a
//! [`FailurePredictor`] turns them into a [`Forecast`], the [`Engine`] into an [`Action`] with its
//! [`Cause`], and the [`Journal`] keeps an [`Explanation`].

mod action;
mod budget;
mod engine;
mod error;
mod event;
mod failover;
mod forecast;
mod freeze;
mod health;
mod id;
mod journal;
mod key_policy;
mod membership;
mod order;
mod policy;
mod predictor;
mod prefix;
mod risk;
mod secret;
mod shadow;
mod shard;
mod telemetry;
mod time;
mod topology;
mod traffic;
mod tunnel;
mod unit;
mod witness;

pub use action::{Action, ActionKind, Authority, Cause, Origin, StandbyFailure};
pub use budget::Budget;
pub use engine::{Engine, NodeStatus};
pub use error::Error;
pub use event::{Command, Event};
pub use failover::{Failover, FailoverState, Permit, Record};
pub use forecast::{Evidence, Forecast};
pub use freeze::FreezeGuard;
pub use health::{NodeHealth, PushedHealth};
pub use id::{ClientId, KeyId, NodeId, Region, SessionId, ShardId, SiteId, TunnelId};
pub use journal::{Decision, Explanation, Journal, Outcome, OutcomeKind, Refusal};
pub use key_policy::{AgeAndVolume, KeyDecision, KeyPolicy, KeyUsage, RotationCause, ThreatLevel};
pub use membership::{
    ClientEntry, Membership, MembershipError, NodeEntry, NodeState, PublicKey, SiteEntry, Tier,
    Version,
};
pub use order::{MeshSigner, Order, OrderKind};
pub use policy::{BudgetPolicy, EnginePolicy, FailoverPolicy, FreezePolicy, WitnessPolicy};
pub use predictor::{FailurePredictor, ThresholdPredictor};
pub use prefix::{Prefix, PrefixError};
pub use risk::{ConnectionSample, PlainScorer, RiskScore, RiskScorer};
pub use secret::Secret;
pub use shadow::{Primary, ShadowCandidate, ShadowPolicy, choose_shadows, rank_candidates};
pub use shard::{RendezvousAllocator, ShardAllocator};
pub use telemetry::{HealthReport, Metric, NodeSample, PathSample, Verdict};
pub use time::{Timestamp, WallTime};
pub use topology::{Place, Topology};
pub use traffic::{
    DemandForecast, DemandSample, SitePair, SmoothedDemand, TrafficPredictor, by_demand,
};
pub use tunnel::{
    MemoryTunnels, TunnelCommand, TunnelEvent, TunnelManager, TunnelSpec, TunnelStatus,
};
pub use unit::{Bandwidth, ByteCount, Ratio};
pub use witness::Witnesses;
