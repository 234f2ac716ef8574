//! The stage: what acts say, see of the mesh and do to it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use vpnmesh_core::Timestamp;

use super::Halt;
use super::board::{Board, Event, Said};
use super::crew::Crew;
use super::evidence::{Evidence, Moment};
use super::layout::{self, Part, Place};
use super::measure::PendingMove;
use super::roles::AdminOrder;
use super::setup::{Cast, kind};
use crate::lab::{Child, Lab};
use crate::report::Mark;
use crate::screen::{Life, ScreenState};
use crate::traffic::control::Peer;
use crate::traffic::{Load, Resource, Window, monotonic};

/// The traffic of all clients and sites.
#[derive(Default, Debug)]
pub(super) struct Peers {
    pub(super) clients: BTreeMap<String, Mutex<Peer<Load>>>,
    pub(super) sites: BTreeMap<String, Mutex<Peer<Resource>>>,
    pub(super) processes: Vec<Child>, // they end with this
}

/// What the director and the screen share.
#[derive(Default, Debug)]
pub(super) struct Shown {
    pub(super) state: ScreenState,
    /// How the director left each node; the board knows more of those that run.
    pub(super) lives: BTreeMap<String, Life>,
}

/// What acts work with.
pub(super) struct Stage {
    pub(super) lab: Arc<Lab>,
    pub(super) board: Arc<Board>,
    pub(super) crew: Crew,
    pub(super) peers: Arc<Peers>,
    pub(super) shown: Arc<Mutex<Shown>>,
    pub(super) files: BTreeMap<String, PathBuf>,
    pub(super) admin: PathBuf,
    pub(super) started: Timestamp,
    pub(super) evidence: Evidence,
    pub(super) marks: Vec<Mark>,
    pub(super) notes: Vec<String>, // of the act that is played
    pub(super) act: u32,
    pub(super) round: u32,
    /// Moves to measure once all their datagrams had time to arrive.
    pub(super) pending: Vec<PendingMove>,
}

impl Stage {
    pub(super) fn new(cast: Cast, peers: Peers, shown: Arc<Mutex<Shown>>) -> Self {
        Self {
            lab: cast.lab,
            board: cast.board,
            crew: cast.crew,
            peers: Arc::new(peers),
            shown,
            files: cast.files,
            admin: cast.admin,
            started: monotonic(),
            evidence: Evidence::default(),
            marks: Vec::new(),
            notes: Vec::new(),
            act: 0,
            round: 1,
            pending: Vec::new(),
        }
    }

    // What acts say.

    /// Tells the audience what is happening.
    pub(super) fn tell(&mut self, line: impl Into<String>) {
        let line = line.into();
        let mut shown = lock(&self.shown);
        shown.state.elapsed = monotonic().since(self.started);
        shown.state.tell(line.clone());
        drop(shown);
        self.notes.push(line);
    }

    /// Tells, and marks the moment in the timeline.
    pub(super) fn mark(&mut self, label: &str, line: impl Into<String>) -> Timestamp {
        let at = monotonic();
        let label = label.to_owned();
        self.marks.push(Mark { at, label });
        self.tell(line);
        at
    }

    pub(super) fn moment(&self, who: &str) -> Moment {
        Moment {
            act: self.act,
            round: self.round,
            who: who.to_owned(),
        }
    }

    // What acts see.

    /// Waits until `seen` finds what it looks for.
    pub(super) fn wait<T>(
        &self,
        what: &str,
        patience: Duration,
        seen: impl FnMut(&Said) -> Option<T>,
    ) -> Result<T, Halt> {
        let found = self.board.wait(patience, seen);
        found.ok_or_else(|| Halt::Missing(what.to_owned()))
    }

    /// Lets the traffic run, because what happens in this time is measured.
    pub(super) fn measure_for(&self, span: Duration) -> Window {
        let from = monotonic();
        thread::sleep(span);
        Window::new(from, monotonic())
    }

    /// The holder of a client's session.
    pub(super) fn holder(&self, client: &str) -> Result<String, Halt> {
        let holder = self.board.look().holder(client);
        holder.ok_or_else(|| Halt::Missing(format!("a holder of {client}")))
    }

    /// The node that holds most sessions, and their clients.
    pub(super) fn busiest(&self) -> Result<(String, Vec<&'static Place>), Halt> {
        let said = self.board.look();
        let mut held: BTreeMap<String, Vec<&'static Place>> = BTreeMap::new();
        for client in layout::all(Part::Client) {
            if let Some(holder) = said.holder(client.name) {
                held.entry(holder).or_default().push(client);
            }
        }
        let most = held.into_iter().max_by_key(|(_, clients)| clients.len());
        most.ok_or_else(|| Halt::Missing("a node that holds a session".to_owned()))
    }

    /// Waits until `client` says that it has taken over from `lost`.
    pub(super) fn taken_over(
        &self,
        client: &str,
        lost: &str,
        since: Timestamp,
    ) -> Result<Taken, Halt> {
        let what = format!("{client} to leave {lost}");
        self.wait(&what, TAKEOVER, |said| {
            let event = said.first(client, "taken_over", since)?;
            Some(Taken {
                at: event.at,
                to: event.text("to").to_owned(),
            })
        })
    }

    /// Waits until a planned move of `client` away from `from` is committed.
    pub(super) fn moved(
        &self,
        client: &str,
        from: &str,
        since: Timestamp,
        patience: Duration,
    ) -> Result<Taken, Halt> {
        let what = format!("{client} to be moved away from {from}");
        self.wait(&what, patience, |said| {
            let mut moved = said
                .since(since)
                .filter(|event| event.member == client && event.name == "moved");
            let event = moved.find(|event| event.text("from") == from)?;
            Some(Taken {
                at: event.at,
                to: event.text("to").to_owned(),
            })
        })
    }

    /// When a planned move of `client` away from `from` began.
    pub(super) fn moving(&self, client: &str, from: &str, since: Timestamp) -> Option<Timestamp> {
        let said = self.board.look();
        let mut moving = said.since(since).filter(|event| event.member == client);
        let event = moving.find(|event| event.name == "moving" && event.text("from") == from)?;
        Some(event.at)
    }

    /// What the controller, or a node without one, decided and why.
    pub(super) fn decisions(&self, node: &str, since: Timestamp) -> Vec<String> {
        let said = self.board.look();
        let own = |event: &&Event| match event.name.as_str() {
            "decision" => event.member == layout::controller().name,
            "decided" => event.member == node,
            _ => false,
        };
        let texts = said.since(since).filter(own);
        texts
            .map(|event| format!("{}: {}", event.member, event.text("text")))
            .collect()
    }

    // What acts do.

    /// The operator drains a node, or takes it back.
    pub(super) fn drain(&mut self, node: &str, drain: bool) -> Result<(), Halt> {
        let what = if drain { "drain" } else { "take back" };
        let failed = |why: String| Halt::new(format!("{what} {node}"), why);
        let order = AdminOrder {
            controller: layout::controller().listen(),
            credentials: self.admin.clone(),
            drain,
            node: node.to_owned(),
        };
        let text = serde_json::to_string(&order).map_err(|error| failed(error.to_string()))?;
        let file = self.admin.with_extension("json");
        std::fs::write(&file, text).map_err(|error| failed(error.to_string()))?;
        let name = layout::controller().name;
        let child = self.crew.spawn(name, "admin", &file, Stdio::piped())?;
        let ended = child
            .wait_at_most(ADMIN)
            .map_err(|error| failed(error.to_string()))?;
        if ended.is_some_and(|status| status.success()) {
            return Ok(());
        }
        let mut said = String::new();
        if let Some(mut errors) = child.take_stderr().filter(|_| ended.is_some()) {
            let _what_is_there = errors.read_to_string(&mut said);
        }
        Err(failed(said.trim().to_owned()))
    }

    /// Kills the controller, if it lives.
    pub(super) fn kill_controller(&mut self) -> Result<(), Halt> {
        let name = layout::controller().name;
        if self.crew.is_running(name) {
            self.mark("controller dies", "the controller is killed (SIGKILL)");
            self.kill(name)?;
        }
        Ok(())
    }

    pub(super) fn kill(&mut self, name: &str) -> Result<(), Halt> {
        self.live(name, Life::Dead);
        self.crew.kill(name)
    }

    pub(super) fn freeze(&mut self, name: &str) -> Result<(), Halt> {
        self.live(name, Life::Frozen);
        self.crew.stop(name)
    }

    pub(super) fn thaw(&mut self, name: &str) -> Result<(), Halt> {
        self.live(name, Life::Ready);
        self.crew.cont(name)
    }

    pub(super) fn live(&self, name: &str, life: Life) {
        lock(&self.shown).lives.insert(name.to_owned(), life);
    }

    /// Restarts who is missing and waits until the mesh is whole again.
    pub(super) fn heal(&mut self) -> Result<(), Halt> {
        self.crew.stop_burning();
        let restored = layout::restore(&self.lab);
        restored.map_err(|error| Halt::new("restore the network", error))?;
        for place in layout::PLACES
            .iter()
            .filter(|place| !self.crew.is_running(place.name))
            .collect::<Vec<_>>()
        {
            if !self.files[place.name].exists() {
                continue;
            }
            self.live(place.name, Life::Starting);
            self.crew
                .start(place.name, kind(place.part), &self.files[place.name])?;
            self.mark(place.name, format!("{} is started again", place.name));
        }
        let since = monotonic();
        let whole = self
            .board
            .wait(SETTLE, |said| missing(said, since).is_empty().then_some(()));
        for node in layout::all(Part::Node) {
            self.live(node.name, Life::Ready);
        }
        whole.ok_or_else(|| Halt::Missing(missing(&self.board.look(), since).join(", ")))
    }

    /// Waits until all sessions have enough shadows among the nodes that live.
    pub(super) fn covered(&self) -> Result<(), Halt> {
        let living = layout::all(Part::Node).map(|node| node.name);
        let living = living.filter(|node| self.crew.is_running(node)).collect();
        self.wait("all sessions to have living shadows", SETTLE, |said| {
            let mut clients = layout::all(Part::Client);
            clients
                .all(|client| is_covered(said, client, &living))
                .then_some(())
        })
    }
}

/// A change of a client's holder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Taken {
    /// When the client did it.
    pub(super) at: Timestamp,
    /// The new holder.
    pub(super) to: String,
}

/// What keeps the mesh from being whole, by reports made after `since`.
fn missing(said: &Said, since: Timestamp) -> Vec<String> {
    let mut missing = Vec::new();
    let controller = layout::controller().name;
    let fresh = |name: &str| said.report(name).is_some_and(|report| report.at >= since);
    let known = said.field(controller, "nodes").as_array();
    for node in known.into_iter().flatten() {
        if node["state"] != "Active" || node["connected"] != true {
            missing.push(format!("the controller to take {} back", node["name"]));
        }
    }
    if !fresh(controller) || known.is_none() {
        missing.push("the controller to lead".to_owned());
    }
    // Who does not know that a node is back does not go there once the controller is dead.
    let membership = said.field(controller, "membership");
    for place in layout::PLACES
        .iter()
        .filter(|place| matches!(place.part, Part::Node | Part::Client | Part::Site))
    {
        if said.field(place.name, "membership") != membership {
            missing.push(format!("{} to know the membership in force", place.name));
        }
    }
    let nodes: BTreeSet<&str> = layout::all(Part::Node).map(|node| node.name).collect();
    for node in &nodes {
        let paths = said.field(node, "paths").as_object();
        let connected = paths.map_or(0, serde_json::Map::len);
        if !fresh(node) || connected < paths_of_a_node() {
            missing.push(format!("{node} to be connected"));
        }
    }
    for site in layout::all(Part::Site) {
        let linked = said.field(site.name, "nodes").as_object();
        if !fresh(site.name) || linked.is_none_or(|linked| linked.len() < nodes.len()) {
            missing.push(format!("{} to reach all nodes", site.name));
        }
    }
    for client in layout::all(Part::Client) {
        if !fresh(client.name) || !is_covered(said, client, &nodes) {
            missing.push(format!("{} to have its shadows", client.name));
        }
    }
    missing
}

/// Whether a client rests on one holder, with fresh secrets and enough shadows among `nodes`.
fn is_covered(said: &Said, client: &Place, nodes: &BTreeSet<&str>) -> bool {
    let field = |name| said.field(client.name, name);
    let calm = field("other").is_null() && field("unrefreshed") == &Value::Bool(false);
    let shadows = said.shadows(client.name);
    let living = shadows.iter().filter(|it| nodes.contains(it.as_str()));
    calm && said.holder(client.name).is_some() && living.count() >= SHADOWS
}

/// All other nodes and all sites.
fn paths_of_a_node() -> usize {
    layout::all(Part::Node).count() - 1 + layout::all(Part::Site).count()
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Members that must have started, or come back, by then. Handshakes on a busy machine take long.
pub(super) const SETTLE: Duration = Duration::from_secs(20);
/// An administrator's tool that takes longer hangs.
const ADMIN: Duration = Duration::from_secs(15);
/// A takeover that takes longer has not happened.
const TAKEOVER: Duration = Duration::from_secs(5);
/// Of the standard tier.
const SHADOWS: usize = 2;
