//! What shadows know, what that costs, and how their number changes.

use std::io::Write as _;
use std::time::Duration;

use vpnmesh_core::{Tier, Timestamp};
use vpnmesh_testkit::link::Link;
use vpnmesh_testkit::sim::{ActorId, Shape, World};

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_tier_changes_in_a_live_session_without_a_gap() {
    let shape = Shape {
        nodes: 5,
        clients: 1,
        sites: 1,
        tier: Tier::Basic,
    };
    let mut world = World::new(21, shape, Link::delay_ms(10));
    world.run(3000 * MS);
    world.stream(0, 0, 5000, 10 * MS);
    world.run(1000 * MS);
    for (tier, holders) in [(Tier::Premium, 4), (Tier::Standard, 3), (Tier::Basic, 2)] {
        world.set_tier(0, tier);
        world.run(2000 * MS);
        assert_eq!(world.holder(0).unwrap().1.len(), holders);
    }
    let down = world.deliveries.iter().filter(|delivery| !delivery.flow.up);
    let times: Vec<Timestamp> = down.map(|delivery| delivery.at).collect();
    let longest = times
        .windows(2)
        .map(|pair| pair[1].since(pair[0]))
        .max()
        .unwrap();
    assert!(longest <= 11 * MS, "{longest:?}");
    world.hush();
    world.run(500 * MS);
    assert_eq!(world.lost(), 0);
}

#[test]
fn a_shadow_that_missed_changes_is_fresh_again_within_two_seconds() {
    let shape = Shape {
        nodes: 2,
        clients: 1,
        sites: 1,
        tier: Tier::Basic,
    };
    let mut world = World::new(22, shape, Link::delay_ms(10));
    world.run(3000 * MS);
    world.stream(0, 0, 5000, 50 * MS);
    let (holder, _) = world.holder(0).unwrap();
    let shadow = 1 - holder;
    let (a, b) = (ActorId::Node(holder), ActorId::Node(shadow));
    world.run(1000 * MS);
    world.set_link(a, b, Link::default().cut(true));
    world.roam(0);
    world.run(3000 * MS);
    world.set_link(a, b, Link::delay_ms(10));
    world.run(2500 * MS);
    let report = world.node_report(shadow).unwrap();
    assert_eq!(report.shadowed, 1);
    assert!(report.staleness <= 2000 * MS, "{:?}", report.staleness);
    world.kill(a);
    world.run(1000 * MS);
    assert_eq!(world.holder(0).unwrap().0, shadow);
    assert_eq!(world.witness().broken(), None);
}

/// Bits a second from a primary to its shadow while `clients` sessions are idle.
fn idle_rate(clients: usize) -> u64 {
    let shape = Shape {
        nodes: 2,
        clients,
        sites: 1,
        tier: Tier::Basic,
    };
    let mut world = World::new(23, shape, Link::delay_ms(10));
    world.run(20_000 * MS);
    world.watch(ActorId::Node(0), ActorId::Node(1));
    world.run(60_000 * MS);
    let bytes: u64 = world.seen_leaving.iter().map(|(_, bytes)| bytes).sum();
    bytes * 8 / 60
}

#[test]
fn idle_sessions_cost_their_shadow_nothing_but_one_digest() {
    let (few, many) = (idle_rate(2), idle_rate(80));
    let text =
        format!("primary to shadow, idle: {few} bit/s with 2 sessions, {many} bit/s with 80\n");
    std::io::stderr().write_all(text.as_bytes()).unwrap();
    // The digest has one size; what differs is noise of timing. So 100 000 sessions cost the same.
    let per_session = many.saturating_sub(few) / 78;
    assert!(many + per_session * 100_000 <= 1_000_000, "{few} {many}");
}
