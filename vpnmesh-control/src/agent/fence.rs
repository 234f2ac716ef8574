//! Which orders are news.

use vpnmesh_core::Version;

use crate::ControllerOrder;

/// Keeps the greatest version passed on, for each kind of order by itself: one decision may bring
/// several kinds at one version.
#[derive(Default, Debug)]
pub(super) struct Fence {
    membership: Version,
    signed: Version,
    standby: Version,
    share: Version,
}

impl Fence {
    /// Whether the order is newer than all of its kind; it counts as passed on then.
    pub(super) fn admits(&mut self, order: &ControllerOrder) -> bool {
        let (greatest, version) = match order {
            ControllerOrder::Membership { version, .. } => (&mut self.membership, version),
            ControllerOrder::Signed { order, .. } => (&mut self.signed, &order.version),
            ControllerOrder::Warm { version, .. } | ControllerOrder::Release { version, .. } => {
                (&mut self.standby, version)
            }
            ControllerOrder::SetShare { version, .. } => (&mut self.share, version),
        };
        let news = version > greatest;
        *greatest = (*greatest).max(*version);
        news
    }

    /// The version of the newest membership passed on.
    pub(super) const fn membership(&self) -> Version {
        self.membership
    }
}

#[cfg(test)]
mod tests {
    use vpnmesh_core::{NodeId, Ratio};

    use super::*;

    #[test]
    fn an_order_passes_once_and_older_ones_never() {
        let (node, to, share) = (NodeId(1), NodeId(2), Ratio::ONE);
        let order = |term, index| {
            let version = Version { term, index };
            ControllerOrder::SetShare {
                version,
                node,
                to,
                share,
            }
        };
        let mut fence = Fence::default();
        assert!(fence.admits(&order(1, 5)));
        assert!(!fence.admits(&order(1, 5)));
        assert!(!fence.admits(&order(1, 4)));
        assert!(fence.admits(&order(2, 1)));
        assert!(!fence.admits(&order(1, 9)), "a former controller");
        let version = Version { term: 1, index: 5 };
        assert!(fence.admits(&ControllerOrder::Warm {
            version,
            node,
            standby: to
        }));
    }
}
