//! Records of what roles say: names in snake case, times in milliseconds, shares in 0 to 1.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use vpnmesh_core::{NodeId, Timestamp};
use vpnmesh_transport::DropReason;
use vpnmesh_transport::io::IoCounters;
use vpnmesh_transport::path::PathFigures;

use super::Names;

/// The fields of a record.
pub(super) type Fields = Map<String, Value>;

/// The fields of an object literal.
pub(super) fn fields(object: Value) -> Fields {
    match object {
        Value::Object(fields) => fields,
        other => Map::from_iter([("value".to_owned(), other)]),
    }
}

pub(super) fn millis(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}

pub(super) fn path(figures: &PathFigures) -> Value {
    json!({
        "rtt_ms": figures.rtt.map(millis),
        "deviation_ms": millis(figures.deviation),
        "lowest_ms": figures.lowest.map(millis),
        "loss": figures.loss,
        "heard_t_ns": figures.last_heard.map(|Timestamp(ns)| ns),
    })
}

pub(super) fn drops(drops: &BTreeMap<DropReason, u64>) -> Value {
    drops
        .iter()
        .map(|(reason, count)| (reason.name().to_owned(), json!(count)))
        .collect()
}

pub(super) fn nodes(nodes: &[NodeId], names: &Names) -> Value {
    nodes.iter().map(|node| names.node(*node)).collect()
}

pub(super) fn io(counters: &IoCounters) -> Value {
    json!({
        "rx_datagrams": counters.rx_datagrams,
        "rx_bytes": counters.rx_bytes,
        "tx_datagrams": counters.tx_datagrams,
        "tx_bytes": counters.tx_bytes,
        "tx_dropped_queue_full": counters.tx_dropped_queue_full,
        "tx_dropped_too_big": counters.tx_dropped_too_big,
        "tx_dropped_unreachable": counters.tx_dropped_unreachable,
        "tx_dropped_refused": counters.tx_dropped_refused,
        "tx_dropped_no_buffers": counters.tx_dropped_no_buffers,
        "tx_dropped_other": counters.tx_dropped_other,
        "inner_rx_packets": counters.inner_rx_packets,
        "inner_tx_packets": counters.inner_tx_packets,
        "inner_tx_dropped_full": counters.inner_tx_dropped_full,
        "inner_tx_dropped_invalid": counters.inner_tx_dropped_invalid,
        "events_dropped": counters.events_dropped,
    })
}
