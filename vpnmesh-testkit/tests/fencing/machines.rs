//! The machines of a small mesh, with every single datagram of a move going wrong once.
//!
//! Client, nodes and site are the product's own, in virtual time. Each scenario is played once
//! without a fault, to see how many datagrams there are; then once for each of them and each thing
//! that can become of it, and once for each moment at which a member can die or stop. After each
//! run the laws of the simulator must have held, and the mesh must be whole again.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use vpnmesh_core::{Ratio, Tier};
use vpnmesh_testkit::link::Link;
use vpnmesh_testkit::sim::invariant::healing;
use vpnmesh_testkit::sim::{ActorId, Fate, Shape, World};
use vpnmesh_transport::node::NodeCommand;

use crate::say;

const MS: Duration = Duration::from_millis(1);

/// What is done to a whole mesh.
#[derive(Debug, Clone, Copy)]
enum Scenario {
    /// The holder dies and comes back without its memory.
    Crash,
    /// The holder stops like a process under SIGSTOP, and goes on as a zombie.
    Zombie,
    /// A planned move.
    Planned,
    /// A planned move that is turned back.
    TurnedBack,
}

/// What goes wrong beside that, at the datagram of that number.
#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    Datagram(u64, Fate),
    Death(u64, ActorId),
    Stop(u64, ActorId),
}

/// What came of a run.
struct Run {
    /// Datagrams while the scenario was played.
    datagrams: u64,
    healed_after: Duration,
}

fn world() -> World {
    let shape = Shape {
        nodes: 3,
        clients: 1,
        sites: 1,
        tier: Tier::Standard,
    };
    let mut world = World::new(31, shape, Link::delay_ms(10));
    world.run(2200 * MS);
    world.stream(0, 0, 5000, 20 * MS);
    world.run(200 * MS);
    world
}

fn set_share(world: &mut World, node: usize, share: f64) {
    let share = Ratio::saturating(share);
    world.command_node(node, NodeCommand::SetShare { to: None, share });
}

/// Plays a scenario with one fault; what broke, if something did.
fn play(scenario: Scenario, fault: Fault) -> Result<Run, String> {
    let mut world = world();
    let (holder, _) = world.holder(0).ok_or("no holder to begin with")?;
    let first = world.offered();
    let start = world.now();
    if let Fault::Datagram(number, fate) = fault {
        world.set_fates([(first + number, fate)]);
    }
    let holder_id = ActorId::Node(holder);
    match scenario {
        Scenario::Crash => world.kill(holder_id),
        Scenario::Zombie => world.freeze(holder_id),
        Scenario::Planned => set_share(&mut world, holder, 1.0),
        Scenario::TurnedBack => set_share(&mut world, holder, 0.5),
    }
    let (at, victim) = match fault {
        Fault::Death(at, victim) | Fault::Stop(at, victim) => (at, Some(victim)),
        Fault::None | Fault::Datagram(..) => (0, None),
    };
    let middle = start + SPAN / 3;
    if victim.is_some() {
        world.run_until(middle, |world| world.offered() > first + at);
        match (fault, victim) {
            (Fault::Stop(..), Some(victim)) => world.freeze(victim),
            (_, Some(victim)) => world.kill(victim),
            (_, None) => {}
        }
    }
    world.run_until(middle, |_| false);
    match scenario {
        Scenario::TurnedBack => set_share(&mut world, holder, 0.0),
        Scenario::Zombie => world.thaw(holder_id),
        Scenario::Crash | Scenario::Planned => {}
    }
    world.run_until(start + SPAN, |_| false);
    let datagrams = world.offered() - first;
    world.set_fates([]);
    for id in [holder_id].into_iter().chain(victim) {
        world.thaw(id);
        if world.actor(id).is_none() {
            world.start(id);
        }
    }
    for node in 0..world.shape().nodes {
        set_share(&mut world, node, 0.0);
    }
    let healed_after = heal(&mut world)?;
    Ok(Run {
        datagrams,
        healed_after,
    })
}

fn heal(world: &mut World) -> Result<Duration, String> {
    let start = world.now();
    loop {
        world.run(250 * MS);
        if let Some(broken) = world.witness().broken() {
            return Err(format!("{}: {}", broken.law, broken.what));
        }
        match healing::check(world) {
            Ok(()) => return Ok(world.now().since(start)),
            Err(broken) if world.now().since(start) >= HEAL => return Err(broken.what),
            Err(_) => {}
        }
    }
}

/// All faults within a scenario of so many datagrams.
fn faults(datagrams: u64) -> Vec<Fault> {
    let fates = [Fate::Lost, Fate::Late(150 * MS), Fate::Again(150 * MS)];
    let of_datagrams =
        (0..datagrams).flat_map(|number| fates.map(|fate| Fault::Datagram(number, fate)));
    let members = [
        ActorId::Node(0),
        ActorId::Node(1),
        ActorId::Node(2),
        ActorId::Site(0),
        ActorId::Client(0),
    ];
    let moments = (0..datagrams).step_by(MOMENTS);
    let of_members = moments.flat_map(|at| {
        members
            .into_iter()
            .flat_map(move |member| [Fault::Death(at, member), Fault::Stop(at, member)])
    });
    of_datagrams.chain(of_members).collect()
}

/// Plays a scenario with each fault, on all processors.
fn try_all(scenario: Scenario, least: usize) {
    let start = Instant::now();
    let quiet = play(scenario, Fault::None).unwrap();
    let faults = faults(quiet.datagrams);
    let (next, slowest) = (AtomicUsize::new(0), Mutex::new(Duration::ZERO));
    let failed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match play(scenario, *fault) {
                        Ok(run) => {
                            let mut slowest = slowest.lock().unwrap();
                            *slowest = run.healed_after.max(*slowest);
                        }
                        Err(what) => failed.lock().unwrap().push((*fault, what)),
                    }
                }
            });
        }
    });
    say(&format!(
        "{scenario:?}: {} datagrams, {} runs with one fault each, slowest to heal {:?}, {:?}\n",
        quiet.datagrams,
        faults.len(),
        slowest.into_inner().unwrap(),
        start.elapsed()
    ));
    let failed = failed.into_inner().unwrap();
    assert!(
        failed.is_empty(),
        "{} runs failed: {failed:#?}",
        failed.len()
    );
    assert!(faults.len() >= least, "{} runs", faults.len());
}

#[test]
fn one_fault_at_a_time_breaks_no_crash_takeover() {
    try_all(Scenario::Crash, 100);
}

#[test]
fn one_fault_at_a_time_breaks_no_fence_against_a_zombie() {
    try_all(Scenario::Zombie, 100);
}

#[test]
fn one_fault_at_a_time_breaks_no_planned_move() {
    try_all(Scenario::Planned, 100);
}

#[test]
fn one_fault_at_a_time_breaks_no_move_that_is_turned_back() {
    try_all(Scenario::TurnedBack, 100);
}

/// A takeover and a move are over by then.
const SPAN: Duration = Duration::from_millis(450);
const HEAL: Duration = Duration::from_secs(15);
/// Members die and stop at every so many datagrams.
const MOMENTS: usize = 12;
