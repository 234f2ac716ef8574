//! Whole roles together, over loopback: with a controller, and as its death leaves them.
#![cfg(feature = "roles")]
#![allow(clippy::unwrap_used)]

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vpnmesh::control::Change;
use vpnmesh::core::NodeId;
use vpnmesh::provision::{
    ClientDescription, MeshDescription, NodeDescription, Provisioned, SiteDescription, provision,
};
use vpnmesh::role::{Handle, client, controller, node, site};
use vpnmesh::settings::{CpuSource, FailoverSettings, FromFile};
use vpnmesh::transport::client::ClientEvent;
use vpnmesh::transport::io::ChannelIo;
use vpnmesh::transport::{PeerProof, SecurityReport};
use vpnmesh::{Endpoint, udp_packet};

struct Rig {
    mesh: Provisioned,
    controller: Option<controller::Handle>,
    nodes: Vec<Handle<node::Node>>,
    client: Handle<client::Client>,
    site: Handle<site::Site>,
    laptop: Endpoint,
    office: Endpoint,
    _directory: TempDir,
}

fn free_udp() -> (SocketAddr, UdpSocket) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    (socket.local_addr().unwrap(), socket)
}

fn description(nodes: &[SocketAddr]) -> MeshDescription {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let node = |(n, address): (usize, &SocketAddr)| NodeDescription {
        name: format!("n{}", n + 1),
        region: format!("r{n}"),
        address: *address,
        active: true,
    };
    MeshDescription {
        controller: Some(listener.local_addr().unwrap()),
        nodes: nodes.iter().enumerate().map(node).collect(),
        clients: vec![ClientDescription {
            name: "laptop".into(),
            prefixes: vec!["10.9.0.1/32".parse().unwrap()],
            tier: Default::default(),
            tun: None,
        }],
        sites: vec![SiteDescription {
            name: "office".into(),
            region: "r0".into(),
            prefixes: vec!["10.20.0.0/24".parse().unwrap()],
            tun: None,
            addresses: Vec::new(),
        }],
        failover: FailoverSettings {
            step_interval_ms: 100,
            ..FailoverSettings::default()
        },
        cpu: CpuSource::Process,
        ..MeshDescription::default()
    }
}

fn rig() -> Rig {
    let directory = tempfile::tempdir().unwrap();
    let sockets: Vec<_> = (0..3).map(|_| free_udp()).collect();
    let addresses: Vec<SocketAddr> = sockets.iter().map(|(address, _)| *address).collect();
    let mesh = provision(&description(&addresses), &directory.path().join("mesh")).unwrap();
    let settings = controller::Settings::read(&mesh.controller().join("controller.toml")).unwrap();
    let controller = controller::start(&settings).unwrap();
    let start = |(n, (_, socket)): (usize, (SocketAddr, UdpSocket))| {
        let home = mesh.node(&format!("n{}", n + 1));
        let settings = node::Settings::read(&home.join("node.toml")).unwrap();
        node::start_with(settings, Some(socket)).unwrap()
    };
    let nodes = sockets.into_iter().enumerate().map(start).collect();
    let (ours, theirs) = ChannelIo::pair(64).unwrap();
    let settings = site::Settings::read(&mesh.site("office").join("site.toml")).unwrap();
    let site = site::start_with(settings, Some(Box::new(theirs))).unwrap();
    let office = Endpoint::from(ours);
    let (ours, theirs) = ChannelIo::pair(64).unwrap();
    let settings = client::Settings::read(&mesh.client("laptop").join("client.toml")).unwrap();
    let client = client::start_with(settings, Some(Box::new(theirs))).unwrap();
    Rig {
        controller: Some(controller),
        nodes,
        client,
        site,
        laptop: Endpoint::from(ours),
        office,
        mesh,
        _directory: directory,
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{what} did not happen"
        );
        std::thread::yield_now();
        std::thread::sleep(Duration::from_millis(2)); // polls; nothing depends on how long
    }
}

impl Rig {
    /// The node that holds the client's session, once it has shadows and sites know it.
    fn holder(&self) -> NodeId {
        until("a protected session", || {
            let report = self.client.report()?.what.session;
            let ready = report.sites_ready == 1 && report.roster.len() == 3; // the holder counts
            report.active.filter(|_| ready)
        })
    }

    fn security(&self) -> Option<SecurityReport> {
        self.client.report()?.what.session.security
    }

    fn name(&self, node: NodeId) -> String {
        self.client.names().node(node)
    }

    /// One packet through the mesh, repeated until it arrives.
    fn ping(&mut self, text: &[u8]) {
        let (from, to) = (
            "10.9.0.1:5000".parse().unwrap(),
            "10.20.0.7:80".parse().unwrap(),
        );
        let packet = udp_packet(from, to, text).unwrap();
        until("a packet at the site", || {
            self.laptop.send(&packet).unwrap();
            let arrived = self.office.recv(Duration::from_millis(100));
            arrived.ok().filter(|arrived| *arrived == packet)
        });
    }

    fn moved(&self) -> (NodeId, NodeId) {
        until("a planned move", || {
            match self.client.events().try_recv().ok()?.what {
                client::Event::Session(ClientEvent::Moved { from, to, .. }) => Some((from, to)),
                _ => None,
            }
        })
    }
}

#[test]
fn an_operator_drains_a_node_and_its_session_moves_without_a_break() {
    let mut rig = rig();
    let holder = rig.holder();
    rig.ping(b"before");
    let controller = rig.controller.as_ref().unwrap();
    until("all agents", || {
        let status = controller.status().unwrap();
        status.nodes.iter().all(|node| node.connected).then_some(())
    });
    let security = rig.security().unwrap();
    assert_eq!(security.key_exchange(), "x25519+ml-kem-768");
    assert_eq!(security.peer, PeerProof::Membership);
    controller.change(Change::Drain(holder)).unwrap();
    let (from, to) = rig.moved();
    assert_eq!(from, holder);
    assert_ne!(to, holder);
    rig.ping(b"after");
    until("a higher fence in the report", || {
        let floor = rig.security()?.floor;
        (floor > security.floor).then_some(())
    });
    let name = rig.name(holder);
    until("the removal", || {
        let status = rig.controller.as_ref().unwrap().status().unwrap();
        let node = status
            .nodes
            .into_iter()
            .find(|node| node.entry.name == name)?;
        (node.entry.state == vpnmesh::core::NodeState::Removed).then_some(())
    });
    let explained = rig
        .controller
        .as_ref()
        .unwrap()
        .explain(Some(holder), 64)
        .unwrap();
    assert!(
        explained.iter().any(|e| e.to_string().contains("operator")),
        "{explained:?}"
    );
}

#[test]
fn a_session_outlives_its_controller_and_then_its_node() {
    let mut rig = rig();
    let holder = rig.holder();
    rig.ping(b"before");
    rig.controller.take().unwrap().stop();
    let name = rig.name(holder);
    let at = rig
        .nodes
        .iter()
        .position(|node| node.name() == name)
        .unwrap();
    rig.nodes.remove(at).stop();
    rig.ping(b"after");
    let home = rig.mesh.node(&name);
    let settings = node::Settings::read(&home.join("node.toml")).unwrap();
    let reborn = node::start_with(settings, None).unwrap();
    until("the node to enter again", || {
        let paths = reborn.report()?.what.machine.paths.len();
        (paths == 3).then_some(())
    });
}

#[cfg(feature = "prometheus")]
#[test]
fn a_registry_of_prometheus_client_shows_all_roles() {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;
    use vpnmesh::role::metrics::{Exporter, Metric};

    let mut rig = rig();
    let holder = rig.holder();
    rig.ping(b"hello");
    let (name, index) = (rig.name(holder), holder.0 as usize - 1);
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exporter::new(&rig.client)));
    registry.register_collector(Box::new(Exporter::new(&rig.nodes[index])));
    registry.register_collector(Box::new(Exporter::new(&rig.site)));
    let wanted = [
        r#"vpnmesh_attached{role="client",member="laptop"} 1"#.to_owned(),
        format!(r#"vpnmesh_sessions{{role="node",member="{name}"}} 1"#),
        r#"vpnmesh_clients{role="site",member="office"} 1"#.to_owned(),
        format!(r#"vpnmesh_path_rtt_seconds{{role="client",member="laptop",peer="{name}"}} 0."#),
    ];
    until("all figures", || {
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        wanted
            .iter()
            .all(|line| text.contains(line.as_str()))
            .then_some(())
    });
    until("forwarded packets", || {
        let figures = rig.nodes[index].metrics();
        let named = |it: &&Metric| it.name == "vpnmesh_forwarded_packets";
        figures
            .iter()
            .find(named)
            .filter(|it| it.value >= 1.0)
            .cloned()
    });
}
