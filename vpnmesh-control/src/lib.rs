//! Leads a mesh: one controller, an agent on every node, gRPC over mutual TLS between them.
//!
//! - [`Controller`] decides. What it decides is a [`MeshCommand`] in a log ([`store`]); what the
//!   mesh looks like is [`MeshState`], a pure function of that log.
//! - [`Agent`] reports a node's health and brings the controller's orders.
//! - [`AdminClient`] shows the mesh, explains decisions and changes the mesh.
//! - [`pki`] makes the certificates by which all of them know each other.
//!
//! ```no_run
//! use vpnmesh_control::pki::{MeshCa, Role};
//! use vpnmesh_control::{Agent, AgentConfig, Controller, ControllerConfig, ControllerParts, Hello};
//!
//! # async fn run(
//! #     signer: std::sync::Arc<dyn vpnmesh_core::MeshSigner>,
//! #     predictor: Box<dyn vpnmesh_core::FailurePredictor>,
//! #     founding: vpnmesh_core::Membership,
//! # ) -> Result<(), vpnmesh_control::Error> {
//! let ca = MeshCa::generate("home")?;
//! let credentials = ca.issue(Role::Controller, "controller")?;
//! let parts = ControllerParts { credentials, signer, predictor, founding };
//! let controller = Controller::start(ControllerConfig::default(), parts).await?;
//!
//! let config = AgentConfig { controllers: vec![controller.address()], ..AgentConfig::default() };
//! let hello = Hello { incarnation: 1, ..Hello::default() };
//! let mut agent = Agent::start(config, ca.issue(Role::Node, "n1")?, hello)?;
//! while let Some(order) = agent.order().await {
//!     println!("{order:?}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Clients and sites never talk to a controller: the signed membership reaches them through the
//! nodes. Nothing here touches packets, and while no controller runs the mesh goes on without.

mod agent;
mod command;
mod config;
mod controller;
mod error;
mod message;
pub mod pki;
mod rpc;
mod state;
mod status;
pub mod store;

pub use agent::{Agent, AgentHandle, Link, Reporter};
pub use command::{LogEntry, MeshCommand};
pub use config::{AgentConfig, ControllerConfig, read_config};
pub use controller::{Controller, ControllerHandle, ControllerParts};
pub use error::Error;
pub use message::{
    AgentReport, Candidate, CandidateKind, Change, Changed, ControllerOrder, Handover, Hello,
    SessionCounts,
};
pub use rpc::AdminClient;
pub use state::{Effect, MeshState, Refusal};
pub use status::{Counters, MeshStatus, NodeView};
