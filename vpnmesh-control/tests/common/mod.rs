//! A mesh of three nodes whose root signature is a stand-in.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)] // helpers of tests

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use vpnmesh_control::pki::{Credentials, MeshCa, Role};
use vpnmesh_control::{
    Agent, AgentConfig, AgentHandle, Controller, ControllerConfig, ControllerHandle,
    ControllerOrder, ControllerParts, Hello, Link,
};
use vpnmesh_core::{
    EnginePolicy, Membership, MeshSigner, NodeEntry, NodeId, NodeState, Order, PublicKey, Ratio,
    Region, ThresholdPredictor, Version,
};

/// "Signs" by writing down what is signed.
#[derive(Debug)]
pub struct Scribe;

impl MeshSigner for Scribe {
    fn sign_membership(&self, membership: &Membership) -> Vec<u8> {
        serde_json::to_vec(membership).unwrap()
    }

    fn sign_order(&self, order: &Order) -> Vec<u8> {
        serde_json::to_vec(order).unwrap()
    }
}

pub fn membership(signed: &[u8]) -> Membership {
    serde_json::from_slice(signed).unwrap()
}

pub fn founding() -> Membership {
    let node = |id: u64| NodeEntry {
        id: NodeId(id),
        name: format!("n{id}"),
        region: Region(format!("region-{id}")),
        key: PublicKey([id as u8; 32]),
        addresses: vec![SocketAddr::from(([192, 0, 2, id as u8], 51820))],
        state: NodeState::Active,
    };
    Membership {
        nodes: (1..=3).map(node).collect(),
        ..Membership::default()
    }
}

/// As fast as the engine allows: one step, no dwell.
pub fn hasty() -> EnginePolicy {
    let mut policy = EnginePolicy::default();
    policy.failover.initial_weight = Ratio::ONE;
    policy.failover.step_interval = Duration::from_millis(100);
    policy.failover.dwell = Duration::from_millis(1);
    policy
}

pub async fn controller(ca: &MeshCa, directory: &Path, listen: SocketAddr) -> ControllerHandle {
    let credentials = ca.issue(Role::Controller, "k1").unwrap();
    start(credentials, directory, listen).await
}

pub async fn start(
    credentials: Credentials,
    directory: &Path,
    listen: SocketAddr,
) -> ControllerHandle {
    let config = ControllerConfig {
        listen,
        directory: Some(directory.to_owned()),
        policy: hasty(),
        compact_after: 5,
        ..ControllerConfig::default()
    };
    let parts = ControllerParts {
        credentials,
        signer: Arc::new(Scribe),
        predictor: Box::new(ThresholdPredictor::default()),
        founding: founding(),
    };
    Controller::start(config, parts).await.unwrap()
}

pub fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub fn agent(credentials: Credentials, controller: SocketAddr, incarnation: u64) -> AgentHandle {
    let config = AgentConfig {
        controllers: vec![controller],
        retry_min_ms: 1,
        retry_max_ms: 20,
        ..AgentConfig::default()
    };
    let hello = Hello {
        incarnation,
        ..Hello::default()
    };
    Agent::start(config, credentials, hello).unwrap()
}

/// Waits for the line to be as `wanted`; panics instead of hanging.
pub async fn link(agent: &AgentHandle, wanted: impl FnMut(&Link) -> bool) -> Link {
    let mut link = agent.link();
    let waiting = link.wait_for(wanted);
    let seen = tokio::time::timeout(PATIENCE, waiting).await;
    match seen {
        Ok(seen) => seen.unwrap().clone(),
        Err(_) => panic!("the line stays {:?}", *agent.link().borrow()),
    }
}

/// Waits until the agent is told that it is not let in, and why. Not the first failure counts: a
/// connection that the controller closes may break before its last words are read, and the agent
/// tries again.
pub async fn is_refused(agent: &AgentHandle, why: &str) {
    let told = |link: &Link| match link {
        Link::Refused { reason, .. } | Link::Down { reason, .. } => reason == why,
        Link::Up { .. } => panic!("it was let in"),
    };
    link(agent, told).await;
}

/// The first order for which `pick` has an answer.
pub async fn order<T>(
    agent: &mut AgentHandle,
    mut pick: impl FnMut(&ControllerOrder) -> Option<T>,
) -> T {
    let waiting = async {
        loop {
            let order = agent.order().await.expect("the agent runs");
            if let Some(picked) = pick(&order) {
                return picked;
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("the order never came")
}

pub async fn membership_where(
    agent: &mut AgentHandle,
    mut wanted: impl FnMut(&Membership) -> bool,
) -> Membership {
    order(agent, |order| match order {
        ControllerOrder::Membership { signed, .. } => Some(membership(signed)).filter(&mut wanted),
        _ => None,
    })
    .await
}

pub fn version(term: u64, index: u64) -> Version {
    Version { term, index }
}

pub const PATIENCE: Duration = Duration::from_secs(30);
