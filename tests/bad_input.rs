//! Bad datagrams and bad packets against live roles: counted drops, never a lost session.
#![cfg(feature = "roles")]
#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod wire;

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vpnmesh::provision::{
    ClientDescription, MeshDescription, NodeDescription, SiteDescription, provision,
};
use vpnmesh::role::{Handle, client, node, site};
use vpnmesh::settings::FromFile;
use vpnmesh::transport::DropReason;
use vpnmesh::transport::io::ChannelIo;
use vpnmesh::{Endpoint, udp_packet};
use wire::Wire;

/// One node, reached only through a wire that lies.
struct Rig {
    node: Handle<node::Node>,
    client: Handle<client::Client>,
    _site: Handle<site::Site>,
    laptop: Endpoint,
    office: Endpoint,
    wire: Wire,
    _state: TempDir,
}

fn rig() -> Rig {
    let state = tempfile::tempdir().unwrap();
    let front = UdpSocket::bind("127.0.0.1:0").unwrap();
    let behind = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = behind.local_addr().unwrap();
    let description = MeshDescription {
        nodes: vec![NodeDescription {
            name: "n1".into(),
            region: "r".into(),
            address: front.local_addr().unwrap(),
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
    let mesh = provision(&description, &state.path().join("mesh")).unwrap();
    let wire = Wire::new(front, at);
    let settings = node::Settings::read(&mesh.node("n1").join("node.toml")).unwrap();
    let node = node::start_with(settings, Some(behind)).unwrap();
    let (ours, theirs) = ChannelIo::pair(64).unwrap();
    let settings = site::Settings::read(&mesh.site("office").join("site.toml")).unwrap();
    let site = site::start_with(settings, Some(Box::new(theirs))).unwrap();
    let office = Endpoint::from(ours);
    let (ours, theirs) = ChannelIo::pair(64).unwrap();
    let settings = client::Settings::read(&mesh.client("laptop").join("client.toml")).unwrap();
    let client = client::start_with(settings, Some(Box::new(theirs))).unwrap();
    let mut rig = Rig {
        node,
        client,
        _site: site,
        laptop: Endpoint::from(ours),
        office,
        wire,
        _state: state,
    };
    rig.ping(b"first");
    rig
}

fn until(what: &str, mut look: impl FnMut() -> bool) {
    let start = Instant::now();
    while !look() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{what} did not happen"
        );
        thread::sleep(Duration::from_millis(2)); // polls; nothing depends on how long
    }
}

impl Rig {
    fn packet(text: &[u8]) -> Vec<u8> {
        let (from, to) = (
            "10.9.0.1:5000".parse().unwrap(),
            "10.20.0.7:80".parse().unwrap(),
        );
        udp_packet(from, to, text).unwrap()
    }

    /// One packet through the mesh, repeated until it arrives.
    fn ping(&mut self, text: &[u8]) {
        let packet = Self::packet(text);
        until("a packet at the site", || {
            self.laptop.send(&packet).unwrap();
            let arrived = self.office.recv(Duration::from_millis(100));
            arrived.is_ok_and(|arrived| arrived == packet)
        });
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        let report = self.node.report().map(|report| report.what.machine.drops);
        report
            .and_then(|drops| drops.get(&reason).copied())
            .unwrap_or(0)
    }

    fn session(&self) -> (vpnmesh::core::SessionId, u32, Option<vpnmesh::core::NodeId>) {
        let report = self.client.report().unwrap().what.session;
        (report.session, report.number, report.active)
    }

    /// Mistreats the traffic until the node has counted `reason`, then wants the session alive.
    fn survives(
        mut self,
        reason: DropReason,
        mut attack: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
    ) {
        let attached = |rig: &Self| {
            let report = rig.client.report();
            report.is_some_and(|report| report.what.session.active.is_some())
        };
        until("a report", || attached(&self));
        let before = self.session();
        let counted = self.dropped(reason);
        self.wire.mistreat(move |_, datagram| attack(datagram));
        let packet = Self::packet(b"load");
        until("the drops to be counted", || {
            let _ = self.laptop.send(&packet);
            self.dropped(reason) > counted + 3
        });
        self.wire.be_fair();
        while self.office.recv(Duration::from_millis(50)).is_ok() {}
        self.ping(b"still alive");
        let after = self.session();
        assert_eq!(
            (before.0, before.2),
            (after.0, after.2),
            "the session is the same"
        );
    }
}

#[test]
fn malformed_datagrams_are_counted() {
    rig().survives(DropReason::Malformed, |datagram| {
        vec![
            vec![0xff; 40],
            Vec::new(),
            vec![datagram[0]],
            datagram.to_vec(),
        ]
    });
}

#[test]
fn truncated_datagrams_are_counted() {
    rig().survives(DropReason::Forged, |datagram| {
        let shorter = datagram.len().saturating_sub(1);
        vec![datagram[..shorter].to_vec(), datagram.to_vec()]
    });
}

#[test]
fn forged_datagrams_are_counted() {
    rig().survives(DropReason::Forged, |datagram| {
        let mut forged = datagram.to_vec();
        if let Some(last) = forged.last_mut() {
            *last ^= 1;
        }
        vec![forged, datagram.to_vec()]
    });
}

#[test]
fn replayed_datagrams_are_counted_and_delivered_once() {
    let mut rig = rig();
    rig.wire.mistreat(|_, datagram| vec![datagram.to_vec(); 3]);
    let packet = Rig::packet(b"only once");
    rig.laptop.send(&packet).unwrap();
    let mut copies = 0;
    while rig
        .office
        .recv(Duration::from_millis(300))
        .is_ok_and(|arrived| arrived == packet)
    {
        copies += 1;
    }
    assert_eq!(copies, 1);
    rig.survives(DropReason::Replayed, |datagram| {
        vec![datagram.to_vec(), datagram.to_vec()]
    });
}

#[test]
fn reordered_datagrams_arrive_once_each() {
    let mut rig = rig();
    // One attack sees all directions: a datagram may only be overtaken on its own way, which the
    // receiver index names.
    let mut held: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    rig.wire.mistreat(move |_, datagram| {
        let way = datagram.get(4..8).unwrap_or_default().to_vec();
        match held.remove(&way) {
            Some(before) => vec![datagram.to_vec(), before],
            None => {
                held.insert(way, datagram.to_vec());
                Vec::new()
            }
        }
    });
    for n in 0..40 {
        rig.laptop.send(&Rig::packet(&[n])).unwrap();
    }
    let mut arrived = Vec::new();
    while let Ok(packet) = rig.office.recv(Duration::from_millis(300)) {
        arrived.extend(packet.last().copied().filter(|n| *n < 40));
    }
    let mut each = arrived.clone();
    each.sort_unstable();
    each.dedup();
    assert_eq!(
        each.len(),
        arrived.len(),
        "nothing arrives twice: {arrived:?}"
    );
    assert!(
        each.len() >= 38,
        "one may still be held on each path: {arrived:?}"
    );
    rig.wire.be_fair();
    rig.ping(b"after the disorder");
}

#[test]
fn oversized_datagrams_are_counted() {
    rig().survives(DropReason::Malformed, |datagram| {
        vec![vec![0x41; 60_000], datagram.to_vec()]
    });
}

#[test]
fn strangers_and_unknown_indices_are_counted() {
    let rig = rig();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let node = rig.wire.node;
    let mut packet = vec![0; 48];
    let counted = rig.dropped(DropReason::UnknownIndex);
    until("the strangers to be counted", || {
        for kind in 0..=16 {
            packet[0] = kind;
            stranger.send_to(&packet, node).unwrap();
        }
        rig.dropped(DropReason::UnknownIndex) > counted
    });
    let mut rig = rig;
    rig.ping(b"still alive");
}

#[test]
fn garbage_from_the_local_side_is_counted() {
    let mut rig = rig();
    let drops = |rig: &Rig, reason| {
        let report = rig.client.report().map(|report| report.what.session.drops);
        report
            .and_then(|drops| drops.get(&reason).copied())
            .unwrap_or(0)
    };
    let spoofed = udp_packet(
        "10.9.9.9:1".parse().unwrap(),
        "10.20.0.7:80".parse().unwrap(),
        b"spoofed",
    );
    for _ in 0..4 {
        rig.laptop.send(b"garbage").unwrap();
        rig.laptop.send(&[]).unwrap();
        rig.laptop.send(&[0x45; 12]).unwrap();
        rig.laptop.send(spoofed.as_ref().unwrap()).unwrap();
    }
    until("the garbage to be counted", || {
        drops(&rig, DropReason::Malformed) >= 8 && drops(&rig, DropReason::NotAllowedSource) == 4
    });
    rig.ping(b"still alive");
}
