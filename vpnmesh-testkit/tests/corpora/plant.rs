//! The seeds of all targets.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use vpnmesh::control::{LogEntry, MeshCommand};
use vpnmesh::keys::{SignedMembership, SignedOrder, SigningKey};
use vpnmesh::provision::{
    ClientDescription, MeshDescription, NodeDescription, SiteDescription, provision,
};
use vpnmesh_core::{
    ClientId, NodeId, NodeState, Order, OrderKind, Ratio, Secret, SiteId, Tier, Timestamp, Version,
};
use vpnmesh_transport::Profile;
use vpnmesh_transport::frame::Frame;
use vpnmesh_transport::handshake::Load;
use vpnmesh_transport::message::{
    self, BranchBytes, ClientMessage, FromSite, HolderMessage, NodeMessage, RosterEntry, ToSite,
};
use vpnmesh_transport::outbox::Outbox;
use vpnmesh_transport::probe::{self, Prober};
use vpnmesh_transport::receipt::{Fence, Phase, Receipt, STATE_AGAIN, UNKNOWN_KEY, Way};
use vpnmesh_transport::station::Hello;
use vpnmesh_transport::stream::{Fragment, StreamAck};
use vpnmesh_transport::wire::{ActivateHead, Header, Kind, TAG};

use crate::scripts::Script;
use crate::values;

/// An input for a target.
pub(crate) struct Seed {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// All seeds, each with the name of its target.
pub(crate) fn seeds() -> Vec<(&'static str, Seed)> {
    let mut all = Vec::new();
    let mut plant = |target: &'static str, seeds: Vec<(&str, Vec<u8>)>| {
        all.extend(seeds.into_iter().map(|(name, bytes)| {
            let name = name.to_owned();
            (target, Seed { name, bytes })
        }));
    };
    plant("wire", wire());
    plant("frames", frames());
    plant("messages", messages());
    plant("receipts", receipts());
    plant("probes", probes());
    plant("membership", membership());
    plant("keys", keys());
    plant("log", log());
    plant("proc_files", proc_files());
    plant(
        "document_json",
        vec![("sealed", values::document().to_json().into_bytes())],
    );
    plant(
        "document_binary",
        vec![("sealed", values::document().to_bytes())],
    );
    let (sealed, key) = values::sealed();
    plant("sealed_values", vec![("value", sealed), ("key", key)]);
    plant("inner_packets", inner_packets());
    plant("device_packets", device_packets());
    plant("split", split());
    plant("mtu", vec![("search", mtu())]);
    plant("replay", vec![("counters", replay())]);
    plant("stream", vec![("messages", stream())]);
    plant("leg", vec![("packets", leg())]);
    plant("hellos", hellos());
    plant("answers", answers());
    plant("handshake", handshake());
    plant("node", node());
    plant("client", client());
    plant("site", site());
    plant("tunnel", vec![("peer", peer())]);
    plant("weights", vec![("none", b"vpnmesh-weights".to_vec())]);
    for (name, bytes) in settings() {
        all.push(("settings", Seed { name, bytes }));
    }
    all
}

fn wire() -> Vec<(&'static str, Vec<u8>)> {
    let kinds = [
        ("data", Kind::Data),
        ("control", Kind::Control),
        ("split", Kind::Split),
        ("activate", Kind::Activate),
    ];
    let head = ActivateHead {
        generation: 3,
        number: 9,
        nonce: [5; 16],
    };
    let seed = |(name, kind)| {
        let (index, counter) = (0x0102_0304, 77);
        let header = Header {
            kind,
            index,
            counter,
        };
        let bytes = [&header.encode()[..], &head.encode(), &[0; TAG]].concat();
        (name, bytes)
    };
    kinds.map(seed).into()
}

fn all_frames() -> Vec<u8> {
    let frames = [
        Frame::Ack,
        Frame::Ping(Timestamp(7)),
        Frame::Pong(Timestamp(8)),
        Frame::Fragment(Fragment {
            number: 0,
            last: true,
            bytes: b"message".to_vec().into(),
        }),
        Frame::StreamAck(StreamAck {
            wanted: 1,
            ahead: 5,
        }),
        Frame::Activated,
        Frame::MtuProbe {
            number: 3,
            padding: 20,
        },
        Frame::MtuReply(3),
    ];
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut bytes));
    bytes
}

fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let mut close = Vec::new();
    Frame::Close.encode(&mut close);
    vec![("all", all_frames()), ("close", close)]
}

fn roster_entry(node: u64) -> RosterEntry {
    RosterEntry {
        branch: node as u8,
        node: NodeId(node),
        key: values::identity(node).public(),
        address: values::address(node),
        incarnation: (1, [node as u8; 16]),
        index: 800,
    }
}

fn client_messages() -> Vec<(&'static str, ClientMessage)> {
    vec![
        (
            "report",
            ClientMessage::Report {
                tier: Some(Tier::Premium),
                membership: Version { term: 1, index: 1 },
                generation: 1,
                paths: vec![(NodeId(1), 9000), (NodeId(2), 40_000)],
            },
        ),
        (
            "root_reply",
            ClientMessage::RootReply {
                generation: 2,
                client_random: [4; 32],
            },
        ),
        (
            "to_site",
            ClientMessage::ToSite {
                site: SiteId(21),
                body: statement(Way::Statement),
            },
        ),
        (
            "leave",
            ClientMessage::Leave {
                number: 2,
                up_final: Some(7),
                sites: vec![SiteId(21)],
            },
        ),
        (
            "settled",
            ClientMessage::Settled {
                number: 2,
                proofs: Vec::new(),
            },
        ),
    ]
}

fn holder_messages() -> Vec<(&'static str, HolderMessage)> {
    vec![
        (
            "root_offer",
            HolderMessage::RootOffer {
                generation: 2,
                primary_random: [6; 32],
            },
        ),
        (
            "roster",
            HolderMessage::Roster {
                generation: 1,
                entries: vec![roster_entry(1), roster_entry(2), roster_entry(3)],
            },
        ),
        (
            "next_roster",
            HolderMessage::Roster {
                generation: 2,
                entries: vec![roster_entry(1), roster_entry(3)],
            },
        ),
        (
            "shift",
            HolderMessage::Shift {
                order: 1,
                to: NodeId(2),
                share: u16::MAX,
            },
        ),
        (
            "left",
            HolderMessage::Left {
                number: 2,
                down_final: Some(4),
            },
        ),
        (
            "unknown_key",
            HolderMessage::FromSite {
                site: SiteId(21),
                body: vec![UNKNOWN_KEY],
            },
        ),
        (
            "state_again",
            HolderMessage::FromSite {
                site: SiteId(22),
                body: vec![STATE_AGAIN],
            },
        ),
        (
            "membership",
            HolderMessage::Membership(values::signed(&values::membership(2))),
        ),
    ]
}

fn node_messages() -> Vec<(&'static str, NodeMessage)> {
    let record = values::record();
    vec![
        (
            "install",
            NodeMessage::Install {
                record: Box::new(record.clone()),
                branch: 1,
                secret: BranchBytes([3; 32]),
            },
        ),
        ("update", NodeMessage::Update(vec![record.clone()])),
        ("ended", NodeMessage::Ended(vec![record.session])),
        ("digest", NodeMessage::Digest { count: 1, sum: 9 }),
        ("buckets", NodeMessage::Buckets(vec![0; 256])),
        (
            "have",
            NodeMessage::Have {
                bucket: 7,
                sessions: vec![(record.session, 1, 41)],
            },
        ),
        ("want", NodeMessage::Want(vec![record.session])),
        ("lost", NodeMessage::Lost(vec![record.session])),
        (
            "health",
            NodeMessage::Health {
                load_permille: 300,
                risk_permille: 20,
                accepts: true,
                losses: vec![(NodeId(3), 5)],
                membership: Version { term: 1, index: 1 },
            },
        ),
    ]
}

fn to_site_messages() -> Vec<(&'static str, ToSite)> {
    vec![
        (
            "from_client",
            ToSite::FromClient {
                client: ClientId(11),
                body: statement(Way::Statement),
            },
        ),
        (
            "hello",
            ToSite::FromClient {
                client: ClientId(11),
                body: values::handshake(Profile::Standard, Load::Normal)
                    .0
                    .remove(0),
            },
        ),
        (
            "final_up",
            ToSite::FinalUp {
                client: ClientId(11),
                number: 2,
                counter: Some(9),
            },
        ),
    ]
}

fn messages() -> Vec<(&'static str, Vec<u8>)> {
    fn behind<M: serde::Serialize>(kind: u8, message: &M) -> Vec<u8> {
        [&[kind][..], &message::encode(message)].concat()
    }
    let mut all = Vec::new();
    all.extend(
        client_messages()
            .iter()
            .map(|(name, it)| (*name, behind(0, it))),
    );
    all.extend(
        holder_messages()
            .iter()
            .map(|(name, it)| (*name, behind(1, it))),
    );
    all.extend(
        node_messages()
            .iter()
            .map(|(name, it)| (*name, behind(2, it))),
    );
    all.extend(
        to_site_messages()
            .iter()
            .map(|(name, it)| (*name, behind(3, it))),
    );
    let left = FromSite::ClientLeft {
        client: ClientId(11),
        number: 2,
        down_final: Some(5),
    };
    all.push(("client_left", behind(4, &left)));
    all.push(("link", behind(5, &Hello::Link { continues: true })));
    all
}

fn statement(way: Way) -> Vec<u8> {
    let receipt = Receipt {
        client: ClientId(11),
        fence: Fence {
            incarnation: 1,
            generation: 1,
            number: 2,
        },
        phase: Phase::Shared,
        holder: NodeId(2),
        drained: Some(NodeId(1)),
    };
    receipt.seal(way, &Secret::take(&mut [7; 32]))
}

fn receipts() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("statement", statement(Way::Statement)),
        ("answer", statement(Way::Answer)),
    ]
}

fn probes() -> Vec<(&'static str, Vec<u8>)> {
    let start = Timestamp(5);
    let mut prober = Prober::new(Duration::from_secs(1), start);
    prober.follow(&values::membership(1));
    let mut out = Outbox::default();
    prober.flush(&mut out, start);
    let request = out.poll_transmit().unwrap().payload;
    let reply = probe::answer(&values::identity(1).public(), &request).unwrap();
    vec![("request", request), ("reply", reply.to_vec())]
}

fn root() -> SigningKey {
    SigningKey::from_seed(Secret::take(&mut [9; 32]))
}

fn membership() -> Vec<(&'static str, Vec<u8>)> {
    let list = values::membership(2);
    let order = Order {
        version: Version { term: 1, index: 3 },
        node: NodeId(2),
        kind: OrderKind::Remove,
        share: Ratio::ONE,
    };
    vec![
        ("bare", values::signed(&list)),
        ("signed", SignedMembership::sign(&list, &root()).to_bytes()),
        ("order", SignedOrder::sign(&order, &root()).to_bytes()),
    ]
}

fn keys() -> Vec<(&'static str, Vec<u8>)> {
    let root = root();
    let key = root.verifying_key();
    vec![
        ("text", key.to_text().into_bytes()),
        ("bytes", key.to_bytes()),
    ]
}

fn log() -> Vec<(&'static str, Vec<u8>)> {
    let list = values::membership(1);
    let commands = [
        MeshCommand::BeginTerm,
        MeshCommand::PutNode(list.nodes[0].clone()),
        MeshCommand::PutNode(list.nodes[2].clone()),
        MeshCommand::PutClient(list.clients[0].clone()),
        MeshCommand::PutSite(list.sites[0].clone()),
        MeshCommand::Started {
            node: NodeId(1),
            incarnation: 4,
            random: [2; 16],
        },
        MeshCommand::SetTier {
            client: ClientId(11),
            tier: Tier::Premium,
        },
        MeshCommand::Warm {
            node: NodeId(1),
            standby: NodeId(3),
        },
        MeshCommand::SetShare {
            node: NodeId(1),
            to: NodeId(3),
            share: Ratio::saturating(0.5),
        },
        MeshCommand::SetState {
            node: NodeId(1),
            state: NodeState::Removed,
            automatic: true,
        },
        MeshCommand::Forget(21),
    ];
    let entries = (1..).zip(commands).map(|(index, command)| LogEntry {
        version: Version { term: 1, index },
        command,
    });
    let bytes = entries.flat_map(|entry| postcard::to_stdvec(&entry).unwrap());
    vec![("commands", bytes.collect())]
}

fn proc_files() -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        (
            "stat",
            text("cpu  10 2 3 100 5 0 1 0 0 0\ncpu0 1\0cpu  20 2 6 150 9 0 1 0 0 0\n"),
        ),
        ("meminfo", text("MemTotal: 1000 kB\nMemAvailable: 300 kB\n")),
        ("loadavg", text("0.61 0.40 0.31 2/77 4321\n")),
        ("pressure", text("some avg10=0.00 avg60=0.12 total=4711\n")),
        ("schedstat", text("100 20 3\0" /* then later */)),
        (
            "process",
            text("42 (a b) c) S 1 42 42 0 -1 0 0 0 0 0 17 9 0 0 20 0 1 0 5\n"),
        ),
    ]
}

fn inner_packets() -> Vec<(&'static str, Vec<u8>)> {
    let long = [7; 900];
    vec![
        ("udp", values::packet(b"hello")),
        (
            "udp_unfinished",
            values::unfinished(values::packet(b"hello")),
        ),
        (
            "udp_super",
            values::super_packet(&values::packet(&long), 300),
        ),
        ("tcp_v6", values::tcp_v6(b"hello")),
        (
            "tcp_v6_super",
            values::super_packet(&values::tcp_v6(&long), 256),
        ),
    ]
}

/// The header that a device writes in front of a packet.
fn device_head(unfinished: bool, gso_type: u8, words: [u16; 4]) -> Vec<u8> {
    let mut head = vec![u8::from(unfinished), gso_type];
    words
        .iter()
        .for_each(|word| head.extend(word.to_ne_bytes()));
    head
}

fn device_packets() -> Vec<(&'static str, Vec<u8>)> {
    let with = |head: Vec<u8>, packet: Vec<u8>| [head, packet].concat();
    let long = [7; 900];
    vec![
        (
            "complete",
            with(device_head(false, 0, [0; 4]), values::packet(b"hello")),
        ),
        (
            "checksum",
            with(
                device_head(true, 0, [28, 0, 20, 6]),
                values::packet(b"hello"),
            ),
        ),
        (
            "udp_segments",
            with(
                device_head(true, 5, [28, 300, 20, 6]),
                values::packet(&long),
            ),
        ),
        (
            "tcp_segments",
            with(
                device_head(true, 4, [60, 256, 40, 16]),
                values::tcp_v6(&long),
            ),
        ),
    ]
}

fn split() -> Vec<(&'static str, Vec<u8>)> {
    let whole = Script::default().byte(1).short(1232).text(&[5; 1400]);
    let swapped = whole.clone().byte(2).short(1232).text(&[6; 1300]);
    let hostile = swapped.clone().byte(0).text(&[0, 0, 1, 0, 9, 9]);
    vec![("halves", swapped.0), ("hostile", hostile.0)]
}

fn mtu() -> Vec<u8> {
    let mut script = Script::default().byte(220).byte(0).short(1452);
    for _ in 0..6 {
        script = script
            .byte(4)
            .short(100)
            .byte(1)
            .byte(4)
            .short(6000)
            .byte(0)
            .short(1400);
    }
    script.byte(5).short(700).byte(0).short(1452).0
}

fn replay() -> Vec<u8> {
    let script = Script::default()
        .byte(0)
        .long(0)
        .byte(1)
        .short(1)
        .byte(1)
        .short(70);
    let script = script
        .byte(2)
        .short(69)
        .byte(3)
        .byte(70)
        .byte(1)
        .short(3000);
    script
        .byte(2)
        .short(2048)
        .byte(2)
        .short(2049)
        .byte(0)
        .long(1 << 60)
        .0
}

fn stream() -> Vec<u8> {
    let mut script = Script::default()
        .byte(0)
        .text(b"one")
        .byte(0)
        .text(&[2; 2500]);
    for _ in 0..5 {
        script = script.byte(1).byte(3).byte(2).byte(5).byte(6);
    }
    script
        .byte(7)
        .byte(60)
        .short(9)
        .byte(0)
        .text(b"made up")
        .long(3)
        .0
}

fn leg() -> Vec<u8> {
    let mut script = Script::default();
    for round in 0..4_u8 {
        let side = (round & 1) << 7;
        // Which of nine operations a byte means depends on the side bit too: 128 is 2 modulo 9.
        let op = |what: u8| {
            (0..=127)
                .map(|low| side | low)
                .find(|it| it % 9 == what)
                .unwrap()
        };
        script = script.byte(op(0)).text(&values::packet(b"in a leg"));
        script = script.byte(op(1)).text(b"a message");
        script = script
            .byte(op(2))
            .byte(0)
            .byte(op(3))
            .byte(0)
            .byte(op(2))
            .byte(0);
        script = script.byte(op(5)).byte(0).short(20).byte(3);
        script = script
            .byte(op(6))
            .short(300)
            .byte(op(7))
            .byte(op(2))
            .byte(0);
    }
    script.0
}

fn hellos() -> Vec<(&'static str, Vec<u8>)> {
    let profiles = [
        ("standard", Profile::Standard, 0),
        ("high", Profile::High, 0),
        ("under_load", Profile::Standard, 1),
    ];
    let seed = |(name, profile, load): (&'static str, Profile, u8)| {
        let (flight, _) = values::handshake(profile, Load::Normal);
        let start = Script::default().byte(load);
        let script = flight
            .iter()
            .fold(start, |script, datagram| script.text(datagram));
        (name, script.0)
    };
    profiles.map(seed).into()
}

fn answers() -> Vec<(&'static str, Vec<u8>)> {
    let cases = [
        ("standard", 1, Profile::Standard, Load::Normal),
        ("high", 2, Profile::High, Load::Normal),
        ("refusal", 0, Profile::Light, Load::Normal),
        ("cookie", 1, Profile::Standard, Load::Heavy),
    ];
    let seed = |(name, code, profile, load): (&'static str, u8, Profile, Load)| {
        let (_, replies) = values::handshake(profile, load);
        let start = Script::default().byte(code);
        let script = replies
            .iter()
            .fold(start, |script, reply| script.text(reply));
        (name, script.0)
    };
    cases.map(seed).into()
}

fn handshake() -> Vec<(&'static str, Vec<u8>)> {
    let plain = vec![0, 1, 1, 0, 1, 0, 1, 0];
    let high = vec![0, 2, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0];
    let repeated = vec![0, 1, 2, 0, 1, 0, 1, 0, 5, 0xfa, 0, 1, 0, 1, 0, 1, 0];
    let changed = vec![0, 1, 4, 0, 40, 0, 11, 1, 0, 1, 0, 0, 1, 1, 0, 1, 0, 1, 0];
    let loaded = vec![
        6, 0, 1, 1, 0, 1, 0, 1, 0, 5, 0xfa, 0, 0, 1, 1, 0, 1, 0, 1, 0,
    ];
    vec![
        ("plain", plain),
        ("high", high),
        ("repeated", repeated),
        ("changed", changed),
        ("loaded", loaded),
    ]
}

/// What any peer may do: junk, frames, packets, silence, local packets, reports.
fn common(script: Script, ours: &[u8], theirs: &[u8]) -> Script {
    let script = script.byte(4).text(ours).byte(3).text(&all_frames());
    let script = script
        .byte(6)
        .text(theirs)
        .byte(7)
        .short(30)
        .byte(8)
        .byte(0);
    let script = script
        .byte(0)
        .text(&[1; 60])
        .byte(1)
        .byte(3)
        .text(&[0x10; 40]);
    script
        .byte(5)
        .text(&[0, 0, 0, 0, 0x45, 0])
        .byte(7)
        .short(700)
}

fn say(script: Script, message: &impl serde::Serialize) -> Script {
    script.byte(2).text(&message::encode(message))
}

fn node() -> Vec<(&'static str, Vec<u8>)> {
    let (up, down) = (values::packet(b"up"), values::reply(b"down"));
    let as_client = common(Script::default().byte(0), &up, &down);
    let as_client = client_messages().iter().fold(as_client, |script, (_, it)| {
        say(script, it).byte(7).short(20)
    });
    let as_node = common(Script::default().byte(1), &up, &down);
    let as_node = node_messages()
        .iter()
        .fold(as_node, |script, (_, it)| say(script, it).byte(7).short(20));
    let as_site = common(Script::default().byte(2), &down, &up);
    let left = FromSite::ClientLeft {
        client: ClientId(11),
        number: 2,
        down_final: None,
    };
    let to_client = FromSite::ToClient {
        client: ClientId(11),
        body: statement(Way::Answer),
    };
    let as_site = say(say(as_site, &left), &to_client);
    let drained = as_client
        .clone()
        .byte(8)
        .byte(1)
        .byte(2)
        .byte(255)
        .byte(7)
        .short(500);
    let resumed = drained
        .clone()
        .byte(8)
        .byte(5)
        .byte(1)
        .byte(9)
        .byte(7)
        .short(900);
    vec![
        ("client", as_client.0),
        ("node", as_node.0),
        ("site", as_site.0),
        ("drained", drained.0),
        ("resumed", resumed.0),
    ]
}

fn client() -> Vec<(&'static str, Vec<u8>)> {
    let (up, down) = (values::packet(b"up"), values::reply(b"down"));
    let holder = common(Script::default(), &down, &up);
    let holder = holder_messages()
        .iter()
        .fold(holder, |script, (_, it)| say(script, it).byte(7).short(20));
    let silent = holder
        .clone()
        .byte(6)
        .text(&up)
        .byte(7)
        .short(2000)
        .byte(7)
        .short(2000);
    let dropped = holder.clone().byte(8).byte(4).byte(7).short(900);
    vec![
        ("holder", holder.0),
        ("silent", silent.0),
        ("dropped", dropped.0),
    ]
}

fn site() -> Vec<(&'static str, Vec<u8>)> {
    let (up, down) = (values::packet(b"up"), values::reply(b"down"));
    let node = common(Script::default(), &up, &down);
    let node = to_site_messages()
        .iter()
        .fold(node, |script, (_, it)| say(script, it).byte(7).short(20));
    let later = ToSite::Membership(values::signed(&values::membership(2)));
    let adopted = say(node.clone(), &later).byte(7).short(900);
    vec![("node", node.0), ("adopted", adopted.0)]
}

fn peer() -> Vec<u8> {
    let (up, down) = (values::packet(b"up"), values::reply(b"down"));
    common(Script::default(), &up, &down)
        .byte(7)
        .short(20_000)
        .byte(7)
        .short(20_000)
        .0
}

/// The files that provisioning writes, and a description of a mesh.
fn settings() -> Vec<(String, Vec<u8>)> {
    let description = MeshDescription {
        controller: Some(SocketAddr::from(([192, 0, 2, 1], 7443))),
        nodes: vec![NodeDescription {
            name: "n1".into(),
            region: "west".into(),
            address: values::address(1),
            active: true,
        }],
        clients: vec![ClientDescription {
            name: "laptop".into(),
            prefixes: vec!["10.9.0.1/32".parse().unwrap()],
            tier: Tier::Standard,
            tun: Some("tun0".into()),
        }],
        sites: vec![SiteDescription {
            name: "office".into(),
            region: "west".into(),
            prefixes: vec!["10.20.0.0/24".parse().unwrap()],
            tun: None,
            addresses: Vec::new(),
        }],
        ..MeshDescription::default()
    };
    let state = tempfile::tempdir().unwrap();
    let mesh = provision(&description, &state.path().join("mesh")).unwrap();
    let file = |kind: u8, path: &Path| [&[kind][..], &fs::read(path).unwrap()].concat();
    let json = serde_json::to_vec(&description).unwrap();
    let peer = vpnmesh_peer();
    vec![
        (
            "client".into(),
            file(0, &mesh.client("laptop").join("client.toml")),
        ),
        (
            "site".into(),
            file(1, &mesh.site("office").join("site.toml")),
        ),
        ("node".into(), file(2, &mesh.node("n1").join("node.toml"))),
        (
            "controller".into(),
            file(3, &mesh.controller().join("controller.toml")),
        ),
        ("mesh_json".into(), [&[0x80 + 2][..], &json].concat()),
        ("peer".into(), [&[5][..], peer.as_bytes()].concat()),
        (
            "keys".into(),
            [&[5][..], b"rotate_age_ms = 60000\nstop_age_ms = 120000\n"].concat(),
        ),
    ]
}

/// A peer as the command line names it.
fn vpnmesh_peer() -> String {
    format!("{}@198.51.100.1:4500", "A".repeat(43) + "=")
}
