//! The node role: holds and shadows sessions, measures itself and hands over before it fails.

mod record;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use vpnmesh_core::{ShadowPolicy, Timestamp};
use vpnmesh_transport::io::{Clock, IoCounters, UdpSocket};
use vpnmesh_transport::node::{
    NodeCommand, NodeConfig, NodeEvent, NodeMachine, NodeReport, NodeTimers,
};

use super::json::{Fields, fields};
use super::keeper::{Desk, Duty, Start, next_after, spawn};
use super::{Handle, Names, Role};
use crate::settings::{
    ControlSettings, CpuSource, FailoverSettings, FromFile, ProfileSetting, anchor,
};
use crate::{Error, Member};

/// What a node is started with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Its state directory.
    pub state: PathBuf,
    /// Its UDP address: where the membership says that it listens.
    pub listen: SocketAddr,
    /// Its controller. Default: none; the node then goes by its own forecast alone.
    #[serde(default)]
    pub control: Option<ControlSettings>,
    /// What its handshakes ask for, and the weakest that it serves.
    #[serde(default)]
    pub profile: ProfileSetting,
    /// Which processor time counts.
    #[serde(default)]
    pub cpu: CpuSource,
    /// When it hands over by its own forecast.
    #[serde(default)]
    pub failover: FailoverSettings,
    /// How often it measures itself, in milliseconds. Default 200; 100 to 10000.
    #[serde(default = "default_sample")]
    pub sample_every_ms: u64,
}

/// What a node tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The machine told something.
    Machine(NodeEvent),
    /// Something is wrong that the node survives.
    Trouble(String),
}

/// A node in figures.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Its sessions and paths.
    pub machine: NodeReport,
    /// Its packet thread.
    pub io: IoCounters,
}

/// The node role.
#[derive(Debug, Clone, Copy)]
pub struct Node;

impl Settings {
    /// The defaults for a state directory and an address.
    #[must_use]
    pub fn new(state: impl Into<PathBuf>, listen: SocketAddr) -> Self {
        Self {
            state: state.into(),
            listen,
            control: None,
            profile: ProfileSetting::default(),
            cpu: CpuSource::default(),
            failover: FailoverSettings::default(),
            sample_every_ms: default_sample(),
        }
    }
}

impl FromFile for Settings {
    fn anchor(&mut self, base: &Path) {
        anchor(&mut self.state, base);
        if let Some(control) = &mut self.control {
            anchor(&mut control.credentials, base);
        }
    }
}

impl Role for Node {
    type Settings = Settings;
    type Machine = NodeMachine;
    type Event = Event;
    type Report = Report;
    const NAME: &'static str = "node";

    fn start(settings: Settings) -> Result<Handle<Self>, Error> {
        start_with(settings, None)
    }

    fn event_record(event: &Event, names: &Names) -> (&'static str, Fields) {
        match event {
            Event::Machine(event) => record::of_machine(event, names),
            Event::Trouble(text) => ("trouble", fields(json!({"text": text}))),
        }
    }

    fn report_record(report: &Report, names: &Names) -> Fields {
        record::of_report(report, names)
    }
}

/// Starts a node, on a socket that is open already if one is given.
///
/// # Errors
/// See [`Role::start`].
pub fn start_with(
    settings: Settings,
    socket: Option<std::net::UdpSocket>,
) -> Result<Handle<Node>, Error> {
    let mut member = Member::open(&settings.state)?;
    let udp = match socket {
        Some(socket) => UdpSocket::from_std(socket)?,
        None => UdpSocket::bind(settings.listen)?,
    };
    let (station, _) = member.begin(settings.profile.into())?;
    let config = NodeConfig {
        station,
        shadows: ShadowPolicy::default(),
        timers: NodeTimers::default(),
    };
    let machine = NodeMachine::new(config, Clock.now())?;
    let me = member.membership().node(machine.id());
    let name = me.map(|me| me.name.clone()).unwrap_or_default();
    let start = Start {
        member,
        machine,
        udp,
        packet_io: None,
        name,
    };
    spawn(start, |_| Ok(Box::new(Keeper { due: Clock.now() })))
}

#[derive(Debug)]
struct Keeper {
    due: Timestamp,
}

impl Duty<Node> for Keeper {
    fn handle_event(&mut self, event: NodeEvent, at: Timestamp, desk: &mut Desk<Node>) {
        match event {
            NodeEvent::Report(machine) => {
                let io = desk.commands.counters();
                let machine = *machine;
                return desk.publish(Report { machine, io }, at);
            }
            NodeEvent::Membership(ref signed) => {
                if let Err(error) = desk.keep(signed) {
                    desk.emit(Event::Trouble(error.to_string()), at);
                }
            }
            NodeEvent::IncarnationSeen(seen) => match desk.begin_again(seen) {
                Ok(incarnation) => desk.ask(NodeCommand::Resumed { incarnation }),
                Err(error) => desk.emit(Event::Trouble(error.to_string()), at),
            },
            NodeEvent::SessionTaken { .. }
            | NodeEvent::SessionLeft { .. }
            | NodeEvent::ShadowsReady { .. }
            | NodeEvent::ShiftFailed { .. }
            | NodeEvent::PeerSilent(_)
            | NodeEvent::PeerConnected(_)
            | NodeEvent::PeerHealth { .. } => {}
        }
        desk.emit(Event::Machine(event), at);
    }

    fn handle_timeout(&mut self, now: Timestamp, desk: &mut Desk<Node>) {
        self.due = next_after(self.due, REPORT_EVERY, now);
        desk.ask(NodeCommand::Report);
    }

    fn poll_timeout(&self) -> Timestamp {
        self.due
    }
}

fn default_sample() -> u64 {
    200
}

const REPORT_EVERY: Duration = Duration::from_millis(250);
