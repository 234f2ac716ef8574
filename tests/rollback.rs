//! A member whose disk was set back between two starts: its peers have seen a later life, and it
//! heals. Roles number their lives by a durable counter, never by a clock, so this is what a clock
//! that went back is for a tunnel.
#![cfg(feature = "roles")]
#![allow(clippy::unwrap_used, reason = "all of it is test code")]

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vpnmesh::provision::{
    ClientDescription, MeshDescription, NodeDescription, Provisioned, SiteDescription, provision,
};
use vpnmesh::role::{Handle, client, controller, node, site};
use vpnmesh::settings::FromFile;
use vpnmesh::transport::io::ChannelIo;
use vpnmesh::{Endpoint, udp_packet};

/// The state of a mesh of one node, one client and one site.
struct State {
    mesh: Provisioned,
    _directory: TempDir,
}

fn state() -> State {
    let directory = tempfile::tempdir().unwrap();
    let free = UdpSocket::bind("127.0.0.1:0").unwrap();
    let control = TcpListener::bind("127.0.0.1:0").unwrap();
    let description = MeshDescription {
        controller: Some(control.local_addr().unwrap()),
        nodes: vec![NodeDescription {
            name: "n1".into(),
            region: "r".into(),
            address: free.local_addr().unwrap(),
            active: true,
        }],
        clients: vec![ClientDescription {
            name: "laptop".into(),
            prefixes: vec!["10.9.0.1/32".parse().unwrap()],
            tier: Default::default(),
            tun: None,
        }],
        sites: vec![SiteDescription {
            name: "office".into(),
            region: "r".into(),
            prefixes: vec!["10.20.0.0/24".parse().unwrap()],
            tun: None,
            addresses: Vec::new(),
        }],
        ..MeshDescription::default()
    };
    let mesh = provision(&description, &directory.path().join("mesh")).unwrap();
    State {
        mesh,
        _directory: directory,
    }
}

impl State {
    fn node(&self) -> Handle<node::Node> {
        let settings = node::Settings::read(&self.mesh.node("n1").join("node.toml")).unwrap();
        node::start_with(settings, None).unwrap()
    }

    fn client(&self) -> (Handle<client::Client>, Endpoint) {
        let (ours, theirs) = ChannelIo::pair(64).unwrap();
        let home = self.mesh.client("laptop");
        let settings = client::Settings::read(&home.join("client.toml")).unwrap();
        let client = client::start_with(settings, Some(Box::new(theirs))).unwrap();
        (client, Endpoint::from(ours))
    }

    fn site(&self) -> (Handle<site::Site>, Endpoint) {
        let (ours, theirs) = ChannelIo::pair(64).unwrap();
        let home = self.mesh.site("office");
        let settings = site::Settings::read(&home.join("site.toml")).unwrap();
        let site = site::start_with(settings, Some(Box::new(theirs))).unwrap();
        (site, Endpoint::from(ours))
    }
}

/// One packet through the mesh, repeated until it arrives.
fn ping(laptop: &mut Endpoint, office: &mut Endpoint, text: &[u8]) {
    let (from, to) = ("10.9.0.1:5000", "10.20.0.7:80");
    let packet = udp_packet(from.parse().unwrap(), to.parse().unwrap(), text).unwrap();
    let start = Instant::now();
    loop {
        laptop.send(&packet).unwrap();
        let arrived = office.recv(Duration::from_millis(100));
        if arrived.is_ok_and(|arrived| arrived == packet) {
            return;
        }
        let waited = start.elapsed();
        assert!(waited < Duration::from_secs(60), "nothing arrived");
    }
}

/// The file of a member's lives.
struct Lives(PathBuf);

impl Lives {
    fn of(home: &Path) -> Self {
        Self(home.join("incarnation"))
    }

    fn count(&self) -> u64 {
        let text = fs::read_to_string(&self.0).unwrap();
        text.split_whitespace().nth(2).unwrap().parse().unwrap()
    }

    /// Runs `live` three times, then sets the disk back to what it was after the first; the last
    /// life that others have seen.
    fn live_thrice(&self, mut live: impl FnMut(&[u8])) -> u64 {
        live(b"one");
        let then = fs::read(&self.0).unwrap();
        live(b"two");
        live(b"three");
        let seen = self.count();
        fs::write(&self.0, &then).unwrap();
        assert!(self.count() + 2 <= seen);
        seen
    }

    /// Waits until the member has gone beyond `life`.
    fn wait_beyond(&self, life: u64) {
        let start = Instant::now();
        while self.count() <= life {
            let waited = start.elapsed();
            assert!(waited < Duration::from_secs(60), "it did not go on");
            thread::sleep(Duration::from_millis(2)); // polls; nothing depends on how long
        }
    }
}

#[test]
fn a_client_whose_disk_was_set_back_is_told_so_and_goes_on() {
    let state = state();
    let _node = state.node();
    let (_site, mut office) = state.site();
    let lives = Lives::of(&state.mesh.client("laptop"));
    let seen = lives.live_thrice(|text| {
        let (_client, mut laptop) = state.client();
        ping(&mut laptop, &mut office, text);
    });
    let (_client, mut laptop) = state.client();
    ping(&mut laptop, &mut office, b"after");
    lives.wait_beyond(seen);
}

/// Whom a node calls remembers its lives: other nodes and the controller. Who calls it does not.
#[test]
fn a_node_whose_disk_was_set_back_is_told_so_and_goes_on() {
    let state = state();
    let settings = state.mesh.controller().join("controller.toml");
    let settings = controller::Settings::read(&settings).unwrap();
    let controller = controller::start(&settings).unwrap();
    let known = |life: u64| {
        let start = Instant::now();
        while controller.status().unwrap().nodes[0].incarnation < Some(life) {
            let waited = start.elapsed();
            assert!(waited < Duration::from_secs(60), "it was not heard");
            thread::sleep(Duration::from_millis(2)); // polls; nothing depends on how long
        }
    };
    let (_client, mut laptop) = state.client();
    let (_site, mut office) = state.site();
    let lives = Lives::of(&state.mesh.node("n1"));
    let seen = lives.live_thrice(|text| {
        let _node = state.node();
        ping(&mut laptop, &mut office, text);
        known(lives.count());
    });
    let _node = state.node();
    ping(&mut laptop, &mut office, b"after");
    lives.wait_beyond(seen);
}

#[test]
fn a_site_whose_disk_was_set_back_is_told_so_and_goes_on() {
    let state = state();
    let _node = state.node();
    let (_client, mut laptop) = state.client();
    let lives = Lives::of(&state.mesh.site("office"));
    let seen = lives.live_thrice(|text| {
        let (_site, mut office) = state.site();
        ping(&mut laptop, &mut office, text);
    });
    let (_site, mut office) = state.site();
    ping(&mut laptop, &mut office, b"after");
    lives.wait_beyond(seen);
}
