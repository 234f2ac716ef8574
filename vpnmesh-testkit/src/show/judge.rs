//! Makes promises of evidence.

use std::time::Duration;

use super::evidence::{Evidence, SilenceSample, ms};
use crate::report::{Promise, percentile_of};

/// The acts in which a holder is lost without a warning.
pub(super) const SUDDEN: [u32; 3] = [4, 5, 6];
/// The acts in which a session is moved on purpose.
pub(super) const PLANNED: [u32; 2] = [2, 3];

/// Every promise about what was played, with what was measured.
///
/// - `rounds`: how many were played; `None` while the play goes on, when counts say nothing yet
#[must_use]
pub(super) fn judge(evidence: &Evidence, rounds: Option<u32>) -> Vec<Promise> {
    let mut promises = vec![
        Promise::none(
            "all",
            "TCP connections broken",
            tcp(evidence).0,
            "connections",
        ),
        Promise::none("all", "bytes wrong", tcp(evidence).1, "bytes"),
    ];
    promises.extend(downloads(evidence));
    for act in PLANNED
        .into_iter()
        .filter(|act| evidence.played.contains(act))
    {
        promises.extend(planned(evidence, act));
    }
    if evidence.played.contains(&3) {
        let hit = evidence.hit_by_death;
        promises.push(Promise::none(
            "3",
            "sessions that the death still hit",
            hit,
            "sessions",
        ));
    }
    if SUDDEN.iter().any(|act| evidence.played.contains(act)) {
        promises.extend(sudden(evidence, rounds));
    }
    if evidence.played.contains(&5) {
        promises.extend(zombies(evidence));
    }
    if evidence.played.contains(&7) {
        let back = evidence.cut_off.len() as f64;
        promises.push(Promise::at_least(
            "7",
            "clients that found another member",
            Some(back),
            1.0,
            "clients",
        ));
    }
    if !evidence.returns.is_empty() {
        let astray = evidence.returns.iter().map(|it| it.astray).sum();
        promises.push(Promise::none(
            "2-7",
            "return traffic through another holder",
            astray,
            "sites",
        ));
    }
    promises.push(halted(evidence));
    promises
}

fn halted(evidence: &Evidence) -> Promise {
    let halted = evidence.halted.len() as u64;
    let name = "acts that could not be played to their end";
    Promise::none("all", name, halted, "acts")
}

/// Broken connections and wrong bytes of all clients.
fn tcp(evidence: &Evidence) -> (u64, u64) {
    let of = |pick: fn(&(u64, u64)) -> u64| evidence.tcp.values().map(pick).sum();
    (of(|it| it.0), of(|it| it.1))
}

/// Known at the end only.
fn downloads(evidence: &Evidence) -> Option<Promise> {
    let sums = evidence.sums.as_ref()?;
    let wrong = sums.iter().filter(|client| !client.sha256_verified).count();
    Some(Promise::none(
        "all",
        "clients whose downloads have the wrong SHA-256",
        wrong as u64,
        "clients",
    ))
}

fn planned(evidence: &Evidence, act: u32) -> [Promise; 3] {
    let name = act.to_string();
    let moves = || evidence.moves.iter().filter(|it| it.moment.act == act);
    // What was not measured did not hold.
    let measured = moves().count() > 0 && moves().all(|it| it.complete);
    let count = |sum: u64| measured.then_some(sum as f64);
    let lost = count(moves().map(|it| it.lost).sum());
    let duplicated = count(moves().map(|it| it.duplicated).sum());
    let excess = moves().map(|it| it.excess).collect::<Option<Vec<_>>>();
    let excess = excess
        .and_then(|all| all.into_iter().max())
        .filter(|_| measured);
    [
        Promise::at_most(&name, "datagrams lost by the move", lost, 0.0, "datagrams"),
        Promise::at_most(
            &name,
            "datagrams duplicated by the move",
            duplicated,
            0.0,
            "datagrams",
        ),
        Promise::at_most(
            &name,
            "p99 of the one-way delay over the move, above steady",
            excess.map(ms),
            ms(EXCESS),
            "ms",
        ),
    ]
}

fn sudden(evidence: &Evidence, rounds: Option<u32>) -> Vec<Promise> {
    let acts = "4-6";
    let excess = || evidence.silences.iter().map(SilenceSample::excess);
    let median = percentile_of(excess().collect(), 50);
    let samples = evidence.silences.len() as f64;
    let mut promises = vec![
        Promise::at_most(
            acts,
            "silence less one round trip, p50",
            median.map(ms),
            ms(MEDIAN),
            "ms",
        ),
        Promise::at_most(
            acts,
            "silence less one round trip, maximum",
            excess().max().map(ms),
            ms(LONGEST),
            "ms",
        ),
    ];
    if let Some(rounds) = rounds {
        let acts_played = SUDDEN.iter().filter(|act| evidence.played.contains(act));
        let wanted = if rounds >= ENOUGH_ROUNDS {
            ENOUGH_SAMPLES
        } else {
            f64::from(rounds) * acts_played.count() as f64 // one client at least sees each
        };
        promises.push(Promise::at_least(
            acts,
            "silences measured",
            Some(samples),
            wanted,
            "samples",
        ));
    }
    promises
}

fn zombies(evidence: &Evidence) -> [Promise; 2] {
    let played = !evidence.zombies.is_empty();
    let sum = |of: fn(&super::evidence::ZombieSample) -> u64| {
        let sum: u64 = evidence.zombies.iter().map(of).sum();
        played.then_some(sum as f64)
    };
    [
        Promise::at_most(
            "5",
            "zombie packets accepted",
            sum(|it| it.accepted),
            0.0,
            "packets",
        ),
        Promise::at_least(
            "5",
            "zombie packets fenced, so it did speak",
            sum(|it| it.fenced),
            1.0,
            "packets",
        ),
    ]
}

/// The promises of an endurance run that was to last for `asked`.
#[must_use]
pub(super) fn judge_endurance(evidence: &Evidence, asked: Duration) -> Vec<Promise> {
    let minutes = |span: Duration| span.as_secs_f64() / 60.0;
    let (broken, wrong) = tcp(evidence);
    let mut promises = vec![
        Promise::none("1", "TCP connections broken", broken, "connections"),
        Promise::none("1", "bytes wrong", wrong, "bytes"),
        Promise::none(
            "1",
            "false takeovers",
            evidence.false_takeovers,
            "takeovers",
        ),
        Promise::at_least(
            "1",
            "watched",
            Some(minutes(evidence.endured)),
            minutes(asked),
            "minutes",
        ),
    ];
    promises.extend(downloads(evidence));
    promises.push(halted(evidence));
    promises
}

const EXCESS: Duration = Duration::from_millis(5);
const MEDIAN: Duration = Duration::from_millis(150);
/// The longest silence promised, round trip not counted.
pub(super) const LONGEST: Duration = Duration::from_millis(300);
const ENOUGH_ROUNDS: u32 = 30;
const ENOUGH_SAMPLES: f64 = 60.0;

#[cfg(test)]
mod tests {
    use super::super::evidence::{Halted, Moment, MoveSample, ReturnSample, ZombieSample};
    use super::*;

    fn moment(act: u32) -> Moment {
        Moment {
            act,
            round: 1,
            who: "c1".into(),
        }
    }

    fn good() -> Evidence {
        let millis = Duration::from_millis;
        Evidence {
            played: (1..=7).collect(),
            moves: [2, 3]
                .map(|act| MoveSample {
                    moment: moment(act),
                    excess: Some(millis(2)),
                    complete: true,
                    ..MoveSample::default()
                })
                .into(),
            silences: [4, 5, 6]
                .map(|act| SilenceSample {
                    moment: moment(act),
                    silence: millis(150),
                    rtt: millis(30),
                    starved: Duration::ZERO,
                })
                .into(),
            zombies: vec![ZombieSample {
                moment: moment(5),
                accepted: 0,
                fenced: 12,
            }],
            returns: vec![ReturnSample {
                moment: moment(4),
                astray: 0,
            }],
            cut_off: vec![SilenceSample::default()],
            ..Evidence::default()
        }
    }

    fn broken(evidence: &Evidence, rounds: u32) -> Vec<String> {
        let promises = judge(evidence, Some(rounds));
        let broken = promises.into_iter().filter(|promise| !promise.held);
        broken
            .map(|promise| format!("{}: {}", promise.act, promise.name))
            .collect()
    }

    #[test]
    fn a_good_run_holds_every_promise() {
        assert_eq!(broken(&good(), 1), [""; 0]);
    }

    #[test]
    fn each_fault_breaks_its_own_promise() {
        type Fault = (fn(&mut Evidence), &'static str);
        let faults: [Fault; 10] = [
            (
                |it| it.tcp = [("c1".into(), (1, 0))].into(),
                "all: TCP connections broken",
            ),
            (
                |it| it.tcp = [("c1".into(), (0, 8))].into(),
                "all: bytes wrong",
            ),
            (|it| it.moves[0].lost = 1, "2: datagrams lost by the move"),
            (
                |it| it.moves[1].duplicated = 1,
                "3: datagrams duplicated by the move",
            ),
            (
                |it| it.moves[0].excess = Some(Duration::from_micros(5100)),
                "2: p99 of the one-way delay over the move, above steady",
            ),
            (
                |it| it.hit_by_death = 1,
                "3: sessions that the death still hit",
            ),
            (
                |it| it.silences[2].silence = Duration::from_millis(331),
                "4-6: silence less one round trip, maximum",
            ),
            (
                |it| it.zombies[0].accepted = 1,
                "5: zombie packets accepted",
            ),
            (
                |it| it.returns[0].astray = 1,
                "2-7: return traffic through another holder",
            ),
            (
                |it| it.cut_off.clear(),
                "7: clients that found another member",
            ),
        ];
        for (fault, name) in faults {
            let mut evidence = good();
            fault(&mut evidence);
            assert_eq!(broken(&evidence, 1), [name]);
        }
    }

    #[test]
    fn an_act_that_was_played_but_not_measured_did_not_hold() {
        let mut evidence = good();
        evidence.moves.clear();
        evidence.silences.clear();
        assert_eq!(broken(&evidence, 1).len(), 9);
        evidence = good();
        evidence.moves[0].complete = false;
        assert_eq!(broken(&evidence, 1).len(), 3);
        evidence = good();
        evidence.halted.push(Halted {
            moment: moment(3),
            why: "nobody came".into(),
        });
        assert_eq!(
            broken(&evidence, 1),
            ["all: acts that could not be played to their end"]
        );
    }

    #[test]
    fn thirty_rounds_promise_sixty_samples() {
        assert_eq!(broken(&good(), 30), ["4-6: silences measured"]);
        let mut evidence = good();
        evidence.silences = vec![evidence.silences[0].clone(); 60];
        assert_eq!(broken(&evidence, 30), [""; 0]);
    }

    #[test]
    fn an_endurance_run_that_ends_early_did_not_hold() {
        let asked = Duration::from_secs(3600);
        let broken = |evidence: &Evidence| {
            let promises = judge_endurance(evidence, asked);
            promises.iter().filter(|promise| !promise.held).count()
        };
        let whole = Evidence {
            endured: asked,
            ..Evidence::default()
        };
        assert_eq!(broken(&whole), 0);
        let mut early = whole.clone();
        early.endured = asked - Duration::from_secs(1);
        assert_eq!(broken(&early), 1);
        let mut false_alarm = whole.clone();
        false_alarm.false_takeovers = 1;
        assert_eq!(broken(&false_alarm), 1);
        let mut halted = whole;
        halted.halted.push(Halted {
            moment: moment(1),
            why: "the lab broke".into(),
        });
        assert_eq!(broken(&halted), 1);
    }

    #[test]
    fn an_act_that_was_left_out_promises_nothing() {
        let evidence = Evidence {
            played: [4].into(),
            silences: good().silences,
            ..Evidence::default()
        };
        let acts: Vec<String> = judge(&evidence, Some(1))
            .into_iter()
            .map(|it| it.act)
            .collect();
        assert_eq!(acts, ["all", "all", "4-6", "4-6", "4-6", "all"]);
    }
}
