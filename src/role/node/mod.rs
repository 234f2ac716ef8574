//! The node role: holds and shadows sessions, measures itself and hands over before it fails.

mod keeper;
mod record;
mod uplink;
mod warden;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use vpnmesh_control::{ControllerOrder, Link};
use vpnmesh_core::{FailoverState, Forecast, NodeSample, Record, ShadowPolicy, Version};
use vpnmesh_predict::TrendPredictor;
use vpnmesh_transport::io::{Clock, IoCounters, UdpSocket};
use vpnmesh_transport::node::{NodeConfig, NodeEvent, NodeMachine, NodeReport, NodeTimers};

use super::json::{Fields, fields};
use super::keeper::{Start, spawn};
use super::metrics::{Metric, Sheet};
use super::{Handle, Names, Role};
use crate::settings::{
    ControlSettings, CpuSource, DscpSetting, FailoverSettings, FromFile, ProfileSetting, anchor,
};
use crate::{Error, Member};
use keeper::{Keeper, Meter};
use uplink::Uplink;
use warden::Warden;

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
    /// What outer headers tell of the inner packets.
    #[serde(default)]
    pub dscp: DscpSetting,
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
    /// The node decided by itself, or something followed from that.
    Own(Record),
    /// The line to the controller came up, went down or was refused.
    Controller(Link),
    /// The controller ordered something.
    Ordered(ControllerOrder),
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
    /// What it measured.
    pub sample: NodeSample,
    /// What it expects of itself.
    pub forecast: Option<Forecast>,
    /// Where its own handover stands.
    pub handover: FailoverState,
    /// Whether a controller listens.
    pub controller: bool,
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
            dscp: DscpSetting::default(),
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
            Event::Own(record) => record::of_own(record),
            Event::Controller(link) => record::of_link(link),
            Event::Ordered(order) => record::of_order(order, names),
            Event::Trouble(text) => ("trouble", fields(json!({"text": text}))),
        }
    }

    fn report_record(report: &Report, names: &Names) -> Fields {
        record::of_report(report, names)
    }

    fn metrics(report: &Report, names: &Names) -> Vec<Metric> {
        let (machine, mut sheet) = (&report.machine, Sheet::default());
        sheet.gauge("sessions", "Sessions held", machine.sessions as f64);
        let covered = machine.covered as f64;
        sheet.gauge(
            "covered_sessions",
            "Of these, with as many ready shadows as they want",
            covered,
        );
        sheet.gauge(
            "shadowed_sessions",
            "Sessions shadowed for others",
            machine.shadowed as f64,
        );
        let help = "The longest time since the state of a primary was known to match";
        sheet.seconds("staleness", help, machine.staleness);
        sheet.counter(
            "forwarded_packets",
            "Inner packets forwarded",
            machine.forwarded,
        );
        sheet.counter("forwarded_bytes", "Bytes of these", machine.forwarded_bytes);
        if let Some(forecast) = &report.forecast {
            let risk = forecast.probability.get();
            sheet.gauge(
                "failure_risk_ratio",
                "Probability that this node fails soon",
                risk,
            );
        }
        let listens = f64::from(u8::from(report.controller));
        sheet.gauge("controller", "Whether a controller listens", listens);
        let paths = machine.paths.iter();
        sheet.paths(paths.map(|(peer, path)| (names.peer(*peer), path)));
        let help = "Worst lateness of the packet thread since the last report";
        sheet.seconds("lateness", help, machine.lateness);
        sheet.drops(&machine.drops);
        sheet.io(&report.io);
        sheet.into_metrics()
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
    let policy = settings.failover.policy()?;
    if !SAMPLE_MS.contains(&settings.sample_every_ms) {
        let problem = "must lie between 100 and 10000";
        return Err(Error::invalid(
            "setting sample_every_ms",
            settings.sample_every_ms,
            problem,
        ));
    }
    let mut member = Member::open(&settings.state)?;
    let udp = match socket {
        Some(socket) => UdpSocket::from_std(socket)?,
        None => UdpSocket::bind(settings.listen)?,
    };
    let mut station = member.begin(settings.profile.into())?;
    station.marking = settings.dscp.marking();
    let incarnation = station.incarnation;
    let config = NodeConfig {
        station,
        shadows: ShadowPolicy::default(),
        timers: NodeTimers::default(),
    };
    let machine = NodeMachine::new(config, Clock.now())?;
    let me = machine.id();
    let entry = member.membership().node(me);
    let name = entry.map(|entry| entry.name.clone()).unwrap_or_default();
    let (root, seen) = (member.root().clone(), member.membership().version);
    let start = Start {
        member,
        machine,
        udp,
        packet_io: None,
        name: name.clone(),
    };
    spawn(start, |wake| {
        let control = settings.control.as_ref();
        let uplink =
            control.map(|control| Uplink::start(control, &name, incarnation, seen, wake.clone()));
        Ok(Box::new(Keeper {
            me,
            every: Duration::from_millis(settings.sample_every_ms),
            due: Clock.now(),
            meter: Meter::new(settings.cpu),
            warden: Warden::new(me, policy, Box::new(TrendPredictor::new())),
            uplink: uplink.transpose()?,
            link_up: false,
            root,
            obeyed: Version::default(),
            warming: None,
            leaving: None,
            silent: BTreeSet::new(),
        }))
    })
}

fn default_sample() -> u64 {
    200
}

const SAMPLE_MS: RangeInclusive<u64> = 100..=10_000;
