//! What reports, orders and changes have in common on the wire.

use std::time::Duration;

use vpnmesh_core::{NodeId, Ratio, Version};

use super::wire;
use crate::Error;

pub(super) fn version_in(version: wire::Version) -> Version {
    Version {
        term: version.term,
        index: version.index,
    }
}

pub(super) fn version_out(version: Version) -> wire::Version {
    wire::Version {
        term: version.term,
        index: version.index,
    }
}

pub(super) fn some<T>(value: Option<T>, field: &'static str) -> Result<T, Error> {
    value.ok_or_else(|| malformed(field))
}

pub(super) const fn malformed(field: &'static str) -> Error {
    Error::Malformed { field }
}

pub(super) fn pair_in(pair: Option<wire::Pair>) -> Result<(NodeId, NodeId), Error> {
    let pair = some(pair, "pair")?;
    Ok((NodeId(pair.node), NodeId(pair.standby)))
}

pub(super) const fn pair_out(node: NodeId, standby: NodeId) -> wire::Pair {
    wire::Pair {
        node: node.0,
        standby: standby.0,
    }
}

pub(super) fn ratio(value: f64, field: &'static str) -> Result<Ratio, Error> {
    Ratio::new(value).ok_or(malformed(field))
}

pub(super) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
