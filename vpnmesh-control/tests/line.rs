//! What travels between a controller and its agents, over real sockets, also when one of them dies.

#![allow(clippy::unwrap_used)] // in helpers of tests

mod common;

use std::time::Duration;

use common::{agent, anywhere, controller, link, membership_where, order, version};
use vpnmesh_control::pki::{MeshCa, Role};
use vpnmesh_control::{
    AgentReport, Candidate, CandidateKind, Change, ControllerOrder, Link, SessionCounts,
};
use vpnmesh_core::{
    Event, HealthReport, NodeId, NodeSample, NodeState, OrderKind, PublicKey, Ratio, Tier, Verdict,
};

#[tokio::test(flavor = "multi_thread")]
async fn agents_come_back_after_the_controller_died_and_its_term_has_grown() {
    let directory = tempfile::tempdir().unwrap();
    let ca = MeshCa::generate("home").unwrap();
    let first = controller(&ca, directory.path(), anywhere()).await;
    let address = first.address();
    let mut n1 = agent(ca.issue(Role::Node, "n1").unwrap(), address, 1);
    let before = membership_where(&mut n1, |_| true).await;
    assert_eq!(before.version.term, 1);
    assert_eq!(before.nodes, common::founding().nodes);
    let change = Change::Join(Candidate {
        name: "c1".into(),
        key: PublicKey([9; 32]),
        kind: CandidateKind::Client {
            prefixes: vec!["10.9.0.1/32".parse().unwrap()],
            tier: Tier::Premium,
        },
    });
    let joined = first.change(change).await.unwrap();
    assert_eq!(joined.member, Some(4));
    membership_where(&mut n1, |m| m.clients.len() == 1).await;

    first.stop().await;
    link(&n1, |link| matches!(link, Link::Down { .. })).await;
    let second = controller(&ca, directory.path(), address).await;
    link(&n1, |link| matches!(link, Link::Up { session: 2, .. })).await;
    let after = membership_where(&mut n1, |m| m.version.term == 2).await;
    assert_eq!(after.clients[0].name, "c1");
    assert!(after.version > joined.version);
    let status = second.status().await.unwrap();
    assert!(status.nodes[0].connected && !status.nodes[1].connected);
    assert_eq!(status.notes, Vec::<String>::new());
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_goes_from_warming_over_weights_to_removal() {
    let directory = tempfile::tempdir().unwrap();
    let ca = MeshCa::generate("home").unwrap();
    let controller = controller(&ca, directory.path(), anywhere()).await;
    let mut agents = Vec::new();
    for name in ["n1", "n2", "n3"] {
        let agent = agent(ca.issue(Role::Node, name).unwrap(), controller.address(), 1);
        agent
            .reporter()
            .report(AgentReport::Sample(NodeSample::default()));
        link(&agent, Link::is_up).await;
        agents.push(agent);
    }
    controller.change(Change::Drain(NodeId(1))).await.unwrap();
    let standby = order(&mut agents[0], |order| match order {
        ControllerOrder::Warm {
            node: NodeId(1),
            standby,
            ..
        } => Some(*standby),
        _ => None,
    })
    .await;
    let helper = &mut agents[standby.0 as usize - 1];
    let warm =
        |order: &ControllerOrder| matches!(order, ControllerOrder::Warm { .. }).then_some(());
    order(helper, warm).await;
    let ready = Event::StandbyReady {
        node: NodeId(1),
        standby,
    };
    helper.reporter().report(AgentReport::Event(ready));
    let moved = order(&mut agents[0], |order| match order {
        ControllerOrder::SetShare {
            node: NodeId(1),
            to,
            share,
            ..
        } => Some((*to, *share)),
        _ => None,
    })
    .await;
    assert_eq!(moved, (standby, Ratio::ONE));
    let drained = Event::NodeDrained { node: NodeId(1) };
    agents[0].reporter().report(AgentReport::Event(drained));
    let removal = order(&mut agents[2], |order| match order {
        ControllerOrder::Signed { order, signed } if order.kind == OrderKind::Remove => {
            Some((*order, signed.clone()))
        }
        _ => None,
    })
    .await;
    assert_eq!(
        serde_json::from_slice::<vpnmesh_core::Order>(&removal.1).unwrap(),
        removal.0
    );
    let gone = |m: &vpnmesh_core::Membership| m.nodes[0].state == NodeState::Removed;
    membership_where(&mut agents[1], gone).await;
    let explained = controller.explain(Some(NodeId(1)), 100).await.unwrap();
    assert!(explained.len() >= 3, "{explained:?}");

    controller.change(Change::Undrain(NodeId(1))).await.unwrap();
    membership_where(&mut agents[1], |m| m.nodes[0].state == NodeState::Active).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_is_removed_by_two_witnesses_and_comes_back_anew() {
    let directory = tempfile::tempdir().unwrap();
    let ca = MeshCa::generate("home").unwrap();
    let controller = controller(&ca, directory.path(), anywhere()).await;
    let address = controller.address();
    let n1 = agent(ca.issue(Role::Node, "n1").unwrap(), address, 1);
    let mut n2 = agent(ca.issue(Role::Node, "n2").unwrap(), address, 1);
    let n3 = agent(ca.issue(Role::Node, "n3").unwrap(), address, 1);
    for agent in [&n1, &n2, &n3] {
        link(agent, Link::is_up).await;
    }
    n1.stop().await;
    let silent = |from| {
        AgentReport::Health(HealthReport {
            from: NodeId(from),
            about: NodeId(1),
            verdict: Verdict::Silent,
            risk: None,
            path: None,
            own_delay: Duration::ZERO,
        })
    };
    n2.reporter().report(silent(2));
    n3.reporter().report(silent(3));
    membership_where(&mut n2, |m| m.nodes[0].state == NodeState::Removed).await;
    let n1 = agent(ca.issue(Role::Node, "n1").unwrap(), address, 2);
    link(&n1, Link::is_up).await;
    membership_where(&mut n2, |m| m.nodes[0].state == NodeState::Active).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_is_refused_and_learns_how_to_start_anew() {
    let directory = tempfile::tempdir().unwrap();
    let ca = MeshCa::generate("home").unwrap();
    let controller = controller(&ca, directory.path(), anywhere()).await;
    let address = controller.address();
    let credentials = ca.issue(Role::Node, "n1").unwrap();
    let rightful = agent(credentials.clone(), address, 5);
    link(&rightful, Link::is_up).await;
    let zombie = agent(credentials, address, 4);
    let refused = link(&zombie, |link| matches!(link, Link::Refused { .. })).await;
    let Link::Refused {
        reason,
        seen_incarnation,
    } = refused
    else {
        unreachable!("it was waited for");
    };
    assert_eq!(reason, "node n-1 has been seen as incarnation 5");
    assert_eq!(seen_incarnation, Some(5));
    assert!(rightful.link().borrow().is_up());
    rightful.stop().await;
    zombie.restart_as(6, [6; 16]);
    link(&zombie, Link::is_up).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_lost_its_log_goes_beyond_what_nodes_have_seen() {
    let directory = tempfile::tempdir().unwrap();
    let ca = MeshCa::generate("home").unwrap();
    let controller = controller(&ca, directory.path(), anywhere()).await;
    let config = vpnmesh_control::AgentConfig {
        controllers: vec![controller.address()],
        ..vpnmesh_control::AgentConfig::default()
    };
    let hello = vpnmesh_control::Hello {
        incarnation: 1,
        seen: version(7, 1000),
        ..vpnmesh_control::Hello::default()
    };
    let credentials = ca.issue(Role::Node, "n1").unwrap();
    let mut n1 = vpnmesh_control::Agent::start(config, credentials, hello).unwrap();
    let newest = membership_where(&mut n1, |m| m.version > version(7, 1000)).await;
    assert_eq!(newest.version.term, 8);
    let status = controller.status().await.unwrap();
    assert!(
        status.notes[0].contains("the log ends at"),
        "{:?}",
        status.notes
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_says_about_itself_shows_in_the_status() {
    let directory = tempfile::tempdir().unwrap();
    let ca = MeshCa::generate("home").unwrap();
    let controller = controller(&ca, directory.path(), anywhere()).await;
    let mut n1 = agent(ca.issue(Role::Node, "n1").unwrap(), controller.address(), 3);
    let counts = SessionCounts {
        held: 7,
        shadowed: 2,
        ..SessionCounts::default()
    };
    n1.reporter().report(AgentReport::Sessions(counts));
    n1.reporter()
        .report(AgentReport::Event(Event::StandbyReady {
            node: NodeId(2),
            standby: NodeId(3),
        }));
    loop {
        let status = controller.status().await.unwrap();
        let view = &status.nodes[0];
        if view.sessions == Some(counts) && status.counters.bad_reports == 1 {
            assert_eq!((view.connected, view.incarnation), (true, Some(3)));
            break;
        }
        // Each answer took a turn of the controller; the reports are on their way.
        controller.change(Change::Release(NodeId(1))).await.unwrap();
        let _ = n1.try_order();
    }
}
