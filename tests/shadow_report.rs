//! A primary whose packets one of its shadows loses hands over by itself.
#![cfg(feature = "roles")]
#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod wire;

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use vpnmesh::Endpoint;
use vpnmesh::core::{ActionKind, Decision, Record};
use vpnmesh::provision::{ClientDescription, MeshDescription, NodeDescription, provision};
use vpnmesh::role::{Handle, client, node};
use vpnmesh::settings::{CpuSource, FailoverSettings, FromFile};
use vpnmesh::transport::client::ClientEvent;
use vpnmesh::transport::io::ChannelIo;
use wire::Wire;

/// A node, the wire in front of it, and the address that it speaks from.
struct Member {
    node: Handle<node::Node>,
    wire: Wire,
    speaks_from: SocketAddr,
}

fn description(fronts: &[UdpSocket]) -> MeshDescription {
    let node = |(n, front): (usize, &UdpSocket)| NodeDescription {
        name: format!("n{}", n + 1),
        region: format!("r{n}"),
        address: front.local_addr().unwrap(),
        active: true,
    };
    MeshDescription {
        nodes: fronts.iter().enumerate().map(node).collect(),
        clients: vec![ClientDescription {
            name: "laptop".into(),
            prefixes: vec!["10.9.0.1/32".parse().unwrap()],
            tier: Default::default(),
            tun: None,
        }],
        failover: FailoverSettings {
            step_interval_ms: 100,
            ..FailoverSettings::default()
        },
        cpu: CpuSource::Process,
        ..MeshDescription::default()
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        let waited = start.elapsed();
        assert!(waited < Duration::from_secs(60), "{what} did not happen");
        thread::sleep(Duration::from_millis(2)); // polls; nothing depends on how long
    }
}

/// Two of five datagrams between this wire's node and `peer` are lost.
fn lose(wire: &Wire, peer: SocketAddr) {
    let mut count = 0;
    wire.mistreat(move |from, datagram| {
        count += u32::from(from == peer);
        let lost = from == peer && count % 5 < 2;
        if lost {
            Vec::new()
        } else {
            vec![datagram.to_vec()]
        }
    });
}

#[test]
fn one_shadow_that_loses_packets_for_long_starts_a_handover_to_the_other_one() {
    let state = tempfile::tempdir().unwrap();
    let socket = || UdpSocket::bind("127.0.0.1:0").unwrap();
    // Of three paths one may be bad before the node expects to fail itself.
    let fronts: Vec<UdpSocket> = (0..4).map(|_| socket()).collect();
    let mesh = provision(&description(&fronts), &state.path().join("mesh")).unwrap();
    let start = |(n, front): (usize, UdpSocket)| {
        let behind = socket();
        let speaks_from = behind.local_addr().unwrap();
        let home = mesh.node(&format!("n{}", n + 1));
        let settings = node::Settings::read(&home.join("node.toml")).unwrap();
        Member {
            node: node::start_with(settings, Some(behind)).unwrap(),
            wire: Wire::new(front, speaks_from),
            speaks_from,
        }
    };
    let members: Vec<Member> = fronts.into_iter().enumerate().map(start).collect();
    let (ours, theirs) = ChannelIo::pair(64).unwrap();
    let settings = client::Settings::read(&mesh.client("laptop").join("client.toml")).unwrap();
    let client = client::start_with(settings, Some(Box::new(theirs))).unwrap();
    let _laptop = Endpoint::from(ours);

    let (holder, roster) = until("a protected session", || {
        let session = client.report()?.what.session;
        let whole = session.roster.len() == 3; // the holder counts
        Some((session.active?, session.roster)).filter(|_| whole)
    });
    let mut shadows = roster.into_iter().filter(|node| *node != holder);
    let (bad, good) = (shadows.next().unwrap(), shadows.next().unwrap());
    let member = |node| {
        let name = client.names().node(node);
        let mut all = members.iter();
        all.find(|member| member.node.name() == name).unwrap()
    };
    lose(&member(holder).wire, member(bad).speaks_from);
    lose(&member(bad).wire, member(holder).speaks_from);

    let moved = until("a planned move", || {
        match client.events().try_recv().ok()?.what {
            client::Event::Session(ClientEvent::Moved { from, to, .. }) => Some((from, to)),
            client::Event::Session(ClientEvent::TakenOver { .. }) => panic!("nobody fell silent"),
            _ => None,
        }
    });
    assert_eq!(moved, (holder, good));
    let why = until("the reason", || {
        match member(holder).node.events().try_recv().ok()?.what {
            node::Event::Own(Record::Decided(
                Decision::Acted(ActionKind::WarmStandby { .. }),
                cause,
            )) => Some(cause.to_string()),
            _ => None,
        }
    });
    assert!(why.contains("report"), "{why}");
}
