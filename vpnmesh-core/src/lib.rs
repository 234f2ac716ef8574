//! The words of vpnmesh and its decisions, without any I/O.
//!
//! Start from [`Membership`] (who belongs to the mesh), the ids and the units. State machines in
//! all crates take input and a [`Timestamp`] and hand out work; none of them reads a clock.

mod id;
mod membership;
mod prefix;
mod secret;
mod time;
mod unit;

pub use id::{ClientId, KeyId, NodeId, Region, SessionId, ShardId, SiteId, TunnelId};
pub use membership::{
    ClientEntry, Membership, MembershipError, NodeEntry, NodeState, PublicKey, SiteEntry, Tier,
    Version,
};
pub use prefix::{Prefix, PrefixError};
pub use secret::Secret;
pub use time::{Timestamp, WallTime};
pub use unit::{Bandwidth, ByteCount, Ratio};
