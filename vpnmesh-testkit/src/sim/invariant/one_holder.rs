//! One fence names one holder: never two primaries for a client at the same fence.

use std::collections::HashMap;

use vpnmesh_core::{ClientId, NodeId};
use vpnmesh_transport::receipt::{Fence, Receipt};

use super::{Broken, broken};
use crate::sim::actor::ActorId;

/// The law's name.
pub const LAW: &str = "one holder";

/// What every fence named. As many entries as statements.
#[derive(Debug, Default)]
pub struct OneHolder {
    at_site: HashMap<(ActorId, ClientId, Fence), NodeId>,
    anywhere: HashMap<(ClientId, Fence), NodeId>,
    /// A client counts again where it counted before: a clone of it, or a rolled-back disk. Sites
    /// that never met the first hear of the second until some peer refuses it.
    repeats: bool,
}

impl OneHolder {
    /// The site begins a life.
    pub fn forget(&mut self, id: ActorId) {
        self.at_site.retain(|(site, ..), _| *site != id);
    }

    /// A client begins a life with a counter that an earlier or another life has used.
    pub const fn handle_repeat(&mut self) {
        self.repeats = true;
    }

    /// A site took a statement over.
    ///
    /// # Errors
    /// If the same fence named another holder before.
    pub fn handle_took(&mut self, id: ActorId, receipt: Receipt) -> Result<(), Broken> {
        let (client, fence, holder) = (receipt.client, receipt.fence, receipt.holder);
        let here = *self.at_site.entry((id, client, fence)).or_insert(holder);
        let anywhere = *self.anywhere.entry((client, fence)).or_insert(holder);
        if here != holder || (anywhere != holder && !self.repeats) {
            return Err(broken(
                LAW,
                format!("{receipt:?}, before: {here:?} here, {anywhere:?} anywhere"),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use vpnmesh_transport::receipt::Phase;

    use super::*;

    #[test]
    fn a_fence_with_two_holders_breaks_the_law() {
        let receipt = |holder| Receipt {
            client: ClientId(1),
            fence: Fence::default(),
            phase: Phase::Alone,
            holder: NodeId(holder),
            drained: None,
        };
        let mut law = OneHolder::default();
        assert_eq!(law.handle_took(ActorId::Site(0), receipt(1)), Ok(()));
        assert_eq!(law.handle_took(ActorId::Site(1), receipt(1)), Ok(()));
        assert!(law.handle_took(ActorId::Site(1), receipt(2)).is_err());
    }
}
