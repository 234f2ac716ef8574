//! Whole meshes in virtual time.

use std::time::Duration;

use vpnmesh_core::Ratio;
use vpnmesh_testkit::link::Link;
use vpnmesh_testkit::sim::world::Happened;
use vpnmesh_testkit::sim::{ActorId, Shape, World, invariant};
use vpnmesh_transport::client::ClientEvent;
use vpnmesh_transport::node::{NodeCommand, NodeEvent};

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

fn show(world: &World, from: usize) {
    for (at, happened) in &world.happened[from..] {
        if !matches!(happened, Happened::Node(_, NodeEvent::PeerHealth { .. }) | Happened::Client(_, ClientEvent::Report(_))) {
            println!("{at:?} {happened:?}");
        }
    }
}

/// Packets that were sent on all flows and did not come out.
fn lost(world: &mut World) -> u64 {
    world.hush();
    world.run(Duration::from_secs(2));
    let sent: u64 = world.sent().values().sum();
    sent - world.deliveries.len() as u64
}

#[test]
fn a_client_attaches_and_its_packets_reach_the_sites() {
    let mut world = world(1);
    world.run(Duration::from_secs(2));
    invariant::check(&world).unwrap();
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
    invariant::check(&world).unwrap();
}

#[test]
fn a_planned_move_loses_nothing() {
    let mut world = world(3);
    world.run(Duration::from_secs(2));
    let (holder, _) = world.holder(0).unwrap();
    let before = world.happened.len();
    for share in [0.1, 0.4, 0.7, 1.0] {
        let share = Ratio::new(share).unwrap();
        world.command_node(holder, NodeCommand::SetShare { to: None, share });
        world.run(Duration::from_millis(300));
    }
    world.run(Duration::from_secs(3));
    show(&world, before);
    assert_ne!(world.holder(0).unwrap().0, holder);
    assert_eq!(lost(&mut world), 0);
    for client in 0..2 { world.command_client(client, vpnmesh_transport::client::ClientCommand::Report); }
    println!("{:?}", world.happened.last());
    invariant::check(&world).unwrap();
}
