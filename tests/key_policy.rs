//! The key policy of a client drives when fresh secrets are agreed on.
#![cfg(feature = "roles")]
#![allow(clippy::unwrap_used, reason = "all of it is test code")]

use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vpnmesh::core::{KeyDecision, KeyPolicy, KeyUsage, RotationCause, ThreatLevel};
use vpnmesh::provision::{ClientDescription, MeshDescription, NodeDescription, provision};
use vpnmesh::role::{Handle, client, node};
use vpnmesh::settings::FromFile;
use vpnmesh::transport::client::ClientEvent;
use vpnmesh::transport::io::ChannelIo;
use vpnmesh::{Endpoint, udp_packet};

struct Rig {
    client: Handle<client::Client>,
    laptop: Endpoint,
    _node: Handle<node::Node>,
    _state: TempDir,
}

/// A client of one node; its keys live as `change` sets it, or as `policy` says.
fn rig(change: impl FnOnce(&mut client::Settings), policy: Option<Box<dyn KeyPolicy>>) -> Rig {
    let state = tempfile::tempdir().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let description = MeshDescription {
        nodes: vec![NodeDescription {
            name: "n1".into(),
            region: "r".into(),
            address: socket.local_addr().unwrap(),
            active: true,
        }],
        clients: vec![ClientDescription {
            name: "laptop".into(),
            prefixes: vec!["10.9.0.1/32".parse().unwrap()],
            tier: Default::default(),
            tun: None,
        }],
        ..MeshDescription::default()
    };
    let mesh = provision(&description, &state.path().join("mesh")).unwrap();
    let settings = node::Settings::read(&mesh.node("n1").join("node.toml")).unwrap();
    let node = node::start_with(settings, Some(socket)).unwrap();
    let home = mesh.client("laptop");
    let mut settings = client::Settings::read(&home.join("client.toml")).unwrap();
    change(&mut settings);
    let (ours, theirs) = ChannelIo::pair(64).unwrap();
    let theirs = Some(Box::new(theirs) as _);
    let client = match policy {
        Some(policy) => client::start_with_policy(settings, theirs, policy),
        None => client::start_with(settings, theirs),
    };
    Rig {
        client: client.unwrap(),
        laptop: Endpoint::from(ours),
        _node: node,
        _state: state,
    }
}

impl Rig {
    /// Sends packets until the client tells what `wanted` looks for; all comes long before the
    /// transport's own two minutes.
    fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(client::Event) -> Option<T>) -> T {
        let (from, to) = ("10.9.0.1:5000", "10.20.0.7:80");
        let packet = udp_packet(from.parse().unwrap(), to.parse().unwrap(), &[7; 1000]).unwrap();
        let start = Instant::now();
        loop {
            let _full = self.laptop.send(&packet);
            if let Some(found) = self.client.events().try_iter().find_map(|e| wanted(e.what)) {
                return found;
            }
            let waited = start.elapsed();
            assert!(waited < Duration::from_secs(60), "{what} did not happen");
            thread::sleep(Duration::from_millis(2)); // polls; nothing depends on how long
        }
    }

    fn served(&mut self) -> RotationCause {
        self.until("keys that have served", |event| match event {
            client::Event::KeysServed(cause) => Some(cause),
            _ => None,
        })
    }

    fn refreshed(&mut self) -> u32 {
        self.until("fresh secrets", |event| match event {
            client::Event::Session(ClientEvent::Refreshed { generation }) => Some(generation),
            client::Event::Session(ClientEvent::Detached) => panic!("the session broke"),
            _ => None,
        })
    }
}

#[test]
fn old_keys_are_replaced_again_and_again() {
    let mut rig = rig(|settings| settings.keys.rotate_age_ms = Some(1000), None);
    let mut last = 0;
    for _ in 0..3 {
        assert_eq!(rig.served(), RotationCause::Age);
        let generation = rig.refreshed();
        assert!(generation > last);
        last = generation;
    }
}

#[test]
fn keys_that_sealed_much_are_replaced() {
    let mut rig = rig(|settings| settings.keys.rotate_bytes = Some(50_000), None);
    assert_eq!(rig.served(), RotationCause::Volume);
    rig.refreshed();
    assert_eq!(rig.served(), RotationCause::Volume);
    rig.refreshed();
}

/// Lets no key seal more than some packets.
#[derive(Debug)]
struct Strict;

impl KeyPolicy for Strict {
    fn decide(&self, usage: &KeyUsage, _: ThreatLevel) -> KeyDecision {
        if usage.packets >= 20 {
            let cause = RotationCause::Packets;
            return KeyDecision::Stop { cause };
        }
        let recheck = Duration::MAX;
        KeyDecision::Keep { recheck }
    }
}

#[test]
fn a_policy_of_ones_own_may_end_the_keys() {
    let mut rig = rig(|_| {}, Some(Box::new(Strict)));
    let cause = rig.until("the end of the keys", |event| match event {
        client::Event::KeysExpired(cause) => Some(cause),
        _ => None,
    });
    assert_eq!(cause, RotationCause::Packets);
    let mut detached = false;
    rig.until("another handshake", |event| match event {
        client::Event::Session(ClientEvent::Detached) => {
            detached = true;
            None
        }
        client::Event::Session(ClientEvent::Attached { generation, .. }) => {
            (detached && generation > 1).then_some(())
        }
        _ => None,
    });
}
