//! Meshes in which one thing happens.

use std::time::Duration;

use vpnmesh_core::Ratio;
use vpnmesh_testkit::link::Link;
use vpnmesh_testkit::sim::{ActorId, Shape, World, invariant};
use vpnmesh_transport::node::NodeCommand;

fn world(seed: u64) -> World {
    let mut world = World::new(seed, Shape::default(), Link::delay_ms(10).jitter_ms(2));
    world.run(Duration::from_secs(3));
    for client in 0..2 {
        world.stream(client, 0, 5000, Duration::from_millis(10));
        for port in 5001..5010 {
            world.stream(client, 1, port, Duration::from_millis(20));
        }
    }
    world
}

/// Packets that were sent on all flows and did not come out.
fn lost(world: &mut World) -> usize {
    world.hush();
    world.run(Duration::from_secs(2));
    assert_eq!(world.witness().broken(), None);
    world.lost()
}

#[test]
fn a_client_attaches_and_its_packets_reach_the_sites() {
    let mut world = world(1);
    world.run(Duration::from_secs(2));
    assert!(world.deliveries.len() > 1500);
    assert_eq!(lost(&mut world), 0);
}

#[test]
fn a_killed_holder_is_taken_over() {
    let mut world = world(2);
    world.run(Duration::from_secs(2));
    let (holder, _) = world.holder(0).unwrap();
    world.kill(ActorId::Node(holder));
    world.run(Duration::from_secs(3));
    let (next, roster) = world.holder(0).unwrap();
    assert_ne!(next, holder);
    assert_eq!(roster.len(), 3);
    assert_eq!(world.witness().broken(), None);
}

#[test]
fn a_planned_move_loses_nothing() {
    let mut world = world(3);
    world.run(Duration::from_secs(2));
    let (holder, _) = world.holder(0).unwrap();
    for share in [0.1, 0.4, 0.7, 1.0] {
        let share = Ratio::new(share).unwrap();
        world.command_node(holder, NodeCommand::SetShare { to: None, share });
        world.run(Duration::from_millis(300));
    }
    world.run(Duration::from_secs(3));
    assert_ne!(world.holder(0).unwrap().0, holder);
    assert_eq!(lost(&mut world), 0);
}

#[test]
fn nothing_is_kept_of_sessions_that_ended() {
    let mut world = World::new(4, Shape::default(), Link::delay_ms(5));
    for restart in 0..6 {
        world.run(Duration::from_secs(10));
        let (holder, roster) = world.holder(0).unwrap();
        let node = if restart % 2 == 0 { holder } else { roster[1] };
        world.kill(ActorId::Client(0));
        world.kill(ActorId::Node(node));
        world.start(ActorId::Client(0));
        world.start(ActorId::Node(node));
    }
    world.run(Duration::from_secs(200));
    assert_eq!(invariant::bounds::check(&world), Ok(()));
    assert_eq!(world.witness().broken(), None);
}
