//! Build VPNs that heal themselves.
//!
//! A mesh of nodes carries the sessions of clients to sites. Each session has shadows: if its node
//! dies, a shadow takes over in a fraction of a second, and live TCP connections go on. A first
//! program, with all members in one process and no privileges (feature `roles`, on by default):
//!
#![cfg_attr(feature = "roles", doc = "```")]
#![cfg_attr(not(feature = "roles"), doc = "```ignore")]
//! use std::time::Duration;
//! use vpnmesh::prelude::*;
//!
//! let mut mesh = Mesh::builder()
//!     .node("paris", "west")
//!     .node("oslo", "north")
//!     .client("laptop", "10.9.0.1".parse()?)
//!     .site("office", "10.20.0.0/24".parse()?)
//!     .start()?;
//! let (mut laptop, mut office) = (mesh.endpoint("laptop")?, mesh.endpoint("office")?);
//!
//! let hello = udp_packet("10.9.0.1:5000".parse()?, "10.20.0.7:80".parse()?, b"hello");
//! let hello = hello.ok_or("too long")?;
//! laptop.send(&hello)?;
//! assert_eq!(office.recv(Duration::from_secs(5))?, hello);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Where to go from here:
//!
//! - `role`: whole roles that run from a settings file, on real devices and between hosts
//! - `provision`: a whole mesh from a plain description: keys, certificates, settings
//! - `Net`: TCP in user space, to dial and to listen within the mesh without a device
//! - [`core`]: words, units, the traits that you may implement, and decisions without any I/O
//! - [`transport`]: handshake, sessions that move between nodes, packet I/O
//! - `predict`, `keys`, `control`: forecasts of failures; keys and what is kept on disk; the
//!   controller and its agents

#[cfg(feature = "roles")]
mod endpoint;
#[cfg(feature = "roles")]
mod error;
#[cfg(feature = "roles")]
mod exchange;
#[cfg(feature = "roles")]
mod member;
#[cfg(feature = "roles")]
mod mesh;
#[cfg(feature = "roles")]
mod net;
#[cfg(feature = "roles")]
pub mod provision;
#[cfg(feature = "roles")]
pub mod role;
#[cfg(feature = "roles")]
pub mod settings;

#[cfg(feature = "roles")]
pub use endpoint::{Endpoint, udp_packet};
#[cfg(feature = "roles")]
pub use error::Error;
#[cfg(feature = "roles")]
pub use member::{Member, PinnedRoot};
#[cfg(feature = "roles")]
pub use mesh::{Mesh, MeshBuilder};
#[cfg(feature = "roles")]
pub use net::Net;

#[cfg(feature = "roles")]
pub use vpnmesh_control as control;
pub use vpnmesh_core as core;
#[cfg(feature = "roles")]
pub use vpnmesh_keys as keys;
#[cfg(feature = "roles")]
pub use vpnmesh_predict as predict;
pub use vpnmesh_transport as transport;

/// What most programs need.
pub mod prelude {
    #[cfg(feature = "roles")]
    pub use crate::{Endpoint, Error, Mesh, MeshBuilder, Net, udp_packet};
    pub use vpnmesh_core::{
        ClientId, FailurePredictor, KeyPolicy, Membership, NodeHealth, NodeId, Prefix, Ratio,
        SessionId, ShardAllocator, SiteId, Tier, Timestamp, TunnelManager,
    };
    pub use vpnmesh_transport::Machine;
}
