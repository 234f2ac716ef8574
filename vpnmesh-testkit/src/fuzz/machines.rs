//! Whole members against an authentic peer that says what it likes. The peer has shaken hands
//! before the list of operations begins, so what it says reaches everything behind the seal.

use vpnmesh_core::{NodeId, Ratio, SessionId, ShadowPolicy, Tier};
use vpnmesh_transport::client::{ClientCommand, ClientConfig, ClientMachine, ClientTimers};
use vpnmesh_transport::node::{NodeCommand, NodeConfig, NodeMachine, NodeTimers};
use vpnmesh_transport::site::{SiteCommand, SiteConfig, SiteMachine};
use vpnmesh_transport::station::Hello;
use vpnmesh_transport::trace::Sizes;
use vpnmesh_transport::tunnel::{TunnelCommand, TunnelConfig, TunnelMachine};
use vpnmesh_transport::{Cipher, Ciphers, Incarnation, Marking, Pq, Profile, SeededEntropy};

use super::insider::{Insider, session};
use super::members::{self, START, suite};
use super::script::Script;

const NODE: u64 = 1;
const CLIENT: u64 = 11;
const SITE: u64 = 21;
const LINK: Hello = Hello::Link { continues: false };

/// A node against one of its clients, another node, or a site; the first byte says which.
pub fn node(data: &[u8]) {
    let mut script = Script::new(data);
    let config = NodeConfig {
        station: members::station(NODE),
        shadows: ShadowPolicy::default(),
        timers: NodeTimers::default(),
    };
    let Ok(mut node) = NodeMachine::new(config, START) else {
        panic!("the membership names the node");
    };
    let insider = match script.byte() % 3 {
        0 => Insider::dial(&mut node, (CLIENT, NODE), session(CLIENT)),
        1 => Insider::dial(&mut node, (2, NODE), LINK),
        _ => Insider::dial(&mut node, (SITE, NODE), LINK),
    };
    let mut insider = insider.expect("a node answers its members");
    insider.drive(&mut node, &mut script, node_command, NodeMachine::sizes);
}

fn node_command(script: &mut Script<'_>) -> NodeCommand {
    match script.byte() % 6 {
        0 => NodeCommand::Report,
        1 => NodeCommand::SetShare {
            to: Some(NodeId(script.byte().into())).filter(|node| node.0 > 0),
            share: ratio(script.byte()),
        },
        2 => NodeCommand::SetHealth {
            load: ratio(script.byte()),
            risk: ratio(script.byte()),
        },
        3 => NodeCommand::Membership(script.text().to_vec()),
        4 => NodeCommand::Export {
            session: match session(CLIENT) {
                Hello::Session { session, .. } => session,
                Hello::Link { .. } | Hello::Receipts => SessionId([0; 16]),
            },
            seal_to: None,
        },
        _ => NodeCommand::Resumed {
            incarnation: next_life(script),
        },
    }
}

/// A client against its holder.
pub fn client(data: &[u8]) {
    let mut script = Script::new(data);
    let config = ClientConfig {
        station: members::station(CLIENT),
        tier: None,
        timers: ClientTimers::default(),
    };
    let Ok(mut client) = ClientMachine::new(config, START) else {
        panic!("the membership names the client");
    };
    let insider = Insider::serve(&mut client, CLIENT);
    let mut insider = insider.expect("a client dials a node");
    insider.drive(
        &mut client,
        &mut script,
        client_command,
        ClientMachine::sizes,
    );
}

fn client_command(script: &mut Script<'_>) -> ClientCommand {
    match script.byte() % 6 {
        0 => ClientCommand::Report,
        1 => ClientCommand::SetTier(match script.byte() % 4 {
            0 => None,
            1 => Some(Tier::Basic),
            2 => Some(Tier::Standard),
            _ => Some(Tier::Premium),
        }),
        2 => ClientCommand::Membership(script.text().to_vec()),
        3 => ClientCommand::Refresh,
        4 => ClientCommand::DropKeys,
        _ => ClientCommand::Resumed {
            incarnation: next_life(script),
        },
    }
}

/// A site against a node.
pub fn site(data: &[u8]) {
    let mut script = Script::new(data);
    let config = SiteConfig::new(members::station(SITE));
    let Ok(mut site) = SiteMachine::new(config, START) else {
        panic!("the membership names the site");
    };
    let insider = Insider::serve(&mut site, SITE);
    let mut insider = insider.expect("a site dials its nodes");
    insider.drive(&mut site, &mut script, site_command, SiteMachine::sizes);
}

fn site_command(script: &mut Script<'_>) -> SiteCommand {
    match script.byte() % 3 {
        0 => SiteCommand::Report,
        1 => SiteCommand::Membership(script.text().to_vec()),
        _ => SiteCommand::Resumed {
            incarnation: next_life(script),
        },
    }
}

/// One end of a tunnel against the other.
pub fn tunnel(data: &[u8]) {
    let mut script = Script::new(data);
    let config = TunnelConfig {
        suite: suite(),
        identity: members::identity(NODE),
        incarnation: members::life(NODE),
        entropy: Box::new(SeededEntropy::new(NODE)),
        profile: Profile::Standard,
        pq: Pq::Require,
        ciphers: Ciphers::of(&Cipher::ALL),
        peer: members::identity(CLIENT).public(),
        endpoint: Some(members::address(CLIENT)),
        allow: Vec::new(),
        marking: Marking::default(),
        exports: true,
        cadence: TunnelConfig::CADENCE,
    };
    let Ok(mut tunnel) = TunnelMachine::new(config, START) else {
        panic!("a tunnel starts with any keys");
    };
    let insider = Insider::dial(&mut tunnel, (CLIENT, NODE), LINK);
    let mut insider = insider.expect("a tunnel answers its peer");
    let command = |_: &mut Script<'_>| TunnelCommand::Report;
    insider.drive(&mut tunnel, &mut script, command, |_| Sizes::new());
}

fn ratio(byte: u8) -> Ratio {
    Ratio::saturating(f64::from(byte) / 255.0)
}

fn next_life(script: &mut Script<'_>) -> Incarnation {
    Incarnation {
        counter: 2 + u64::from(script.byte()),
        random: [script.byte(); 16],
    }
}
