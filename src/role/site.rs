//! The site role: the door to a protected network, behind a TUN device.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vpnmesh_core::{Prefix, Timestamp};
use vpnmesh_transport::io::{Clock, IoCounters, PacketIo, UdpSocket};
use vpnmesh_transport::site::{SiteCommand, SiteConfig, SiteEvent, SiteMachine, SiteReport};

use super::json::{self, Fields, fields};
use super::keeper::{Desk, Duty, Start, next_after, spawn};
use super::metrics::{Metric, Sheet};
use super::{Handle, Names, Role, device};
use crate::settings::{DscpSetting, FromFile, ProfileSetting, TunSettings, anchor};
use crate::{Error, Member};

/// What a site is started with.
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
}

/// What a site tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The machine told something.
    Site(SiteEvent),
    /// Something is wrong that the site survives.
    Trouble(String),
}

/// A site in figures.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Its links and clients.
    pub site: SiteReport,
    /// Its packet thread.
    pub io: IoCounters,
}

/// The site role.
#[derive(Debug, Clone, Copy)]
pub struct Site;

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
        }
    }
}

impl FromFile for Settings {
    fn anchor(&mut self, base: &Path) {
        anchor(&mut self.state, base);
    }
}

impl Role for Site {
    type Settings = Settings;
    type Machine = SiteMachine;
    type Event = Event;
    type Report = Report;
    const NAME: &'static str = "site";

    fn start(settings: Settings) -> Result<Handle<Self>, Error> {
        start_with(settings, None)
    }

    fn event_record(event: &Event, names: &Names) -> (&'static str, Fields) {
        match event {
            Event::Site(event) => site_record(event, names),
            Event::Trouble(text) => ("trouble", fields(json!({"text": text}))),
        }
    }

    fn report_record(report: &Report, names: &Names) -> Fields {
        let site = &report.site;
        let nodes = site
            .nodes
            .iter()
            .map(|(node, path)| (names.node(*node), json::path(path)));
        let holders = site.holders.iter();
        let holders =
            holders.map(|(client, node)| (names.client(*client), json!(names.node(*node))));
        fields(json!({
            "nodes": nodes.collect::<Value>(),
            "holders": holders.collect::<Value>(),
            "fenced": site.fenced,
            "membership": site.membership,
            "drops": json::drops(&site.drops),
            "io": json::io(&report.io),
        }))
    }

    fn metrics(report: &Report, names: &Names) -> Vec<Metric> {
        let (site, mut sheet) = (&report.site, Sheet::default());
        sheet.gauge("nodes", "Nodes that are connected", site.nodes.len() as f64);
        sheet.gauge(
            "clients",
            "Clients whose holder is known",
            site.holders.len() as f64,
        );
        sheet.counter(
            "fenced",
            "Packets of clients through a holder that is not theirs any more",
            site.fenced,
        );
        let paths = site.nodes.iter();
        sheet.paths(paths.map(|(node, path)| (names.node(*node), path)));
        sheet.drops(&site.drops);
        sheet.io(&report.io);
        sheet.into_metrics()
    }
}

/// Starts a site; inner packets come from `packet_io` if it is given, else from the TUN device.
///
/// # Errors
/// See [`Role::start`].
pub fn start_with(
    settings: Settings,
    packet_io: Option<Box<dyn PacketIo>>,
) -> Result<Handle<Site>, Error> {
    let mut member = Member::open(&settings.state)?;
    let listen = settings.listen.unwrap_or_else(|| member.any_address());
    let udp = UdpSocket::bind(listen)?;
    let mut station = member.begin(settings.profile.into())?;
    station.marking = settings.dscp.marking();
    let machine = SiteMachine::new(SiteConfig::new(station), Clock.now())?;
    let me = member.membership().site_by_key(&member.key());
    let name = me.map(|me| me.name.clone()).unwrap_or_default();
    let clients = member.membership().clients.iter();
    let routes: Vec<Prefix> = clients
        .flat_map(|client| &client.prefixes)
        .copied()
        .collect();
    let packet_io = match packet_io {
        Some(given) => Some(given),
        None => device::open(settings.tun.as_ref(), &[], &routes)?,
    };
    let start = Start {
        member,
        machine,
        udp,
        packet_io,
        name,
    };
    spawn(start, |_| Ok(Box::new(Keeper { due: Clock.now() })))
}

#[derive(Debug)]
struct Keeper {
    due: Timestamp,
}

impl Duty<Site> for Keeper {
    fn handle_event(&mut self, event: SiteEvent, at: Timestamp, desk: &mut Desk<Site>) {
        match event {
            SiteEvent::Report(site) => {
                let io = desk.commands.counters();
                return desk.publish(Report { site: *site, io }, at);
            }
            SiteEvent::Membership(ref signed) => {
                if let Err(error) = desk.keep(signed) {
                    desk.emit(Event::Trouble(error.to_string()), at);
                }
            }
            SiteEvent::IncarnationSeen(seen) => match desk.begin_again(seen) {
                Ok(incarnation) => desk.ask(SiteCommand::Resumed { incarnation }),
                Err(error) => desk.emit(Event::Trouble(error.to_string()), at),
            },
            SiteEvent::Connected(_) | SiteEvent::Silent(_) | SiteEvent::Moved { .. } => {}
        }
        desk.emit(Event::Site(event), at);
    }

    fn handle_timeout(&mut self, now: Timestamp, desk: &mut Desk<Site>) {
        self.due = next_after(self.due, REPORT_EVERY, now);
        desk.ask(SiteCommand::Report);
    }

    fn poll_timeout(&self) -> Timestamp {
        self.due
    }
}

fn site_record(event: &SiteEvent, names: &Names) -> (&'static str, Fields) {
    let (name, record) = match event {
        SiteEvent::Connected(node) => ("connected", json!({"node": names.node(*node)})),
        SiteEvent::Silent(node) => ("silent", json!({"node": names.node(*node)})),
        SiteEvent::Moved {
            client,
            holder,
            fence,
        } => (
            "moved",
            json!({
                "client": names.client(*client),
                "holder": names.node(*holder),
                "incarnation": fence.incarnation,
                "generation": fence.generation,
                "number": fence.number,
            }),
        ),
        SiteEvent::Membership(signed) => ("membership", json!({"bytes": signed.len()})),
        SiteEvent::IncarnationSeen(seen) => ("incarnation_seen", json!({"counter": seen})),
        SiteEvent::Report(_) => ("machine_report", json!({})),
    };
    (name, fields(record))
}

const REPORT_EVERY: Duration = Duration::from_millis(250);
