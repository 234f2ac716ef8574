//! What the acts measured, before anybody judges it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vpnmesh_core::Timestamp;

use crate::report::{ClientSums, Sample};
use crate::traffic::{ArrivedWindow, FlowWindow, GRACE, LoadWindow, ResourceWindow};

/// Everything that was measured so far.
#[derive(Clone, Default, Debug)]
pub(super) struct Evidence {
    /// Acts that were played, to their end or not.
    pub(super) played: BTreeSet<u32>,
    /// Acts that ended early.
    pub(super) halted: Vec<Halted>,
    /// Planned moves.
    pub(super) moves: Vec<MoveSample>,
    /// Lost holders.
    pub(super) silences: Vec<SilenceSample>,
    /// Zombies.
    pub(super) zombies: Vec<ZombieSample>,
    /// Whether return traffic followed, for each change of a holder.
    pub(super) returns: Vec<ReturnSample>,
    /// Holders all lost at once: how long clients were cut off.
    pub(super) cut_off: Vec<SilenceSample>,
    /// Sessions that were still with a node that had been left, when it died.
    pub(super) hit_by_death: u64,
    /// Takeovers without a lost holder, while nothing was wrong.
    pub(super) false_takeovers: u64,
    /// How long these were watched for.
    pub(super) endured: Duration,
    /// Sums of each client; at the end of the run only.
    pub(super) sums: Option<Vec<ClientSums>>,
    /// Broken connections and wrong bytes of each client until now.
    pub(super) tcp: BTreeMap<String, (u64, u64)>,
}

/// When and to whom something happened.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Moment {
    /// The act.
    pub(super) act: u32,
    /// The round, from 1 on.
    pub(super) round: u32,
    /// The client, or the node for what concerns all clients.
    pub(super) who: String,
}

/// An act that could not be played to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Halted {
    /// When.
    pub(super) moment: Moment,
    /// Why.
    pub(super) why: String,
}

/// What a planned move did to the numbered datagrams of a client, both directions together.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct MoveSample {
    /// When, and whose session.
    pub(super) moment: Moment,
    /// Datagrams lost.
    pub(super) lost: u64,
    /// Datagrams that arrived twice.
    pub(super) duplicated: u64,
    /// Datagrams overtaken by later ones.
    pub(super) reordered: u64,
    /// The greater of the two directions' excess: how far the 99th percentile of the one-way delay
    /// over the move lies over the greater of the two paths' steady ones.
    pub(super) excess: Option<Duration>,
    /// Both ends remember all of it.
    pub(super) complete: bool,
}

/// A silence that a client saw when its holder was lost.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct SilenceSample {
    /// When, and who saw it.
    pub(super) moment: Moment,
    /// Its length.
    pub(super) silence: Duration,
    /// Median round trip to the site through the new holder.
    pub(super) rtt: Duration,
    /// The part of it in which the client's process itself did not run.
    pub(super) starved: Duration,
}

/// What became of the packets of a zombie.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct ZombieSample {
    /// When, and which node.
    pub(super) moment: Moment,
    /// Datagrams that reached an application through it after the takeover.
    pub(super) accepted: u64,
    /// Packets that client and sites dropped because their sender was fenced.
    pub(super) fenced: u64,
}

/// Whether the sites send to where the client is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct ReturnSample {
    /// When, and whose session.
    pub(super) moment: Moment,
    /// Sites that still send through another holder.
    pub(super) astray: u64,
}

impl SilenceSample {
    /// The silence less one round trip: what the promises speak of.
    #[must_use]
    pub(super) fn excess(&self) -> Duration {
        self.silence.saturating_sub(self.rtt)
    }
}

impl MoveSample {
    /// What both ends of a client's datagrams know of a move.
    ///
    /// - `before`, `over`, `after`: the old path, the move, the new path; each asked at both ends
    /// - `stream`: the client's number
    #[must_use]
    pub(super) fn of(
        moment: Moment,
        stream: u32,
        before: &Seen,
        over: &Seen,
        after: &Seen,
    ) -> Self {
        let [before, over, after] = [before, over, after].map(|seen| seen.flows(stream));
        let excess = |direction: usize| {
            let steady = [&before, &after].map(|flows| flows[direction].delay(50));
            let steady = steady.into_iter().flatten().max()?;
            over[direction].excess(99, steady)
        };
        let sum = |of: fn(&FlowWindow) -> u64| over.iter().map(of).sum();
        Self {
            moment,
            lost: sum(|flow| flow.lost),
            duplicated: sum(|flow| flow.duplicated),
            reordered: sum(|flow| flow.reordered),
            excess: excess(0).zip(excess(1)).map(|(up, down)| up.max(down)),
            complete: over.iter().all(|flow| flow.complete && flow.sent > 0),
        }
    }
}

/// What a client and its site know of one window.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// The client's end.
    pub(super) client: LoadWindow,
    /// The site's end.
    pub(super) site: ResourceWindow,
}

impl Seen {
    /// The datagrams to the site and those from it.
    #[must_use]
    pub(super) fn flows(&self, stream: u32) -> [FlowWindow; 2] {
        let up = self.site.up.get(&stream);
        let up = up.map(|there| FlowWindow::join(&self.client.up, there, GRACE));
        let down = self.site.down.get(&stream);
        let down = down.map(|there| FlowWindow::join(there, &self.client.down, GRACE));
        [up.unwrap_or_default(), down.unwrap_or_default()]
    }

    /// Datagrams of this window that arrived no sooner than `late`, at either end.
    ///
    /// If only a frozen node could hold them back for so long, they went through it.
    #[must_use]
    pub(super) fn arrived_late(&self, stream: u32, late: Timestamp) -> u64 {
        let count = |window: &ArrivedWindow| {
            let late = window.arrivals.iter().filter(|it| it.arrived >= late);
            late.count() as u64
        };
        let up = self.site.up.get(&stream).map_or(0, count);
        up + count(&self.client.down)
    }
}

impl Evidence {
    /// All single measurements, for the report.
    #[must_use]
    pub(super) fn samples(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        let mut add = |moment: &Moment, name: &str, value: f64, unit: &str| {
            samples.push(Sample {
                act: moment.act,
                round: moment.round,
                client: moment.who.clone(),
                name: name.to_owned(),
                value,
                unit: unit.to_owned(),
            });
        };
        for it in &self.moves {
            add(
                &it.moment,
                "datagrams lost by the move",
                it.lost as f64,
                "datagrams",
            );
            add(
                &it.moment,
                "datagrams duplicated by the move",
                it.duplicated as f64,
                "datagrams",
            );
            add(
                &it.moment,
                "datagrams reordered by the move",
                it.reordered as f64,
                "datagrams",
            );
            if let Some(excess) = it.excess {
                add(&it.moment, "delay p99 over steady", ms(excess), "ms");
            }
        }
        for it in self.silences.iter().chain(&self.cut_off) {
            add(&it.moment, "silence", ms(it.silence), "ms");
            add(&it.moment, "round trip after it", ms(it.rtt), "ms");
            add(
                &it.moment,
                "silence less one round trip",
                ms(it.excess()),
                "ms",
            );
            add(&it.moment, "client itself starved", ms(it.starved), "ms");
        }
        for it in &self.zombies {
            add(
                &it.moment,
                "zombie packets accepted",
                it.accepted as f64,
                "packets",
            );
            add(
                &it.moment,
                "zombie packets fenced",
                it.fenced as f64,
                "packets",
            );
        }
        for it in &self.returns {
            add(&it.moment, "sites astray", it.astray as f64, "sites");
        }
        samples
    }
}

/// A span in ms.
#[must_use]
pub(super) fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use crate::traffic::{
        Arrivals, ConnectionWindow, Departures, HeartbeatWindow, RequestWindow, Window,
    };

    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp(millis * 1_000_000)
    }

    /// A datagram each 10 ms both ways, each `delay(number)` ms on its way; `None` is lost.
    fn seen(delay: fn(u64) -> Option<u64>) -> Seen {
        let (mut sent, mut arrived) = (Departures::new(100), Arrivals::new(100));
        let mut arrivals = Vec::new();
        for number in 0..50 {
            sent.handle_sent(at(1000 + number * 10), true);
            arrivals.extend(delay(number).map(|delay| (1000 + number * 10 + delay, number)));
        }
        arrivals.sort_unstable();
        for (when, number) in arrivals {
            arrived.handle_datagram(number, at(1000 + number * 10), at(when));
        }
        let window = Window::new(at(1000), at(1500));
        let there = arrived.window(window, at(9000));
        Seen {
            client: LoadWindow {
                connections: ConnectionWindow::default(),
                download_bytes: Vec::new(),
                http: RequestWindow::default(),
                heartbeat: HeartbeatWindow {
                    longest: None,
                    silences: Vec::new(),
                    replies: 0,
                    rtt_p50_ns: None,
                    rtt_p99_ns: None,
                    up_p50_ns: None,
                    down_p50_ns: None,
                    incomplete: false,
                },
                up: sent.window(window),
                down: there.clone(),
            },
            site: ResourceWindow {
                up: BTreeMap::from([(1, there)]),
                down: BTreeMap::from([(1, sent.window(window))]),
            },
        }
    }

    #[test]
    fn a_move_is_compared_with_the_slower_of_its_two_paths() {
        let (old, new) = (seen(|_| Some(20)), seen(|_| Some(30)));
        let over = seen(|number| Some(if number < 25 { 20 } else { 33 }));
        let sample = MoveSample::of(Moment::default(), 1, &old, &over, &new);
        assert_eq!(sample.excess, Some(Duration::from_millis(3)));
        assert_eq!(
            (sample.lost, sample.duplicated, sample.complete),
            (0, 0, true)
        );
    }

    #[test]
    fn what_a_move_lost_counts_in_both_directions() {
        let steady = seen(|_| Some(20));
        let over = seen(|number| (number != 7).then_some(20));
        let sample = MoveSample::of(Moment::default(), 1, &steady, &over, &steady);
        assert_eq!(sample.lost, 2);
    }

    #[test]
    fn a_stream_that_nobody_knows_is_incomplete_not_fine() {
        let steady = seen(|_| Some(20));
        let sample = MoveSample::of(Moment::default(), 9, &steady, &steady, &steady);
        assert!(!sample.complete && sample.excess.is_none());
    }

    #[test]
    fn what_comes_after_the_thaw_went_through_the_zombie() {
        let window = seen(|number| Some(if number == 3 { 4000 } else { 20 }));
        assert_eq!(window.arrived_late(1, at(4000)), 2);
        assert_eq!(window.arrived_late(1, at(6000)), 0);
    }
}
