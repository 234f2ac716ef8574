//! Actors: a machine with its disk, its address and, where wanted, a journal of all it was given.
//!
//! A journal makes memory snapshots possible: machines cannot be copied, but given the same inputs
//! at the same times a second one becomes the same, keys and counters included.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use vpnmesh_core::Timestamp;
use vpnmesh_transport::client::{ClientCommand, ClientEvent, ClientMachine};
use vpnmesh_transport::node::{NodeCommand, NodeEvent, NodeMachine};
use vpnmesh_transport::site::{SiteCommand, SiteEvent, SiteMachine};
use vpnmesh_transport::trace::{Sizes, Trace};
use vpnmesh_transport::{Ecn, Entropy, Incarnation, Machine, SeededEntropy, Transmit};

use super::members::{self, Disk};

/// An actor of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActorId {
    /// The node of that index.
    Node(usize),
    /// The client of that index.
    Client(usize),
    /// The site of that index.
    Site(usize),
}

/// The machine of an actor.
#[derive(Debug)]
pub enum Actor {
    /// A node.
    Node(Box<NodeMachine>),
    /// A client.
    Client(Box<ClientMachine>),
    /// A site.
    Site(Box<SiteMachine>),
}

/// What a world tells its test.
#[derive(Debug, Clone, PartialEq)]
pub enum Happened {
    /// From a node.
    Node(usize, NodeEvent),
    /// From a client.
    Client(usize, ClientEvent),
    /// From a site.
    Site(usize, SiteEvent),
    /// Something was done to the mesh.
    Note(String),
}

/// What goes into a machine.
#[derive(Debug, Clone)]
pub(super) enum Input {
    Datagram(SocketAddr, Vec<u8>),
    Inner(Vec<u8>),
    Timeout,
    Node(NodeCommand),
    Client(ClientCommand),
    Site(SiteCommand),
}

/// What comes out of a machine in one turn.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) datagrams: Vec<Transmit>,
    pub(super) inner: Vec<Vec<u8>>,
    pub(super) events: Vec<Happened>,
    pub(super) traces: Vec<Trace>,
    pub(super) wake: Timestamp,
}

/// A machine's start and everything it was given since.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    disk: Disk,
    life_seed: u64,
    started: Timestamp,
    inputs: Vec<(Timestamp, Input)>, // ends with the life, which lasts some virtual seconds
}

/// A place where an actor lives.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) actor: Option<Actor>,
    pub(super) address: SocketAddr,
    pub(super) disk: Disk,
    pub(super) lives: u64,
    /// Stopped as by SIGSTOP: what arrives waits; at most a socket's buffer of datagrams.
    pub(super) frozen: Option<Vec<(SocketAddr, Vec<u8>)>>,
    pub(super) wake: Timestamp,
    pub(super) entropy: SharedEntropy,
    pub(super) journal: Option<Journal>,
}

/// A seeded generator that the world can reseed, as a system does at a VM-generation change.
#[derive(Debug, Clone)]
pub(super) struct SharedEntropy(Arc<Mutex<SeededEntropy>>);

impl SharedEntropy {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(SeededEntropy::new(seed))))
    }

    pub(super) fn reseed(&self, seed: u64) {
        *self.0.lock().expect("no thread panicked with the lock") = SeededEntropy::new(seed);
    }
}

impl Entropy for SharedEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        let mut inner = self.0.lock().expect("no thread panicked with the lock");
        inner.fill(bytes);
    }
}

impl ActorId {
    /// The index among its kind.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Node(index) | Self::Client(index) | Self::Site(index) => index,
        }
    }

    /// The same kind with another index.
    pub(super) const fn with(self, index: usize) -> Self {
        match self {
            Self::Node(_) => Self::Node(index),
            Self::Client(_) => Self::Client(index),
            Self::Site(_) => Self::Site(index),
        }
    }

    /// The second actor with this one's key.
    #[must_use]
    pub const fn twin(self) -> Self {
        self.with(self.index() + TWINS)
    }

    /// Whether this is a second actor with the key of a first.
    #[must_use]
    pub const fn is_twin(self) -> bool {
        self.index() >= TWINS
    }
}

impl Actor {
    /// Starts a machine with what is on a disk.
    pub(super) fn start(
        id: ActorId,
        disk: &Disk,
        life_seed: u64,
        now: Timestamp,
    ) -> (Self, SharedEntropy) {
        let entropy = SharedEntropy::new(life_seed);
        let boxed = Box::new(entropy.clone());
        let actor = match id {
            ActorId::Node(_) => NodeMachine::new(members::node_config(disk, boxed), now)
                .map(|node| Self::Node(Box::new(node))),
            ActorId::Client(_) => ClientMachine::new(members::client_config(disk, boxed), now)
                .map(|client| Self::Client(Box::new(client))),
            ActorId::Site(_) => SiteMachine::new(members::site_config(disk, boxed), now)
                .map(|site| Self::Site(Box::new(site))),
        };
        (
            actor.expect("a simulated membership names all its actors"),
            entropy,
        )
    }

    /// Gives the machine something; the inner packet that this brought, if it did.
    pub(super) fn apply(&mut self, input: Input, now: Timestamp) -> Option<Vec<u8>> {
        match (self, input) {
            (Self::Node(node), Input::Node(command)) => node.handle_command(command, now),
            (Self::Client(client), Input::Client(command)) => client.handle_command(command, now),
            (Self::Site(site), Input::Site(command)) => site.handle_command(command, now),
            (Self::Node(node), input) => return feed(&mut **node, input, now),
            (Self::Client(client), input) => return feed(&mut **client, input, now),
            (Self::Site(site), input) => return feed(&mut **site, input, now),
        }
        None
    }

    /// Takes everything out.
    pub(super) fn drain(&mut self, index: usize) -> Output {
        match self {
            Self::Node(node) => take(&mut **node, |event| Happened::Node(index, event)),
            Self::Client(client) => {
                let mut output = take(&mut **client, |event| Happened::Client(index, event));
                output.traces = std::iter::from_fn(|| client.poll_trace()).collect();
                output
            }
            Self::Site(site) => {
                let mut output = take(&mut **site, |event| Happened::Site(index, event));
                output.traces = std::iter::from_fn(|| site.poll_trace()).collect();
                output
            }
        }
    }

    /// How large the machine's tables are.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        match self {
            Self::Node(node) => node.sizes(),
            Self::Client(client) => client.sizes(),
            Self::Site(site) => site.sizes(),
        }
    }

    /// The command that tells of a new life.
    pub(super) fn resumed(&self, incarnation: Incarnation) -> Input {
        match self {
            Self::Node(_) => Input::Node(NodeCommand::Resumed { incarnation }),
            Self::Client(_) => Input::Client(ClientCommand::Resumed { incarnation }),
            Self::Site(_) => Input::Site(SiteCommand::Resumed { incarnation }),
        }
    }
}

impl Happened {
    /// An incarnation counter that peers have seen.
    pub(super) const fn seen(&self) -> Option<u64> {
        match self {
            Self::Node(_, NodeEvent::IncarnationSeen(seen))
            | Self::Client(_, ClientEvent::IncarnationSeen(seen))
            | Self::Site(_, SiteEvent::IncarnationSeen(seen)) => Some(*seen),
            Self::Node(..) | Self::Client(..) | Self::Site(..) | Self::Note(_) => None,
        }
    }

    /// A membership to keep on disk.
    pub(super) fn membership(&self) -> Option<&[u8]> {
        match self {
            Self::Node(_, NodeEvent::Membership(signed))
            | Self::Client(_, ClientEvent::Membership(signed))
            | Self::Site(_, SiteEvent::Membership(signed)) => Some(signed),
            Self::Node(..) | Self::Client(..) | Self::Site(..) | Self::Note(_) => None,
        }
    }
}

impl Journal {
    pub(super) const fn new(disk: Disk, life_seed: u64, started: Timestamp) -> Self {
        Self {
            disk,
            life_seed,
            started,
            inputs: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, now: Timestamp, input: &Input) {
        self.inputs.push((now, input.clone()));
    }

    /// The machine as it was `until` then.
    pub(super) fn rebuild(&self, id: ActorId, until: Timestamp) -> (Actor, SharedEntropy) {
        let (mut actor, entropy) = Actor::start(id, &self.disk, self.life_seed, self.started);
        actor.drain(id.index());
        for (at, input) in self.inputs.iter().take_while(|(at, _)| *at <= until) {
            actor.apply(input.clone(), *at);
            actor.drain(id.index());
        }
        (actor, entropy)
    }

    /// Ends the journal at a moment: later inputs never happened.
    pub(super) fn cut(&mut self, until: Timestamp) {
        self.inputs.retain(|(at, _)| *at <= until);
    }
}

fn feed(machine: &mut impl Machine, input: Input, now: Timestamp) -> Option<Vec<u8>> {
    match input {
        Input::Datagram(from, mut payload) => {
            let inner = machine.handle_datagram(from, Ecn::NotEct, &mut payload, now);
            return inner.map(|inner| payload[inner].to_vec());
        }
        Input::Inner(packet) => machine.handle_inner(&packet, now),
        Input::Timeout => machine.handle_timeout(now),
        Input::Node(_) | Input::Client(_) | Input::Site(_) => {} // a command for another kind
    }
    None
}

fn take<M: Machine>(machine: &mut M, wrap: impl Fn(M::Event) -> Happened) -> Output {
    Output {
        datagrams: std::iter::from_fn(|| machine.poll_transmit()).collect(),
        inner: std::iter::from_fn(|| machine.poll_inner()).collect(),
        events: std::iter::from_fn(|| machine.poll_event())
            .map(wrap)
            .collect(),
        traces: Vec::new(),
        wake: machine.poll_timeout(),
    }
}

/// Indices from here on are twins.
const TWINS: usize = 100;
