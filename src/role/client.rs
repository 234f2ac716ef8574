//! The client role: one session with the mesh behind a TUN device.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use vpnmesh_core::{KeyDecision, KeyPolicy, Prefix, RotationCause, ThreatLevel, Tier, Timestamp};
use vpnmesh_transport::client::{
    ClientCommand, ClientConfig, ClientEvent, ClientMachine, ClientReport, ClientTimers,
};
use vpnmesh_transport::io::{Clock, IoCounters, PacketIo, UdpSocket};

use super::json::{self, Fields, fields, millis};
use super::keeper::{Desk, Duty, Start, next_after, spawn};
use super::metrics::{Metric, Sheet};
use super::{Handle, Names, Role, device};
use crate::settings::{DscpSetting, FromFile, KeySettings, ProfileSetting, TunSettings, anchor};
use crate::{Error, Member};

/// What a client is started with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Its state directory.
    pub state: PathBuf,
    /// Its UDP address. Default: any free port on all addresses.
    #[serde(default)]
    pub listen: Option<SocketAddr>,
    /// Its TUN device. Without one, inner packets come from [`start_with`].
    #[serde(default)]
    pub tun: Option<TunSettings>,
    /// What its handshakes ask for.
    #[serde(default)]
    pub profile: ProfileSetting,
    /// What outer headers tell of the inner packets.
    #[serde(default)]
    pub dscp: DscpSetting,
    /// The tier to ask for. Default: that of the membership.
    #[serde(default)]
    pub tier: Option<Tier>,
    /// When its keys have served long enough.
    #[serde(default)]
    pub keys: KeySettings,
}

/// What a client tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The machine told something.
    Session(ClientEvent),
    /// The key policy wants fresh secrets: they are asked for.
    KeysServed(RotationCause),
    /// The key policy wants nothing more sealed: the keys are erased, a member is dialed anew.
    KeysExpired(RotationCause),
    /// Something is wrong that the client survives.
    Trouble(String),
}

/// A client in figures.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Its session.
    pub session: ClientReport,
    /// Its packet thread.
    pub io: IoCounters,
}

/// The client role.
#[derive(Debug, Clone, Copy)]
pub struct Client;

impl Settings {
    /// The defaults for a state directory.
    #[must_use]
    pub fn new(state: impl Into<PathBuf>) -> Self {
        Self {
            state: state.into(),
            listen: None,
            tun: None,
            profile: ProfileSetting::default(),
            dscp: DscpSetting::default(),
            tier: None,
            keys: KeySettings::default(),
        }
    }
}

impl FromFile for Settings {
    fn anchor(&mut self, base: &Path) {
        anchor(&mut self.state, base);
    }
}

impl Role for Client {
    type Settings = Settings;
    type Machine = ClientMachine;
    type Event = Event;
    type Report = Report;
    const NAME: &'static str = "client";

    fn start(settings: Settings) -> Result<Handle<Self>, Error> {
        start_with(settings, None)
    }

    fn event_record(event: &Event, names: &Names) -> (&'static str, Fields) {
        match event {
            Event::Session(event) => session_record(event, names),
            Event::KeysServed(cause) => ("keys_served", fields(json!({"cause": cause}))),
            Event::KeysExpired(cause) => ("keys_expired", fields(json!({"cause": cause}))),
            Event::Trouble(text) => ("trouble", fields(json!({"text": text}))),
        }
    }

    fn report_record(report: &Report, names: &Names) -> Fields {
        let session = &report.session;
        fields(json!({
            "session": session.session.to_string(),
            "generation": session.generation,
            "number": session.number,
            "active": session.active.map(|node| names.node(node)),
            "other": session.other.map(|node| names.node(node)),
            "path": session.path.as_ref().map(json::path),
            "roster": json::nodes(&session.roster, names),
            "unrefreshed": session.unrefreshed,
            "keys": session.keys.map(|keys| json!({
                "age_ms": millis(keys.age),
                "bytes": keys.volume.0,
                "packets": keys.packets,
            })),
            "security": session.security,
            "sites_ready": session.sites_ready,
            "membership": session.membership,
            "drops": json::drops(&session.drops),
            "lateness_ms": millis(session.lateness),
            "io": json::io(&report.io),
        }))
    }

    fn metrics(report: &Report, names: &Names) -> Vec<Metric> {
        let (session, mut sheet) = (&report.session, Sheet::default());
        let attached = f64::from(u8::from(session.active.is_some()));
        sheet.gauge("attached", "Whether a holder carries the session", attached);
        let generation = f64::from(session.generation);
        sheet.gauge(
            "generation",
            "Generation of the session: one more with each fresh exchange",
            generation,
        );
        sheet.gauge(
            "moves",
            "Number of the last move",
            f64::from(session.number),
        );
        let old = f64::from(u8::from(session.unrefreshed));
        sheet.gauge(
            "unrefreshed",
            "Whether the secrets date from before the last crash takeover",
            old,
        );
        if let Some(keys) = &session.keys {
            sheet.seconds("handshake_age", "Since the last handshake", keys.age);
            sheet.gauge(
                "key_bytes",
                "Bytes under the present keys, of the busier direction",
                keys.volume.0 as f64,
            );
            sheet.gauge("key_packets", "Packets, likewise", keys.packets as f64);
        }
        sheet.gauge(
            "shadows",
            "Holders that may be activated",
            session.roster.len() as f64,
        );
        sheet.gauge(
            "sites_ready",
            "Sites that know the present holder",
            session.sites_ready as f64,
        );
        let holder = session.active.map(|node| names.node(node));
        let path = holder.zip(session.path.as_ref());
        sheet.paths(path.into_iter());
        sheet.seconds(
            "lateness",
            "Worst lateness of the packet thread since the last report",
            session.lateness,
        );
        sheet.drops(&session.drops);
        sheet.io(&report.io);
        sheet.into_metrics()
    }
}

/// Starts a client; inner packets come from `packet_io` if it is given, else from the TUN device.
///
/// # Errors
/// See [`Role::start`].
pub fn start_with(
    settings: Settings,
    packet_io: Option<Box<dyn PacketIo>>,
) -> Result<Handle<Client>, Error> {
    let policy = settings.keys.policy(settings.profile)?;
    start_with_policy(settings, packet_io, Box::new(policy))
}

/// Starts a client whose keys live as long as `policy` says; the settings' own limits do not count.
///
/// # Errors
/// See [`Role::start`].
pub fn start_with_policy(
    settings: Settings,
    packet_io: Option<Box<dyn PacketIo>>,
    policy: Box<dyn KeyPolicy>,
) -> Result<Handle<Client>, Error> {
    let mut member = Member::open(&settings.state)?;
    let listen = settings.listen.unwrap_or_else(|| member.any_address());
    let udp = UdpSocket::bind(listen)?;
    let mut station = member.begin(settings.profile.into())?;
    station.marking = settings.dscp.marking();
    let config = ClientConfig {
        station,
        tier: settings.tier,
        timers: ClientTimers::default(),
    };
    let machine = ClientMachine::new(config, Clock.now())?;
    let me = member.membership().client_by_key(&member.key());
    let (name, prefixes) = me
        .map(|me| (me.name.clone(), me.prefixes.clone()))
        .unwrap_or_default();
    let sites = member.membership().sites.iter();
    let routes: Vec<Prefix> = sites.flat_map(|site| &site.prefixes).copied().collect();
    let packet_io = match packet_io {
        Some(given) => Some(given),
        None => device::open(
            settings.tun.as_ref(),
            &device::own_addresses(&prefixes),
            &routes,
        )?,
    };
    let start = Start {
        member,
        machine,
        udp,
        packet_io,
        name,
    };
    spawn(start, |_| {
        Ok(Box::new(Keeper {
            due: Clock.now(),
            policy,
            decided: None,
        }))
    })
}

#[derive(Debug)]
struct Keeper {
    due: Timestamp,
    policy: Box<dyn KeyPolicy>,
    /// What was decided about the present keys; told once.
    decided: Option<KeyDecision>,
}

impl Keeper {
    /// Asks the policy about the keys, and the machine for what it says.
    fn judge_keys(&mut self, session: &ClientReport, at: Timestamp, desk: &Desk<Client>) {
        let Some(usage) = &session.keys else { return };
        let decision = self.policy.decide(usage, ThreatLevel::Normal);
        let told = self.decided.replace(decision) == Some(decision);
        match decision {
            KeyDecision::Keep { .. } => {}
            KeyDecision::Rotate { cause } => {
                desk.ask(ClientCommand::Refresh);
                if !told {
                    desk.emit(Event::KeysServed(cause), at);
                }
            }
            KeyDecision::Stop { cause } => {
                desk.ask(ClientCommand::DropKeys);
                if !told {
                    desk.emit(Event::KeysExpired(cause), at);
                }
            }
        }
    }
}

impl Duty<Client> for Keeper {
    fn handle_event(&mut self, event: ClientEvent, at: Timestamp, desk: &mut Desk<Client>) {
        match event {
            ClientEvent::Report(session) => {
                let io = desk.commands.counters();
                let session = *session;
                self.judge_keys(&session, at, desk);
                return desk.publish(Report { session, io }, at);
            }
            ClientEvent::Membership(ref signed) => {
                if let Err(error) = desk.keep(signed) {
                    desk.emit(Event::Trouble(error.to_string()), at);
                }
            }
            ClientEvent::IncarnationSeen(seen) => match desk.begin_again(seen) {
                Ok(incarnation) => desk.ask(ClientCommand::Resumed { incarnation }),
                Err(error) => desk.emit(Event::Trouble(error.to_string()), at),
            },
            ClientEvent::Attached { .. } | ClientEvent::Refreshed { .. } => self.decided = None,
            ClientEvent::Moving { .. }
            | ClientEvent::Moved { .. }
            | ClientEvent::MoveAbandoned { .. }
            | ClientEvent::TakenOver { .. }
            | ClientEvent::Detached
            | ClientEvent::Roster { .. } => {}
        }
        desk.emit(Event::Session(event), at);
    }

    fn handle_timeout(&mut self, now: Timestamp, desk: &mut Desk<Client>) {
        self.due = next_after(self.due, REPORT_EVERY, now);
        desk.ask(ClientCommand::Report);
    }

    fn poll_timeout(&self) -> Timestamp {
        self.due
    }
}

fn session_record(event: &ClientEvent, names: &Names) -> (&'static str, Fields) {
    let (name, record) = match event {
        ClientEvent::Attached { node, generation } => (
            "attached",
            json!({"node": names.node(*node), "generation": generation}),
        ),
        ClientEvent::Moving { from, to } => (
            "moving",
            json!({"from": names.node(*from), "to": names.node(*to)}),
        ),
        ClientEvent::Moved { from, to, number } => (
            "moved",
            json!({"from": names.node(*from), "to": names.node(*to), "number": number}),
        ),
        ClientEvent::MoveAbandoned { to } => ("move_abandoned", json!({"to": names.node(*to)})),
        ClientEvent::TakenOver { from, to, silence } => (
            "taken_over",
            json!({
                "from": names.node(*from),
                "to": names.node(*to),
                "silence_ms": millis(*silence),
            }),
        ),
        ClientEvent::Detached => ("detached", json!({})),
        ClientEvent::Refreshed { generation } => ("refreshed", json!({"generation": generation})),
        ClientEvent::Roster {
            generation,
            holders,
        } => (
            "roster",
            json!({"generation": generation, "holders": json::nodes(holders, names)}),
        ),
        ClientEvent::Membership(signed) => ("membership", json!({"bytes": signed.len()})),
        ClientEvent::IncarnationSeen(seen) => ("incarnation_seen", json!({"counter": seen})),
        ClientEvent::Report(_) => ("machine_report", json!({})),
    };
    (name, fields(record))
}

const REPORT_EVERY: Duration = Duration::from_millis(250);
