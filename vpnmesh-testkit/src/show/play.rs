//! The order of the play: rounds of acts, healing between them, and the report at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vpnmesh_core::Timestamp;

use super::acts::{ACTS, Act};
use super::evidence::{Halted, ms};
use super::judge::{LONGEST, judge, judge_endurance};
use super::layout::{self, Part};
use super::measure::ask;
use super::options::Options;
use super::setup::{Cast, site_of};
use super::stage::{Peers, Shown, Stage, lock};
use super::view::Ticker;
use super::{Halt, endure};
use crate::lab::Inside;
use crate::report::{self, ActSpan, ClientSums, Facts, Report, Timeline, Track};
use crate::screen::{ActLine, ActState, Mode, Screen, ScreenState};
use crate::traffic::control::Peer;
use crate::traffic::{LoadSeries, LoadTotals, ResourceTotals, Window, monotonic};

/// Plays everything and writes the report.
pub(super) fn play(inside: Inside, options: &Options) -> Result<Report, Halt> {
    let home = Home::new(options)?;
    let shown = Arc::new(Mutex::new(Shown::new(options)));
    let screen = Screen::new(Mode::detect(options.json));
    let cast = Cast::new(inside, options.seed, home.path())?;
    let ticker = Ticker::start(Arc::clone(&shown), Arc::clone(&cast.board), screen);
    let mut cast = cast;
    lock(&shown)
        .state
        .tell("five nodes, two clients, two sites and a controller start");
    cast.start_members()?;
    let peers = cast.start_traffic()?;
    let mut stage = Stage::new(cast, peers, shown);
    ticker.follow(Arc::clone(&stage.peers), stage.started);
    let mut programme = Programme::new(&ticker);
    match options.endure {
        Some(span) => programme.endure(&mut stage, span),
        None => programme.rounds(&mut stage, options),
    }
    let report = programme.close(&mut stage, options);
    ticker.stop();
    report
}

/// What was played.
struct Programme<'a> {
    ticker: &'a Ticker,
    acts: Vec<report::Act>,
    spans: Vec<ActSpan>,
}

impl<'a> Programme<'a> {
    fn new(ticker: &'a Ticker) -> Self {
        Self {
            ticker,
            acts: Vec::new(),
            spans: Vec::new(),
        }
    }

    fn rounds(&mut self, stage: &mut Stage, options: &Options) {
        for round in 1..=options.rounds {
            stage.round = round;
            lock(&stage.shown).state.round = round;
            for act in ACTS.iter().filter(|act| options.plays(act.number)) {
                let once = match act.number {
                    1 => round == 1,
                    7 => round == options.rounds,
                    _ => true,
                };
                if once {
                    self.act(stage, act);
                }
            }
        }
    }

    fn endure(&mut self, stage: &mut Stage, span: Duration) {
        let act = Act {
            number: 1,
            name: "steady state with loss and full processors",
            play: |_| Ok(()),
        };
        self.stage(stage, &act, |stage| endure::play(stage, span));
    }

    fn act(&mut self, stage: &mut Stage, act: &Act) {
        self.stage(stage, act, |stage| {
            let played = (act.play)(stage);
            let settled = stage.settle();
            let healed = stage.heal();
            played.and(settled).and(healed)
        });
    }

    /// Plays one act, come what may, and shows how it went.
    fn stage(
        &mut self,
        stage: &mut Stage,
        act: &Act,
        play: impl FnOnce(&mut Stage) -> Result<(), Halt>,
    ) {
        stage.act = act.number;
        stage.notes.clear();
        stage.show_act(act.number, ActState::Playing);
        let from = monotonic();
        let played = play(stage).and_then(|()| stage.count_connections());
        if let Err(halt) = played {
            stage.tell(format!("act {} ends early: {halt}", act.number));
            let moment = stage.moment("");
            let why = halt.to_string();
            stage.evidence.halted.push(Halted { moment, why });
        }
        stage.note_lateness();
        stage.evidence.played.insert(act.number);
        let to = monotonic();
        self.note(stage, act, from, to);
        let promises = judge(&stage.evidence, None);
        let broken = promises
            .iter()
            .any(|promise| !promise.held && covers(&promise.act, act.number))
            || stage
                .evidence
                .halted
                .iter()
                .any(|it| it.moment.act == act.number);
        lock(&stage.shown).state.promises = promises;
        stage.show_act(
            act.number,
            if broken {
                ActState::Broken
            } else {
                ActState::Held
            },
        );
        self.ticker.draw();
    }

    fn note(&mut self, stage: &Stage, act: &Act, from: Timestamp, to: Timestamp) {
        let since_start = |at: Timestamp| at.since(stage.started).as_millis() as u64;
        self.acts.push(report::Act {
            number: act.number,
            round: stage.round,
            name: act.name.to_owned(),
            start_ms: since_start(from),
            end_ms: since_start(to),
            notes: stage.notes.clone(),
        });
        self.spans.push(ActSpan {
            number: act.number,
            name: act.name.to_owned(),
            from,
            to,
        });
    }

    /// Ends the traffic, judges and writes.
    fn close(self, stage: &mut Stage, options: &Options) -> Result<Report, Halt> {
        let end = monotonic();
        let window = Window::new(stage.started, end);
        let mut tracks = Vec::new();
        for (name, peer) in &stage.peers.clients {
            let series = ask(peer, |peer| peer.series(window));
            let series = series.map_err(|error| Halt::new(format!("ask {name}"), error))?;
            tracks.push(track(name, series));
        }
        let sums = sums(&stage.peers)?;
        for client in &sums {
            let counts = (client.tcp_broken, client.bytes_wrong);
            stage.evidence.tcp.insert(client.name.clone(), counts);
        }
        stage.evidence.sums = Some(sums.clone());
        let promises = match options.endure {
            Some(asked) => judge_endurance(&stage.evidence, asked),
            None => judge(&stage.evidence, Some(options.rounds)),
        };
        let notes = stage.evidence.halted.iter();
        let facts = Facts {
            acts: self.acts,
            clients: sums,
            samples: stage.evidence.samples(),
            notes: notes
                .map(|it| {
                    format!(
                        "act {} of round {}: {}",
                        it.moment.act, it.moment.round, it.why
                    )
                })
                .collect(),
            versions: BTreeMap::from([(
                "vpnmesh".to_owned(),
                env!("CARGO_PKG_VERSION").to_owned(),
            )]),
            seed: options.seed,
            rounds: options.rounds,
            duration_ms: end.since(stage.started).as_millis() as u64,
        };
        let report = Report::new(promises, facts);
        let timeline = Timeline {
            title: "The mesh heals itself".into(),
            subtitle: format!("{} rounds, seed {}", options.rounds, options.seed),
            start: stage.started,
            end,
            acts: self.spans,
            marks: std::mem::take(&mut stage.marks),
            clients: tracks,
            silence_limit_ms: LONGEST.as_millis() as u64,
        };
        let written = report.write(&timeline, &options.output);
        written.map_err(|error| Halt::new("write the report", error))?;
        Ok(report)
    }
}

/// Whether a promise about `acts` ("4", "4-6", "all") is about act `number`.
fn covers(acts: &str, number: u32) -> bool {
    let bounds: BTreeSet<u32> = acts.split('-').filter_map(|it| it.parse().ok()).collect();
    bounds.first().is_some_and(|first| *first <= number)
        && bounds.last().is_some_and(|last| number <= *last)
}

fn track(name: &str, series: LoadSeries) -> Track {
    Track {
        name: name.to_owned(),
        bytes: series.bytes,
        silences: series.silences,
    }
}

/// Stops all loads, then all resources, and adds up what they say.
fn sums(peers: &Peers) -> Result<Vec<ClientSums>, Halt> {
    let failed = |name: &str| {
        let name = name.to_owned();
        move |error| Halt::new(format!("stop the traffic of {name}"), error)
    };
    let mut loads = BTreeMap::new();
    for (name, peer) in &peers.clients {
        loads.insert(name.as_str(), ask(peer, Peer::stop).map_err(failed(name))?);
    }
    let mut resources = BTreeMap::new();
    for (name, peer) in &peers.sites {
        resources.insert(name.as_str(), ask(peer, Peer::stop).map_err(failed(name))?);
    }
    let clients = layout::all(Part::Client).map(|client| {
        let site = &resources[site_of(client).name];
        client_sums(
            client.name,
            client.ordinal().into(),
            &loads[client.name],
            site,
        )
    });
    Ok(clients.collect())
}

fn client_sums(name: &str, stream: u32, load: &LoadTotals, site: &ResourceTotals) -> ClientSums {
    let up = site.up.get(&stream).copied().unwrap_or_default();
    let sent_down = site.down_sent.get(&stream).copied().unwrap_or(0);
    ClientSums {
        name: name.to_owned(),
        tcp_opened: load.connections.opened,
        tcp_broken: load.connections.broken,
        bytes_wrong: load.connections.wrong_bytes,
        downloaded_bytes: load.downloads.iter().map(|it| it.bytes).sum(),
        sha256_verified: load.downloads.iter().all(|it| it.verified),
        http_answered: load.http.answered,
        http_failed: load.http.failed,
        lost_up: load.up_sent.saturating_sub(up.received),
        lost_down: sent_down.saturating_sub(load.down.received),
        duplicated: up.duplicated + load.down.duplicated,
        reordered: up.reordered + load.down.reordered,
        longest_silence_ms: load.heartbeat.longest_ns / 1_000_000,
    }
}

impl Shown {
    fn new(options: &Options) -> Self {
        let waiting = |act: &Act| ActLine {
            number: act.number,
            name: act.name.to_owned(),
            state: ActState::Waiting,
        };
        let acts = ACTS.iter().filter(|act| options.plays(act.number));
        Self {
            state: ScreenState {
                title: "the mesh heals itself".into(),
                round: 1,
                rounds: options.rounds,
                acts: acts.map(waiting).collect(),
                ..ScreenState::default()
            },
            ..Self::default()
        }
    }
}

impl Stage {
    /// What the lab itself added to the delays of this act: a busy machine shows here.
    fn note_lateness(&mut self) {
        if let Ok(late) = self.lab.fabric().lateness(true) {
            let (p99, max) = (ms(late.percentile(99)), ms(late.max()));
            self.notes.push(format!(
                "the emulator delivered 99 % of packets at most {p99:.1} ms late, all at most {max:.1} ms"
            ));
        }
    }

    fn show_act(&self, number: u32, state: ActState) {
        let mut shown = lock(&self.shown);
        shown.state.elapsed = monotonic().since(self.started);
        let act = shown.state.acts.iter_mut().find(|act| act.number == number);
        if let Some(act) = act {
            act.state = state;
        }
    }
}

/// The directory of the run's state: removed at the end, unless it is to be kept.
enum Home {
    Kept(std::path::PathBuf),
    Temporary(tempfile::TempDir),
}

impl Home {
    fn new(options: &Options) -> Result<Self, Halt> {
        let failed = |error| Halt::new("make a directory for the run", error);
        if !options.keep {
            return Ok(Self::Temporary(tempfile::tempdir().map_err(failed)?));
        }
        let path = options.output.join("run");
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(failed)?;
        }
        std::fs::create_dir_all(&path).map_err(failed)?;
        Ok(Self::Kept(path))
    }

    fn path(&self) -> &std::path::Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }
}

/// All promises that `act` must keep, for tests of the whole.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_covers_the_acts_it_names() {
        assert!(covers("4-6", 5) && covers("4-6", 4) && covers("4-6", 6));
        assert!(!covers("4-6", 7) && !covers("4-6", 3));
        assert!(covers("2", 2) && !covers("2", 3));
        assert!(!covers("all", 1));
    }
}
