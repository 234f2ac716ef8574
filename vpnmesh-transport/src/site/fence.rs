//! The fence itself: through which holder packets of one client may come (design rule S5).

use std::time::Duration;

use vpnmesh_core::{NodeId, Timestamp};

use crate::flow::{FlowHash, FlowTable};
use crate::receipt::{Phase, Receipt};

/// What a site decides by one client's statements. It knows no keys: whoever calls it has checked
/// the statement and knows through which node a packet came.
#[derive(Debug, Clone, Default)]
pub struct SiteFence {
    /// The newest statement.
    newest: Option<Receipt>,
    /// We may have forgotten a newer one: nothing counts until the client states again.
    doubtful: bool,
    /// The holder that is drained may deliver what it sealed before.
    drain: Option<Drain>,
    /// Through which holder a flow last came, while two are valid.
    flows: FlowTable<NodeId>,
    /// The last counter that we sealed for a holder on behalf of this client.
    last_sent: [Option<(NodeId, u64)>; 2],
}

#[derive(Debug, Clone, Copy)]
struct Drain {
    holder: NodeId,
    number: u32,
    until: Timestamp,
    /// The last counter that the holder sealed for us; unknown until it says so.
    last: Option<u64>,
}

impl SiteFence {
    /// Takes a statement over if it is newer; whether it was. `grace`: for how long the drained
    /// holder's packets are still taken (rule S3).
    pub fn take(&mut self, receipt: Receipt, grace: Duration, now: Timestamp) -> bool {
        let order = |receipt: &Receipt| (receipt.fence, receipt.phase);
        let stale = |newest: &Receipt| match self.doubtful {
            true => order(newest) > order(&receipt),
            false => order(newest) >= order(&receipt),
        };
        if self.newest.as_ref().is_some_and(stale) {
            return false;
        }
        self.doubtful = false;
        self.drain = receipt
            .drained
            .filter(|_| receipt.phase == Phase::Alone)
            .map(|holder| Drain {
                holder,
                number: receipt.fence.number,
                until: now + grace,
                last: None,
            });
        if receipt.phase == Phase::Alone {
            self.flows.clear();
        }
        self.newest = Some(receipt);
        true
    }

    /// Whether the site acts on this statement, or on a later phase of the same move.
    #[must_use]
    pub fn is_in_force(&self, receipt: &Receipt) -> bool {
        self.newest
            .is_some_and(|newest| newest.fence == receipt.fence && newest.phase >= receipt.phase)
    }

    /// The newest statement.
    #[must_use]
    pub const fn newest(&self) -> Option<&Receipt> {
        self.newest.as_ref()
    }

    /// Whether a packet of the client may come through `node`, as the one of that `counter` on the
    /// leg to it.
    #[must_use]
    pub fn accepts(&self, node: NodeId, counter: u64, now: Timestamp) -> bool {
        let Some(newest) = self.newest.as_ref().filter(|_| !self.doubtful) else {
            return false;
        };
        if newest.holder == node || (newest.phase == Phase::Shared && newest.drained == Some(node))
        {
            return true;
        }
        self.drain.as_ref().is_some_and(|drain| {
            drain.holder == node
                && now < drain.until
                && drain.last.is_none_or(|last| counter <= last)
        })
    }

    /// A holder that was left by move `number` said which of its packets was the last.
    pub fn close(&mut self, node: NodeId, number: u32, last: Option<u64>) {
        let drain = self.drain.as_mut();
        if let Some(drain) = drain.filter(|drain| drain.holder == node && drain.number == number) {
            drain.last = Some(last.unwrap_or(0));
        }
    }

    /// While two holders are valid a return flow follows its packets.
    pub fn note_flow(&mut self, flow: FlowHash, node: NodeId, now: Timestamp) {
        let newest = self.newest.as_ref();
        if newest.is_some_and(|receipt| receipt.phase == Phase::Shared) {
            self.flows.set(flow, node, now);
        }
    }

    /// The holder through which a packet to the client leaves.
    #[must_use]
    pub fn holder_for(&self, flow: FlowHash, now: Timestamp) -> Option<NodeId> {
        let newest = self.newest.as_ref().filter(|_| !self.doubtful)?;
        match (newest.phase, newest.drained) {
            (Phase::Shared, Some(drained)) => {
                // A flow may remember a holder of an earlier statement.
                let came_by = self.flows.get(flow, now);
                let valid = |node: &NodeId| [newest.holder, drained].contains(node);
                Some(came_by.filter(valid).unwrap_or(drained))
            }
            (Phase::Shared | Phase::Alone, _) => Some(newest.holder),
        }
    }

    /// Remembers the last packet for each of the two newest holders.
    pub fn note_sent(&mut self, node: NodeId, counter: u64) {
        let known = self
            .last_sent
            .iter()
            .position(|sent| sent.is_some_and(|(to, _)| to == node));
        let slot = known.unwrap_or_else(|| {
            self.last_sent.swap(0, 1);
            0
        });
        self.last_sent[slot] = Some((node, counter));
    }

    /// The counter of the last packet for a holder.
    #[must_use]
    pub fn last_sent_to(&self, node: NodeId) -> Option<u64> {
        let sent = self.last_sent.iter().flatten().find(|(to, _)| *to == node);
        sent.map(|(_, counter)| *counter)
    }

    /// Our memory is older than the world: all that the client said is in doubt.
    pub fn doubt(&mut self) {
        self.drain = None;
        self.doubtful = true;
        self.flows.clear();
    }
}

#[cfg(test)]
mod tests {
    use vpnmesh_core::ClientId;

    use super::*;
    use crate::receipt::Fence;

    const DRAIN: Duration = Duration::from_millis(1200);

    fn receipt(number: u32, phase: Phase, holder: u64, drained: Option<u64>) -> Receipt {
        Receipt {
            client: ClientId(1),
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
    fn nobody_is_accepted_before_the_first_receipt() {
        assert!(!SiteFence::default().accepts(NodeId(1), 0, Timestamp::ZERO));
    }

    #[test]
    fn a_lower_statement_never_replaces_a_greater_one() {
        let mut fence = SiteFence::default();
        assert!(fence.take(receipt(5, Phase::Alone, 2, None), DRAIN, Timestamp::ZERO));
        assert!(!fence.take(receipt(4, Phase::Alone, 1, None), DRAIN, Timestamp::ZERO));
        assert!(!fence.take(
            receipt(5, Phase::Shared, 1, Some(2)),
            DRAIN,
            Timestamp::ZERO
        ));
        assert!(!fence.accepts(NodeId(1), 0, Timestamp::ZERO));
        assert!(fence.accepts(NodeId(2), 0, Timestamp::ZERO));
    }

    #[test]
    fn both_holders_are_valid_until_the_commit_and_the_old_one_only_up_to_its_last_packet() {
        let mut fence = SiteFence::default();
        fence.take(receipt(1, Phase::Alone, 1, None), DRAIN, Timestamp::ZERO);
        fence.take(
            receipt(2, Phase::Shared, 2, Some(1)),
            DRAIN,
            Timestamp::ZERO,
        );
        assert!(
            fence.accepts(NodeId(1), 9, Timestamp::ZERO)
                && fence.accepts(NodeId(2), 0, Timestamp::ZERO)
        );
        fence.take(receipt(2, Phase::Alone, 2, Some(1)), DRAIN, Timestamp::ZERO);
        assert!(fence.accepts(NodeId(1), 9, Timestamp::ZERO));
        fence.close(NodeId(1), 2, Some(8));
        assert!(fence.accepts(NodeId(1), 8, Timestamp::ZERO));
        assert!(!fence.accepts(NodeId(1), 9, Timestamp::ZERO));
        assert!(!fence.accepts(NodeId(1), 8, Timestamp::ZERO + DRAIN));
    }

    #[test]
    fn return_flows_follow_their_packets_while_two_holders_are_valid() {
        let mut fence = SiteFence::default();
        fence.take(
            receipt(2, Phase::Shared, 2, Some(1)),
            DRAIN,
            Timestamp::ZERO,
        );
        let flow = FlowHash(7);
        assert_eq!(fence.holder_for(flow, Timestamp::ZERO), Some(NodeId(1)));
        fence.note_flow(flow, NodeId(2), Timestamp::ZERO);
        assert_eq!(fence.holder_for(flow, Timestamp::ZERO), Some(NodeId(2)));
    }
}
