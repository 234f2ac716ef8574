//! Records of what a node says.

use serde_json::{Value, json};
use vpnmesh_transport::node::{NodeEvent, Taken};

use super::Report;
use crate::role::Names;
use crate::role::json::{self, Fields, fields, millis};

/// The name and the fields of what the machine told.
pub(super) fn of_machine(event: &NodeEvent, names: &Names) -> (&'static str, Fields) {
    let (name, record) = match event {
        NodeEvent::SessionTaken {
            session,
            client,
            how,
        } => (
            "session_taken",
            json!({
                "session": session.to_string(),
                "client": names.client(*client),
                "how": match how {
                    Taken::Handshake => "handshake",
                    Taken::Planned => "planned",
                    Taken::Crash => "crash",
                },
            }),
        ),
        NodeEvent::SessionLeft { session, client } => (
            "session_left",
            json!({"session": session.to_string(), "client": names.client(*client)}),
        ),
        NodeEvent::ShadowsReady {
            session,
            generation,
            shadows,
        } => (
            "shadows_ready",
            json!({
                "session": session.to_string(),
                "generation": generation,
                "shadows": json::nodes(shadows, names),
            }),
        ),
        NodeEvent::ShiftFailed { session, to } => (
            "shift_failed",
            json!({"session": session.to_string(), "to": names.node(*to)}),
        ),
        NodeEvent::PeerSilent(peer) => ("peer_silent", json!({"peer": names.peer(*peer)})),
        NodeEvent::PeerConnected(peer) => ("peer_connected", json!({"peer": names.peer(*peer)})),
        NodeEvent::PeerHealth {
            from,
            load,
            risk,
            losses,
        } => {
            let losses = losses
                .iter()
                .map(|(node, loss)| (names.node(*node), json!(loss)));
            let losses: Value = losses.collect();
            (
                "peer_health",
                json!({"from": names.node(*from), "load": load, "risk": risk, "losses": losses}),
            )
        }
        NodeEvent::Membership(signed) => ("membership", json!({"bytes": signed.len()})),
        NodeEvent::IncarnationSeen(seen) => ("incarnation_seen", json!({"counter": seen})),
        NodeEvent::Report(_) => ("machine_report", json!({})),
    };
    (name, fields(record))
}

/// The fields of a report.
pub(super) fn of_report(report: &Report, names: &Names) -> Fields {
    let machine = &report.machine;
    let paths = machine
        .paths
        .iter()
        .map(|(peer, path)| (names.peer(*peer), json::path(path)));
    fields(json!({
        "sessions": machine.sessions,
        "covered": machine.covered,
        "shadowed": machine.shadowed,
        "staleness_ms": millis(machine.staleness),
        "paths": paths.collect::<Value>(),
        "forwarded": machine.forwarded,
        "forwarded_bytes": machine.forwarded_bytes,
        "drops": json::drops(&machine.drops),
        "lateness_ms": millis(machine.lateness),
        "io": json::io(&report.io),
    }))
}
