//! A site takes a client's packets only through the holders that the newest statement names.

use std::collections::BTreeMap;
use std::time::Duration;

use vpnmesh_core::{ClientId, NodeId, Timestamp};
use vpnmesh_transport::receipt::{Phase, Receipt};

use super::{Broken, broken};
use crate::sim::actor::ActorId;

/// The law's name.
pub const LAW: &str = "sites fence";

/// The newest statement at each site about each client, by our own count.
#[derive(Debug, Default)]
pub struct SiteFence {
    newest: BTreeMap<(ActorId, ClientId), (Receipt, Timestamp)>,
}

impl SiteFence {
    /// The site begins a life.
    pub fn forget(&mut self, id: ActorId) {
        self.newest.retain(|(site, _), _| *site != id);
    }

    /// A site took a statement over.
    ///
    /// # Errors
    /// If it is not above the one before.
    pub fn handle_took(
        &mut self,
        id: ActorId,
        receipt: Receipt,
        now: Timestamp,
    ) -> Result<(), Broken> {
        let order = |receipt: &Receipt| (receipt.fence, receipt.phase);
        let before = self.newest.insert((id, receipt.client), (receipt, now));
        match before {
            Some((before, _)) if order(&before) >= order(&receipt) => Err(broken(
                LAW,
                format!("{id:?} took {receipt:?} after {before:?}"),
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// A site took a packet of a client through a holder.
    ///
    /// # Errors
    /// If the newest statement does not name the holder, or it had its time to drain.
    pub fn handle_accepted(
        &mut self,
        id: ActorId,
        client: ClientId,
        holder: NodeId,
        now: Timestamp,
    ) -> Result<(), Broken> {
        let Some((newest, since)) = self.newest.get(&(id, client)) else {
            return Err(broken(
                LAW,
                format!("{id:?} took a packet of {client:?} without a statement"),
            ));
        };
        let drains = newest.drained == Some(holder)
            && match newest.phase {
                Phase::Shared => true,
                Phase::Alone => now.since(*since) < DRAIN,
            };
        if newest.holder == holder || drains {
            return Ok(());
        }
        Err(broken(
            LAW,
            format!("{id:?} took a packet through {holder:?} in spite of {newest:?}"),
        ))
    }
}

/// Rule S3.
const DRAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use vpnmesh_transport::receipt::Fence;

    use super::*;

    const S: ActorId = ActorId::Site(0);
    const C: ClientId = ClientId(1);
    const T: Timestamp = Timestamp::ZERO;

    fn receipt(number: u32, phase: Phase, holder: u64, drained: Option<u64>) -> Receipt {
        Receipt {
            client: C,
            fence: Fence {
                incarnation: 1,
                generation: 1,
                number,
            },
            phase,
            holder: NodeId(holder),
            drained: drained.map(NodeId),
        }
    }

    #[test]
    fn a_site_without_a_fence_breaks_the_law() {
        let mut law = SiteFence::default();
        assert!(law.handle_accepted(S, C, NodeId(1), T).is_err());
        law.handle_took(S, receipt(1, Phase::Alone, 1, None), T)
            .unwrap();
        assert_eq!(law.handle_accepted(S, C, NodeId(1), T), Ok(()));
        law.handle_took(S, receipt(2, Phase::Alone, 2, None), T)
            .unwrap();
        assert_eq!(
            law.handle_accepted(S, C, NodeId(1), T).unwrap_err().law,
            LAW
        );
    }

    #[test]
    fn an_older_statement_and_a_drain_without_end_break_the_law() {
        let mut law = SiteFence::default();
        law.handle_took(S, receipt(2, Phase::Shared, 2, Some(1)), T)
            .unwrap();
        assert_eq!(law.handle_accepted(S, C, NodeId(1), T + DRAIN * 9), Ok(()));
        law.handle_took(S, receipt(2, Phase::Alone, 2, Some(1)), T)
            .unwrap();
        assert_eq!(law.handle_accepted(S, C, NodeId(1), T), Ok(()));
        assert!(law.handle_accepted(S, C, NodeId(1), T + DRAIN).is_err());
        assert!(
            law.handle_took(S, receipt(1, Phase::Alone, 1, None), T)
                .is_err()
        );
    }
}
