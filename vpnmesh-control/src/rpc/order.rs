//! Orders between the wire and our own types.

use vpnmesh_core::{NodeId, Order, OrderKind};

use super::convert::{malformed, pair_in, pair_out, ratio, some, version_in, version_out};
use super::wire;
use crate::{ControllerOrder, Error};

/// An order; `None` for the welcome, which is not one.
pub(crate) fn order_in(order: wire::ControllerOrder) -> Result<Option<ControllerOrder>, Error> {
    use wire::controller_order::Order as Wire;
    Ok(Some(match some(order.order, "order")? {
        Wire::Welcome(_) => return Ok(None),
        Wire::Membership(membership) => ControllerOrder::Membership {
            version: version_in(some(membership.version, "membership.version")?),
            signed: membership.signed,
        },
        Wire::Signed(signed) => ControllerOrder::Signed {
            order: Order {
                version: version_in(some(signed.version, "signed.version")?),
                node: NodeId(signed.node),
                kind: match signed.kind() {
                    wire::OrderKind::Drain => OrderKind::Drain,
                    wire::OrderKind::Remove => OrderKind::Remove,
                    wire::OrderKind::Restore => OrderKind::Restore,
                    wire::OrderKind::Unspecified => return Err(malformed("signed.kind")),
                },
                share: ratio(signed.share, "signed.share")?,
            },
            signed: signed.signed,
        },
        Wire::Warm(wire::Standby { version, pair }) => {
            let (node, standby) = pair_in(pair)?;
            let version = version_in(some(version, "warm.version")?);
            ControllerOrder::Warm {
                version,
                node,
                standby,
            }
        }
        Wire::Release(wire::Standby { version, pair }) => {
            let (node, standby) = pair_in(pair)?;
            let version = version_in(some(version, "release.version")?);
            ControllerOrder::Release {
                version,
                node,
                standby,
            }
        }
        Wire::Share(share) => ControllerOrder::SetShare {
            version: version_in(some(share.version, "share.version")?),
            node: NodeId(share.node),
            to: NodeId(share.to),
            share: ratio(share.share, "share.share")?,
        },
    }))
}

pub(crate) fn order_out(order: ControllerOrder) -> wire::ControllerOrder {
    use wire::controller_order::Order as Wire;
    let standby = |version, node: NodeId, standby: NodeId| wire::Standby {
        version: Some(version_out(version)),
        pair: Some(pair_out(node, standby)),
    };
    let order = match order {
        ControllerOrder::Membership { version, signed } => {
            Wire::Membership(wire::SignedMembership {
                version: Some(version_out(version)),
                signed,
            })
        }
        ControllerOrder::Signed { order, signed } => Wire::Signed(wire::SignedOrder {
            version: Some(version_out(order.version)),
            node: order.node.0,
            kind: match order.kind {
                OrderKind::Drain => wire::OrderKind::Drain,
                OrderKind::Remove => wire::OrderKind::Remove,
                OrderKind::Restore => wire::OrderKind::Restore,
            }
            .into(),
            share: order.share.get(),
            signed,
        }),
        ControllerOrder::Warm {
            version,
            node,
            standby: by,
        } => Wire::Warm(standby(version, node, by)),
        ControllerOrder::Release {
            version,
            node,
            standby: by,
        } => Wire::Release(standby(version, node, by)),
        ControllerOrder::SetShare {
            version,
            node,
            to,
            share,
        } => Wire::Share(wire::Share {
            version: Some(version_out(version)),
            node: node.0,
            to: to.0,
            share: share.get(),
        }),
    };
    wire::ControllerOrder { order: Some(order) }
}

#[cfg(test)]
mod tests {
    use vpnmesh_core::{Ratio, Version};

    use super::*;

    #[test]
    fn orders_come_back_as_they_were() {
        let version = Version { term: 2, index: 7 };
        let (node, standby, share) = (NodeId(1), NodeId(2), Ratio::saturating(0.4));
        let order = Order {
            version,
            node,
            kind: OrderKind::Drain,
            share,
        };
        let signed = vec![1, 2, 3];
        for order in [
            ControllerOrder::Membership {
                version,
                signed: signed.clone(),
            },
            ControllerOrder::Signed { order, signed },
            ControllerOrder::Warm {
                version,
                node,
                standby,
            },
            ControllerOrder::Release {
                version,
                node,
                standby,
            },
            ControllerOrder::SetShare {
                version,
                node,
                to: standby,
                share,
            },
        ] {
            assert_eq!(order_in(order_out(order.clone())).unwrap(), Some(order));
        }
    }
}
