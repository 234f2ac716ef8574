//! Thousands of meshes, each drawn from a seed.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use vpnmesh_testkit::sim::invariant::LAWS;
use vpnmesh_testkit::sim::play::{Outcome, play};

/// What all seeds together were.
#[derive(Debug, Default)]
struct Total {
    seeds: u64,
    faults: BTreeMap<&'static str, u64>,
    deliveries: u64,
    client_packets: u64,
    site_packets: u64,
    statements: u64,
    quiet_moves: u64,
    slowest: (Duration, u64),
    failed: Vec<Outcome>,
}

impl Total {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        for (kind, count) in &outcome.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        self.deliveries += outcome.applied.deliveries;
        self.client_packets += outcome.applied.client_packets;
        self.site_packets += outcome.applied.site_packets;
        self.statements += outcome.applied.statements;
        self.quiet_moves += outcome.quiet_moves;
        self.slowest = self.slowest.max((outcome.healed_after, outcome.seed));
        if outcome.broken.is_some() {
            self.failed.push(outcome);
        }
    }

    /// The figures, past the capture of the test harness: they are the evidence.
    fn print(&self) {
        let faults: u64 = self.faults.values().sum();
        let mut text = format!("{} seeds, {faults} faults\n", self.seeds);
        for (kind, count) in &self.faults {
            text += &format!("  {count:>6} {kind}\n");
        }
        text += &format!("laws: {}\n", LAWS.join(", "));
        text += &format!(
            "checked: {} deliveries, {} packets at clients, {} at sites, {} statements, {} quiet planned moves\n",
            self.deliveries,
            self.client_packets,
            self.site_packets,
            self.statements,
            self.quiet_moves
        );
        text += &format!(
            "slowest to heal: {:?} (seed {})\n",
            self.slowest.0, self.slowest.1
        );
        let mut failed: Vec<&Outcome> = self.failed.iter().collect();
        failed.sort_by_key(|outcome| outcome.seed);
        for outcome in failed {
            let seed = outcome.seed;
            text += &format!(
                "seed {seed} broke {:?}\n  replay: VPNMESH_SEED={seed} cargo test -p vpnmesh-testkit --test sim -- replay --nocapture\n",
                outcome.broken
            );
        }
        let _ = std::io::stderr().write_all(text.as_bytes()); // nobody reads it then
    }
}

fn play_all(first: u64, count: u64) -> Total {
    let (next, total) = (AtomicU64::new(first), Mutex::new(Total::default()));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    let start = std::time::Instant::now();
                    let outcome = play(seed);
                    if start.elapsed() > Duration::from_secs(5) {
                        eprintln!("seed {seed} took {:?}", start.elapsed());
                    }
                    total.lock().expect("no thread panicked").add(outcome);
                }
            });
        }
    });
    total.into_inner().expect("no thread panicked")
}

#[test]
fn every_law_holds_in_a_thousand_seeds() {
    let wanted = std::env::var("VPNMESH_SEEDS").unwrap_or_default();
    let mut wanted = wanted
        .split(',')
        .map(|number| number.trim().parse::<u64>().ok());
    let count = wanted.next().flatten().unwrap_or(1000);
    let first = wanted.next().flatten().unwrap_or(1);
    let total = play_all(first, count);
    total.print();
    assert!(
        total.failed.is_empty(),
        "{} seeds failed, see above",
        total.failed.len()
    );
    if count >= 500 {
        assert!(total.quiet_moves > 50 && total.statements > 1000);
    }
}

#[test]
fn replay_the_seed_of_the_environment() {
    let Some(seed) = std::env::var("VPNMESH_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
    else {
        return;
    };
    let outcome = play(seed);
    for line in &outcome.story {
        println!("{line}");
    }
    println!(
        "healed after {:?}, {:?}",
        outcome.healed_after, outcome.faults
    );
    assert_eq!(outcome.broken, None);
}

#[test]
fn a_seed_plays_the_same_way_twice() {
    let (one, two) = (play(11), play(11));
    assert_eq!(one.applied, two.applied);
    assert_eq!(one.healed_after, two.healed_after);
}
