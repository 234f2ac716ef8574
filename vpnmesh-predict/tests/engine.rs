//! The trend model in the engine: a ramp on one node of five.

use std::time::Duration;

use vpnmesh_core::{
    ActionKind, Engine, EnginePolicy, Event, FailoverPolicy, Membership, NodeEntry, NodeId,
    NodeSample, NodeState, PathSample, PublicKey, Ratio, Region, Timestamp,
};
use vpnmesh_predict::TrendPredictor;

fn at(millis: u64) -> Timestamp {
    Timestamp::ZERO + Duration::from_millis(millis)
}

fn membership() -> Membership {
    let entry = |id: u64| NodeEntry {
        id: NodeId(id),
        name: format!("n{id}"),
        region: Region(["eu", "us", "as"][id as usize % 3].into()),
        key: PublicKey([id as u8; 32]),
        addresses: Vec::new(),
        state: NodeState::Active,
    };
    Membership {
        nodes: (1..=5).map(entry).collect(),
        ..Membership::default()
    }
}

/// Node 1 gets worse by `height`; every path that ends there is worse too.
fn sample(node: u64, height: f64) -> NodeSample {
    let path = |peer: u64| {
        let touched = if node == 1 || peer == 1 { height } else { 0.0 };
        PathSample {
            peer: NodeId(peer),
            rtt: Some(Duration::from_secs_f64(0.02 + 0.06 * touched)),
            jitter: None,
            loss: Ratio::new(0.08 * touched),
            packets: 50,
        }
    };
    let cpu = if node == 1 { 0.2 + 0.75 * height } else { 0.9 };
    NodeSample {
        cpu: Ratio::new(cpu),
        paths: (1..=5).filter(|peer| *peer != node).map(path).collect(),
        ..NodeSample::default()
    }
}

#[test]
fn a_node_on_a_ramp_is_empty_and_removed_before_it_dies_and_no_other_moves() {
    let policy = EnginePolicy {
        failover: FailoverPolicy {
            step_interval: Duration::from_millis(300),
            ..FailoverPolicy::default()
        },
        ..EnginePolicy::default()
    };
    let mut engine = Engine::new(policy, Box::new(TrendPredictor::new())).unwrap();
    engine.handle_membership(&membership(), at(0));
    let (starts, dies) = (20_000_u64, 26_000_u64);
    let mut removed_at = None;
    for millis in (200..dies).step_by(200) {
        let height = millis.saturating_sub(starts) as f64 / (dies - starts) as f64;
        for node in 1..=5 {
            engine.handle_sample(NodeId(node), &sample(node, height), at(millis));
        }
        engine.handle_timeout(at(millis));
        while let Some(action) = engine.poll_action() {
            println!("{millis} ms: {} because: {}", action.kind, action.cause);
            let node = action.kind.node();
            assert_eq!(node, Some(NodeId(1)), "{action:?}");
            match action.kind {
                ActionKind::WarmStandby { node, standby } => {
                    engine.handle_event(Event::StandbyReady { node, standby }, at(millis));
                }
                ActionKind::SetShare { node, share, .. } if share == Ratio::ONE => {
                    engine.handle_event(Event::NodeDrained { node }, at(millis));
                }
                ActionKind::RemoveNode { .. } => removed_at = Some(millis),
                _ => {}
            }
        }
    }
    let removed_at = removed_at.expect("node 1 was removed before it died");
    assert!(removed_at > starts && removed_at < dies, "{removed_at}");
}
