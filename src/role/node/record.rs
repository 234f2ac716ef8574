//! Records of what a node says.

use serde_json::{Value, json};
use vpnmesh_control::{ControllerOrder, Link};
use vpnmesh_core::{Decision, Record};
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
        NodeEvent::Exported { session, document } => (
            "exported",
            json!({"session": session.to_string(), "document": document}),
        ),
    };
    (name, fields(record))
}

/// What the node decided by itself, and what followed.
pub(super) fn of_own(record: &Record) -> (&'static str, Fields) {
    match record {
        Record::Decided(Decision::Acted(kind), cause) => (
            "decided",
            fields(
                json!({"action": kind, "cause": cause, "text": format!("{kind}, because {cause}")}),
            ),
        ),
        Record::Decided(Decision::Held { share }, cause) => (
            "held",
            fields(
                json!({"share": share, "cause": cause, "text": format!("hold at {share}, because {cause}")}),
            ),
        ),
        Record::Decided(Decision::Declined(refusal), cause) => (
            "declined",
            fields(
                json!({"refusal": refusal, "cause": cause, "text": format!("nothing, as {refusal}")}),
            ),
        ),
        Record::Followed(kind) => (
            "followed",
            fields(json!({"outcome": kind, "text": kind.to_string()})),
        ),
    }
}

/// Where the line to the controller stands.
pub(super) fn of_link(link: &Link) -> (&'static str, Fields) {
    let (name, record) = match link {
        Link::Down { attempts, reason } => (
            "controller_down",
            json!({"attempts": attempts, "reason": reason}),
        ),
        Link::Up {
            controller,
            session,
        } => (
            "controller_up",
            json!({"address": controller, "session": session}),
        ),
        Link::Refused {
            reason,
            seen_incarnation,
        } => (
            "controller_refused",
            json!({"reason": reason, "seen_incarnation": seen_incarnation}),
        ),
    };
    (name, fields(record))
}

/// What the controller ordered.
pub(super) fn of_order(order: &ControllerOrder, names: &Names) -> (&'static str, Fields) {
    let (name, record) = match order {
        ControllerOrder::Membership { version, .. } => {
            ("order_membership", json!({"version": version}))
        }
        ControllerOrder::Signed { order, .. } => (
            "order_signed",
            json!({
                "version": order.version,
                "node": names.node(order.node),
                "kind": order.kind,
                "share": order.share,
            }),
        ),
        ControllerOrder::Warm {
            version,
            node,
            standby,
        } => (
            "order_warm",
            json!({"version": version, "node": names.node(*node), "standby": names.node(*standby)}),
        ),
        ControllerOrder::Release {
            version,
            node,
            standby,
        } => (
            "order_release",
            json!({"version": version, "node": names.node(*node), "standby": names.node(*standby)}),
        ),
        ControllerOrder::SetShare {
            version,
            node,
            to,
            share,
        } => (
            "order_set_share",
            json!({
                "version": version,
                "node": names.node(*node),
                "to": names.node(*to),
                "share": share,
            }),
        ),
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
        "membership": machine.membership,
        "drops": json::drops(&machine.drops),
        "lateness_ms": millis(machine.lateness),
        "io": json::io(&report.io),
        "cpu": report.sample.cpu,
        "risk": report.forecast.as_ref().map(|forecast| forecast.probability),
        "lead_ms": report.forecast.as_ref().and_then(|f| f.lead).map(millis),
        "evidence": report.forecast.as_ref().map(|f| {
            f.evidence.iter().map(|e| json!({"metric": e.metric, "value": e.value, "contribution": e.contribution})).collect::<Vec<_>>()
        }),
        "handover": report.handover,
        "controller": report.controller,
    }))
}
