//! A session of a live node in the standard form, taken over by another program of that node.
#![cfg(feature = "roles")]
#![allow(clippy::unwrap_used, reason = "all of it is test code")]

use std::net::UdpSocket;
use std::time::Duration;

use vpnmesh::core::{NodeId, SessionId};
use vpnmesh::provision::{ClientDescription, MeshDescription, NodeDescription, provision};
use vpnmesh::role::{Handle, client, node};
use vpnmesh::settings::FromFile;
use vpnmesh::transport::OsEntropy;
use vpnmesh::transport::io::ChannelIo;
use vpnmesh::transport::node::{NodeCommand, NodeEvent};
use vpnmesh::transport::record::{SealingIdentity, SessionDocument};

fn next<T>(node: &Handle<node::Node>, mut wanted: impl FnMut(NodeEvent) -> Option<T>) -> T {
    loop {
        let event = node.events().recv_timeout(Duration::from_secs(60));
        if let node::Event::Machine(event) = event.unwrap().what
            && let Some(found) = wanted(event)
        {
            return found;
        }
    }
}

fn exported(
    node: &Handle<node::Node>,
    session: SessionId,
    esp: Option<&SealingIdentity>,
) -> Option<SessionDocument> {
    let seal_to = esp.map(|esp| Box::new(esp.public()));
    let command = NodeCommand::Export { session, seal_to };
    node.command(command).unwrap();
    next(node, |event| match event {
        NodeEvent::Exported { document, .. } => Some(document.map(|document| *document)),
        _ => None,
    })
}

#[test]
fn a_session_is_exported_with_its_secrets_for_the_nodes_own_data_plane_alone() {
    let state = tempfile::tempdir().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let description = MeshDescription {
        nodes: vec![NodeDescription {
            name: "n1".into(),
            region: "r".into(),
            address,
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
    let settings = client::Settings::read(&mesh.client("laptop").join("client.toml")).unwrap();
    let (_ours, theirs) = ChannelIo::pair(64).unwrap();
    let _client = client::start_with(settings, Some(Box::new(theirs))).unwrap();
    let session = next(&node, |event| match event {
        NodeEvent::SessionTaken { session, .. } => Some(session),
        _ => None,
    });

    let plain = exported(&node, session, None).unwrap();
    assert_eq!(plain.session_id, session);
    assert_eq!(plain.client_internal_ip.to_string(), "10.9.0.1");
    assert_eq!(plain.port_data.server_port, address.port());
    assert_eq!(plain.crypto_params.shared_secret, None);
    let read = SessionDocument::from_json(plain.to_json().as_bytes()).unwrap();
    assert_eq!(read, plain);

    let mut entropy = OsEntropy::new().unwrap();
    let own = SealingIdentity::generate(plain.vpnmesh.holder, &mut entropy);
    let sealed = exported(&node, session, Some(&own)).unwrap().to_json();
    let sealed = SessionDocument::from_json(sealed.as_bytes()).unwrap();
    sealed.open(&own).unwrap();
    let thief = SealingIdentity::generate(plain.vpnmesh.holder, &mut entropy);
    sealed.open(&thief).unwrap_err();

    let other = SealingIdentity::generate(NodeId(99), &mut entropy);
    assert_eq!(exported(&node, session, Some(&other)), None);
    assert_eq!(exported(&node, SessionId([0; 16]), None), None);
}
