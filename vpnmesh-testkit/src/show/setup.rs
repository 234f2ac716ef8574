//! Brings everybody on stage: hosts, keys, members, traffic.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufReader;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde::Serialize;
use vpnmesh::provision::{
    ClientDescription, MeshDescription, NodeDescription, Provisioned, SiteDescription, provision,
};
use vpnmesh::role::controller::AutomationSettings;
use vpnmesh::settings::{CpuSource, FailoverSettings};
use vpnmesh_core::{Ratio, Tier};

use super::Halt;
use super::board::Board;
use super::crew::Crew;
use super::layout::{self, Part, Place};
use super::stage::{Peers, SETTLE};
use crate::lab::{Child, Inside, Lab};
use crate::traffic::control::{Measured, Peer};
use crate::traffic::{DownloadConfig, Load, LoadConfig, Resource, ResourceConfig};

/// Everybody on stage, and the directory of their state.
pub(super) struct Cast {
    pub(super) lab: Arc<Lab>,
    pub(super) board: Arc<Board>,
    pub(super) crew: Crew,
    pub(super) files: BTreeMap<String, PathBuf>,
    pub(super) home: PathBuf,
    /// The administrator's certificate.
    pub(super) admin: PathBuf,
}

impl Cast {
    /// Builds the lab and the state of all members; nobody runs yet.
    pub(super) fn new(inside: Inside, seed: u64, home: &Path) -> Result<Self, Halt> {
        let lab = Lab::new(inside, seed).map_err(|error| Halt::new("build the lab", error))?;
        layout::build(&lab).map_err(|error| Halt::new("build the lab", error))?;
        let lab = Arc::new(lab);
        let logs = home.join("logs");
        fs::create_dir_all(&logs).map_err(|error| Halt::new("make a directory", error))?;
        let mesh = provision(&description(), &home.join("mesh"));
        let mesh = mesh.map_err(|error| Halt::new("provision the mesh", error))?;
        let board = Arc::new(Board::default());
        Ok(Self {
            crew: Crew::new(Arc::clone(&lab), Arc::clone(&board), Some(logs))?,
            files: layout::PLACES
                .iter()
                .map(|place| file(place, &mesh))
                .collect(),
            home: home.to_owned(),
            admin: mesh.admin().join("tls"),
            lab,
            board,
        })
    }

    /// Starts all members and waits until every client is known at every site.
    pub(super) fn start_members(&mut self) -> Result<(), Halt> {
        for place in &layout::PLACES {
            if place.part == Part::Client {
                self.wait_for_nodes()?;
            }
            self.crew
                .start(place.name, kind(place.part), &self.files[place.name])?;
        }
        for client in layout::all(Part::Client) {
            let ready = self.board.wait(SETTLE, |said| {
                let sites = said.field(client.name, "sites_ready").as_u64()?;
                (sites >= layout::all(Part::Site).count() as u64).then_some(())
            });
            ready.ok_or_else(|| {
                let said = self.board.look();
                let last = layout::PLACES.iter().map(|place| said.strange(place.name));
                let last: Vec<String> = last.filter(|text| !text.is_empty()).collect();
                Halt::Missing(format!("{} to attach {}", client.name, last.join("; ")))
            })?;
        }
        Ok(())
    }

    /// Clients come to a mesh that runs.
    fn wait_for_nodes(&self) -> Result<(), Halt> {
        let up = self.board.wait(SETTLE, |said| {
            let mut nodes = layout::all(Part::Node);
            nodes
                .all(|node| said.report(node.name).is_some())
                .then_some(())
        });
        up.ok_or_else(|| Halt::Missing("all nodes to start".to_owned()))
    }

    /// Starts resources and loads; the processes live as long as the peers.
    pub(super) fn start_traffic(&self) -> Result<Peers, Halt> {
        let mut peers = Peers::default();
        for site in layout::all(Part::Site) {
            let file = self.write(&format!("{}-resource", site.name), &resource(site))?;
            let (child, peer) = self.start_measured::<Resource>(site.name, "resource", &file)?;
            peers.processes.push(child);
            peers.sites.insert(site.name.to_owned(), Mutex::new(peer));
        }
        for client in layout::all(Part::Client) {
            let file = self.write(&format!("{}-load", client.name), &load(client))?;
            let (child, peer) = self.start_measured::<Load>(client.name, "load", &file)?;
            peers.processes.push(child);
            peers
                .clients
                .insert(client.name.to_owned(), Mutex::new(peer));
        }
        Ok(peers)
    }

    fn start_measured<M: Measured>(
        &self,
        host: &str,
        kind: &str,
        file: &Path,
    ) -> Result<(Child, Peer<M>), Halt> {
        let child = self.crew.spawn(host, kind, file, Stdio::inherit())?;
        let pipes = child.take_stdout().zip(child.take_stdin());
        let (output, input) = pipes.ok_or_else(|| Halt::Missing(format!("{kind} of {host}")))?;
        let mut peer = Peer::new(BufReader::new(output), input);
        let answered = peer.snapshot();
        answered.map_err(|error| Halt::new(format!("start the {kind} of {host}"), error))?;
        Ok((child, peer))
    }

    fn write(&self, name: &str, settings: &impl Serialize) -> Result<PathBuf, Halt> {
        let path = self.home.join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(settings).map_err(std::io::Error::from);
        let written = text.and_then(|text| fs::write(&path, text));
        written.map_err(|error| Halt::new(format!("write {}", path.display()), error))?;
        Ok(path)
    }
}

/// The role that plays a part.
pub(super) const fn kind(part: Part) -> &'static str {
    match part {
        Part::Controller => "controller",
        Part::Node => "node",
        Part::Client => "client",
        Part::Site => "site",
    }
}

/// The site with which a client's heartbeat and datagrams go: the one with the same number.
pub(super) fn site_of(client: &Place) -> &'static Place {
    let mut sites = layout::all(Part::Site);
    let same = sites.find(|site| site.ordinal() == client.ordinal());
    same.expect("there are as many sites as clients")
}

fn file(place: &Place, mesh: &Provisioned) -> (String, PathBuf) {
    let path = match place.part {
        Part::Controller => mesh.controller().join("controller.toml"),
        Part::Node => mesh.node(place.name).join("node.toml"),
        Part::Client => mesh.client(place.name).join("client.toml"),
        Part::Site => mesh.site(place.name).join("site.toml"),
    };
    (place.name.to_owned(), path)
}

fn description() -> MeshDescription {
    let prefixes = |place: &Place| {
        let prefix = place.inner_prefix().parse();
        vec![prefix.expect("the layout's prefixes are well formed")]
    };
    let node = |place: &'static Place| NodeDescription {
        name: place.name.into(),
        region: place.region.into(),
        address: place.listen(),
        active: true,
    };
    let client = |place: &'static Place| ClientDescription {
        name: place.name.into(),
        prefixes: prefixes(place),
        tier: Tier::Standard,
        tun: Some(TUN.into()),
    };
    let site = |place: &'static Place| SiteDescription {
        name: place.name.into(),
        region: place.region.into(),
        prefixes: prefixes(place),
        tun: Some(TUN.into()),
        addresses: vec![IpAddr::V4(place.inner()).into()],
    };
    MeshDescription {
        name: "self-healing".into(),
        controller: layout::all(Part::Controller).next().map(Place::listen),
        nodes: layout::all(Part::Node).map(node).collect(),
        clients: layout::all(Part::Client).map(client).collect(),
        sites: layout::all(Part::Site).map(site).collect(),
        failover: FailoverSettings {
            initial_weight: Ratio::saturating(0.25),
            step_size: Ratio::saturating(0.25),
            step_interval_ms: 500,
            dwell_ms: 2000,
            ..FailoverSettings::default()
        },
        cpu: CpuSource::Process, // all nodes share one machine
        automation: AutomationSettings {
            per_window: 1000, // acts follow each other closer than failures in a real mesh
            freeze_window_ms: 1000,
            thaw_after_ms: 2000,
            ..AutomationSettings::default()
        },
    }
}

fn resource(site: &Place) -> ResourceConfig {
    ResourceConfig {
        http: (site.inner(), HTTP).into(),
        udp: (site.inner(), ECHO).into(),
        datagrams_per_second: DATAGRAMS_PER_SECOND,
        ..ResourceConfig::default()
    }
}

fn load(client: &Place) -> LoadConfig {
    let http = |site: &Place| SocketAddr::from((site.inner(), HTTP));
    let mine = SocketAddr::from((site_of(client).inner(), ECHO));
    let download = |site: &'static Place| DownloadConfig {
        from: http(site),
        seed: client.id * 100 + site.id,
        pace_bps: DOWNLOAD_BPS,
        length: None,
    };
    LoadConfig {
        stream: client.ordinal().into(),
        source: IpAddr::V4(client.inner()),
        downloads: layout::all(Part::Site).map(download).collect(),
        http: layout::all(Part::Site).map(http).collect(),
        heartbeat: Some(mine),
        datagrams: Some(mine),
        datagrams_per_second: DATAGRAMS_PER_SECOND,
        ..LoadConfig::default()
    }
}

const TUN: &str = "vpn0";
const HTTP: u16 = 80;
const ECHO: u16 = 7;
const DATAGRAMS_PER_SECOND: u32 = 200;
// Four of them fit on two processors together with everything else.
const DOWNLOAD_BPS: u64 = 4_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_makes_a_mesh() {
        let directory = tempfile::tempdir().unwrap();
        let mesh = provision(&description(), &directory.path().join("mesh")).unwrap();
        assert_eq!(mesh.membership().nodes.len(), 5);
        for place in layout::PLACES
            .iter()
            .filter(|place| place.part != Part::Controller)
        {
            assert!(file(place, &mesh).1.exists(), "{}", place.name);
        }
    }

    #[test]
    fn each_client_loads_both_sites_and_measures_with_its_own() {
        let c2 = layout::find("c2").unwrap();
        let load = load(c2);
        assert_eq!(
            (load.downloads.len(), load.http.len(), load.stream),
            (2, 2, 2)
        );
        assert_eq!(load.heartbeat, Some("10.88.2.1:7".parse().unwrap()));
    }
}
