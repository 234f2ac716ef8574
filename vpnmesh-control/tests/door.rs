//! Who gets in at the controller's door, and what the others are told.

#![allow(clippy::unwrap_used)] // in helpers of tests

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use common::{agent, anywhere, controller, is_refused, link, start};
use vpnmesh_control::pki::{Credentials, MeshCa, Role};
use vpnmesh_control::{
    AdminClient, Agent, AgentConfig, Change, Controller, ControllerConfig, ControllerParts, Error,
    Hello, Link,
};
use vpnmesh_core::NodeId;

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_told_why_they_stay_outside() {
    let directory = tempfile::tempdir().unwrap();
    let ca = MeshCa::generate("home").unwrap();
    let other = MeshCa::generate("away").unwrap();
    let controller = controller(&ca, directory.path(), anywhere()).await;
    let address = controller.address();

    let stranger = agent(other.issue(Role::Node, "n1").unwrap(), address, 1);
    is_refused(
        &stranger,
        "that is no controller of this mesh: its certificate is of another CA",
    )
    .await;

    let half_stranger = Credentials {
        ca_pem: ca.cert_pem().to_owned(),
        ..other.issue(Role::Node, "n1").unwrap()
    };
    is_refused(
        &agent(half_stranger, address, 1),
        "the controller does not know this certificate: it is of another mesh",
    )
    .await;

    let unknown = agent(ca.issue(Role::Node, "n9").unwrap(), address, 1);
    is_refused(&unknown, "n9 is no node of this mesh; let it join first").await;

    let admin = agent(ca.issue(Role::Admin, "n1").unwrap(), address, 1);
    is_refused(
        &admin,
        "only a node may do that; this certificate is vpnmesh://admin/n1",
    )
    .await;

    let well_known = agent(ca.issue(Role::Node, "n1").unwrap(), address, 1);
    link(&well_known, Link::is_up).await;
    let status = controller.status().await.unwrap();
    assert!(status.counters.refused_sessions >= 1);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_cannot_pass_for_another_nor_for_an_administrator_or_controller() {
    let directory = tempfile::tempdir().unwrap();
    let ca = MeshCa::generate("home").unwrap();
    let controller = controller(&ca, directory.path(), anywhere()).await;
    let address = controller.address();
    let n2 = ca.issue(Role::Node, "n2").unwrap();

    let config = AgentConfig {
        name: "n1".into(),
        controllers: vec![address],
        ..AgentConfig::default()
    };
    let masked = Agent::start(config, n2.clone(), Hello::default()).unwrap();
    is_refused(
        &masked,
        "the agent calls itself n1, but its certificate is that of n2",
    )
    .await;

    let mut climber = AdminClient::connect(address, &n2).await.unwrap();
    let refused = climber.change(Change::Remove(NodeId(1))).await.unwrap_err();
    let reason = "only an administrator may do that; this certificate is vpnmesh://node/n2";
    assert_eq!(
        refused.to_string(),
        format!("the controller refused: {reason}")
    );

    let usurper_home = tempfile::tempdir().unwrap();
    let usurper = start(n2, usurper_home.path(), anywhere()).await;
    let fooled = agent(ca.issue(Role::Node, "n1").unwrap(), usurper.address(), 1);
    is_refused(
        &fooled,
        "that is a member of this mesh, but not its controller",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_sees_explains_and_changes() {
    let directory = tempfile::tempdir().unwrap();
    let ca = MeshCa::generate("home").unwrap();
    let controller = controller(&ca, directory.path(), anywhere()).await;
    let credentials = ca.issue(Role::Admin, "ada").unwrap();
    let mut admin = AdminClient::connect(controller.address(), &credentials)
        .await
        .unwrap();
    let before = admin.status().await.unwrap();
    assert_eq!(before.nodes.len(), 3);
    let changed = admin.change(Change::Hold(NodeId(1))).await.unwrap();
    assert!(changed.version > before.version);
    assert!(
        admin.status().await.unwrap().nodes[0]
            .engine
            .as_ref()
            .unwrap()
            .held
    );
    admin.change(Change::Freeze).await.unwrap();
    assert!(admin.status().await.unwrap().frozen);
    assert!(!admin.explain(None, 0).await.unwrap().is_empty());
    let refused = admin.change(Change::Drain(NodeId(77))).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the controller refused: no member has id 4d"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_port_disturbs_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let ca = MeshCa::generate("home").unwrap();
    let controller = controller(&ca, directory.path(), anywhere()).await;
    let address = controller.address();
    let silent = TcpStream::connect(address).unwrap(); // says nothing, for as long as it may
    let told = tokio::task::spawn_blocking(move || {
        for garbage in [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            vec![0xff; 70_000],
            vec![22, 3, 1, 0, 1],
        ] {
            let mut stream = TcpStream::connect(address).unwrap();
            let _ = stream.write_all(&garbage); // it may be cut off in the middle
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer); // returns: the connection is closed
            assert!(answer.len() < 100, "at most an alert");
        }
        no_certificate(address, &MeshCa::generate("x").unwrap())
    });
    assert!(told.await.unwrap().contains("UnknownIssuer"));
    let well_known = agent(ca.issue(Role::Node, "n1").unwrap(), address, 1);
    link(&well_known, Link::is_up).await;
    let told = tokio::task::spawn_blocking(move || no_certificate(address, &ca))
        .await
        .unwrap();
    assert!(told.contains("CertificateRequired"), "{told}");
    drop(silent);
    controller.stop().await;
}

/// What a client without any certificate is told.
fn no_certificate(address: std::net::SocketAddr, ca: &MeshCa) -> String {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};

    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.cert_pem().as_bytes()).unwrap())
        .unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider().into();
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = vpnmesh_control::pki::CONTROLLER.try_into().unwrap();
    let mut tls = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    let mut stream = rustls::Stream::new(&mut tls, &mut socket);
    let refused = stream
        .write_all(b"hello")
        .and_then(|()| stream.read_to_end(&mut Vec::new()));
    if let Some(group) = tls.negotiated_key_exchange_group() {
        assert_eq!(
            group.name(),
            rustls::NamedGroup::X25519MLKEM768,
            "post-quantum by default"
        );
    }
    refused.unwrap_err().to_string()
}

#[tokio::test]
async fn a_port_in_use_and_foreign_certificates_are_named_before_anything_runs() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ca = MeshCa::generate("home").unwrap();
    let attempt = |listen, credentials| {
        let config = ControllerConfig {
            listen,
            directory: None,
            ..ControllerConfig::default()
        };
        let parts = ControllerParts {
            credentials,
            signer: Arc::new(common::Scribe),
            predictor: Box::new(vpnmesh_core::ThresholdPredictor::default()),
            founding: common::founding(),
        };
        Controller::start(config, parts)
    };
    let address = taken.local_addr().unwrap();
    let refused = attempt(address, ca.issue(Role::Controller, "k1").unwrap())
        .await
        .unwrap_err();
    assert!(matches!(refused, Error::Bind { .. }));
    let way_out = "the port is in use; stop the other program or choose another port";
    assert_eq!(
        refused.to_string(),
        format!("cannot listen on {address}: {way_out}")
    );

    let mut mixed = ca.issue(Role::Controller, "k1").unwrap();
    mixed.key_pem = ca.issue(Role::Controller, "k2").unwrap().key_pem;
    let refused = attempt(anywhere(), mixed).await.unwrap_err();
    assert!(matches!(refused, Error::Credentials { .. }));
}
