//! What a site knows of a client: its receipt key, its holder, its flows.

use std::time::Duration;

use vpnmesh_core::{ClientEntry, ClientId, NodeId, PublicKey, Secret, Timestamp};

use super::{SiteEvent, SiteMachine, relay_address};
use crate::flow::{FlowHash, FlowTable};
use crate::handshake::{Authority, Decision, Direction, Load, Refusal, Request, direction};
use crate::leg::Leg;
use crate::message::{self, FromSite};
use crate::receipt::{Phase, Receipt, UNKNOWN_KEY, Way};
use crate::station::Hello;
use crate::{DropReason, schedule};

/// A client that shook hands with this site.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The client's static key, which all that is known here stands on.
    peer: Option<PublicKey>,
    key: Option<Secret<32>>,
    /// The newest statement.
    newest: Option<Receipt>,
    /// We may have forgotten a newer one: nothing counts until the client states again.
    doubtful: bool,
    /// The holder that is drained may deliver what it sealed before.
    drain: Option<Drain>,
    /// When the client may be asked again to state its holder.
    ask_at: Timestamp,
    /// Through which holder a flow last came, while two are valid.
    flows: FlowTable<NodeId>,
    /// The last counter that we sealed for a holder on behalf of this client.
    last_sent: [Option<(NodeId, u64)>; 2],
}

#[derive(Debug)]
struct Drain {
    holder: NodeId,
    number: u32,
    until: Timestamp,
    /// The last counter that the holder sealed for us; unknown until it says so.
    last: Option<u64>,
}

impl Known {
    /// Whether this is still what the membership calls by that id.
    pub(super) fn is_of(&self, client: &ClientEntry) -> bool {
        self.peer.is_none_or(|peer| peer == client.key)
    }

    /// Whether a packet of the client may come through `node`.
    pub(super) fn accepts(&self, node: NodeId, counter: u64, now: Timestamp) -> bool {
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

    /// Whether it is time to ask whoever sends through a holder that is not the client's: either a
    /// zombie, which cannot answer, or the client itself, whose statement a clone of it outdid.
    pub(super) fn may_ask(&mut self, now: Timestamp) -> bool {
        let may = now >= self.ask_at;
        if may {
            self.ask_at = now + ASK_AGAIN;
        }
        may
    }

    /// While two holders are valid a return flow follows its packets.
    pub(super) fn note_flow(&mut self, flow: FlowHash, node: NodeId, now: Timestamp) {
        if self.is_shared() {
            self.flows.set(flow, node, now);
        }
    }

    /// The holder through which a packet to the client leaves.
    pub(super) fn holder_for(&self, flow: FlowHash, now: Timestamp) -> Option<NodeId> {
        let newest = self.newest.as_ref().filter(|_| !self.doubtful)?;
        match (newest.phase, newest.drained) {
            (Phase::Shared, Some(drained)) => Some(self.flows.get(flow, now).unwrap_or(drained)),
            (Phase::Shared | Phase::Alone, _) => Some(newest.holder),
        }
    }

    /// Remembers the last packet for each of the two newest holders.
    pub(super) fn note_sent(&mut self, node: NodeId, counter: u64) {
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

    pub(super) fn holder(&self) -> Option<NodeId> {
        self.newest.as_ref().map(|receipt| receipt.holder)
    }

    fn is_shared(&self) -> bool {
        self.newest
            .as_ref()
            .is_some_and(|receipt| receipt.phase == Phase::Shared)
    }

    fn last_sent_to(&self, node: NodeId) -> Option<u64> {
        let sent = self.last_sent.iter().flatten().find(|(to, _)| *to == node);
        sent.map(|(_, counter)| *counter)
    }

    /// Our memory is older than the world: the key and all that the client said are in doubt.
    pub(super) fn doubt(&mut self) {
        self.key = None;
        self.drain = None;
        self.doubtful = true;
        self.flows.clear();
    }

    /// Takes a statement over if it is newer; whether it was. `grace`: for how long the drained
    /// holder's packets are still taken (rule S3).
    fn take(&mut self, receipt: Receipt, grace: Duration, now: Timestamp) -> bool {
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
}

/// Only the client that a node speaks for may shake hands through it.
struct Gate<'a> {
    expected: &'a PublicKey,
    local_index: u32,
}

impl Authority for Gate<'_> {
    fn knows(&mut self, peer: &PublicKey) -> bool {
        peer == self.expected
    }

    fn decide(&mut self, request: &Request<'_>) -> Decision {
        match message::decode(request.payload) {
            Ok(Hello::Receipts) => Decision::Accept {
                local_index: self.local_index,
                payload: Vec::new(),
            },
            _ => Decision::Refuse(Refusal::NotAllowed),
        }
    }
}

impl SiteMachine {
    /// Bytes of a client, relayed by a node.
    pub(super) fn handle_from_client(
        &mut self,
        node: NodeId,
        client: ClientId,
        body: &[u8],
        now: Timestamp,
    ) {
        if direction(body) == Some(Direction::ToResponder) {
            return self.handle_handshake(node, client, body, now);
        }
        if Way::of(body) != Some(Way::Statement) {
            return self.station.out.drop_because(DropReason::Malformed);
        }
        let links = &self.links;
        let grace = |node| links.get(&node)?.leg.as_ref().map(Leg::grace);
        let known = self.clients.get_mut(&client);
        let Some((known, key)) = known.and_then(|known| {
            let key = known.key.as_ref()?.duplicate();
            Some((known, key))
        }) else {
            self.answer(node, client, vec![UNKNOWN_KEY], now);
            return self.station.out.drop_because(DropReason::UnknownPeer);
        };
        let receipt = match Receipt::open(Way::Statement, &key, body) {
            Ok(receipt) if receipt.client == client => receipt,
            Ok(_) => return self.station.out.drop_because(DropReason::NotAllowedSource),
            Err(reason) => {
                // A client that lost its key, or that we lost the key of, shakes hands again.
                self.answer(node, client, vec![UNKNOWN_KEY], now);
                return self.station.out.drop_because(reason);
            }
        };
        let grace = receipt.drained.and_then(grace).unwrap_or_default();
        let taken = known.take(receipt, grace, now);
        let in_force = known
            .newest
            .filter(|newest| newest.fence == receipt.fence && newest.phase >= receipt.phase);
        if in_force.is_none() {
            return self.station.out.drop_because(DropReason::Fenced);
        }
        self.answer(node, client, receipt.seal(Way::Answer, &key), now);
        if taken {
            self.handle_taken(client, &receipt, now);
        }
    }

    fn handle_taken(&mut self, client: ClientId, receipt: &Receipt, now: Timestamp) {
        #[cfg(feature = "testing")]
        self.tracer.note(crate::trace::Trace::SiteTook(*receipt));
        self.emit(SiteEvent::Moved {
            client,
            holder: receipt.holder,
            fence: receipt.fence,
        });
        if let (Phase::Alone, Some(drained)) = (receipt.phase, receipt.drained) {
            let down_final = self
                .clients
                .get(&client)
                .and_then(|known| known.last_sent_to(drained));
            let left = FromSite::ClientLeft {
                client,
                number: receipt.fence.number,
                down_final,
            };
            self.tell(drained, &left, now);
        }
    }

    /// A holder that was left said which of its packets was the last.
    pub(super) fn handle_final_up(
        &mut self,
        node: NodeId,
        client: ClientId,
        number: u32,
        counter: Option<u64>,
    ) {
        let drain = self
            .clients
            .get_mut(&client)
            .and_then(|known| known.drain.as_mut());
        if let Some(drain) = drain.filter(|drain| drain.holder == node && drain.number == number) {
            drain.last = Some(counter.unwrap_or(0));
        }
    }

    fn handle_handshake(
        &mut self,
        node: NodeId,
        client: ClientId,
        datagram: &[u8],
        now: Timestamp,
    ) {
        let Some(expected) = self
            .station
            .membership
            .client(client)
            .map(|entry| entry.key)
        else {
            return self.station.out.drop_because(DropReason::UnknownPeer);
        };
        let channels = &self.channels;
        let local_index = self
            .station
            .fresh_index(|index| channels.contains_key(&index));
        let mut gate = Gate {
            expected: &expected,
            local_index,
        };
        let (from, entropy) = (relay_address(client), &mut *self.station.config.entropy);
        let outcome =
            self.responder
                .handle_datagram(from, datagram, Load::Normal, &mut gate, entropy, now);
        for reply in outcome.replies {
            self.answer(node, client, reply, now);
        }
        if let Some(reason) = outcome.dropped {
            self.station.out.drop_because(reason);
        }
        if let Some(established) = outcome.established {
            // The fence stays: a new key does not make old statements valid.
            let known = self.clients.entry(client).or_default();
            known.peer = Some(established.peer);
            known.key = Some(schedule::receipt_key(&established.root));
        }
    }

    pub(super) fn answer(&mut self, node: NodeId, client: ClientId, body: Vec<u8>, now: Timestamp) {
        self.tell(node, &FromSite::ToClient { client, body }, now);
    }
}

const ASK_AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
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
        assert!(!Known::default().accepts(NodeId(1), 0, Timestamp::ZERO));
    }

    #[test]
    fn a_lower_statement_never_replaces_a_greater_one() {
        let mut known = Known::default();
        assert!(known.take(receipt(5, Phase::Alone, 2, None), DRAIN, Timestamp::ZERO));
        assert!(!known.take(receipt(4, Phase::Alone, 1, None), DRAIN, Timestamp::ZERO));
        assert!(!known.take(
            receipt(5, Phase::Shared, 1, Some(2)),
            DRAIN,
            Timestamp::ZERO
        ));
        assert!(!known.accepts(NodeId(1), 0, Timestamp::ZERO));
        assert!(known.accepts(NodeId(2), 0, Timestamp::ZERO));
    }

    #[test]
    fn both_holders_are_valid_until_the_commit_and_the_old_one_only_up_to_its_last_packet() {
        let mut known = Known::default();
        known.take(receipt(1, Phase::Alone, 1, None), DRAIN, Timestamp::ZERO);
        known.take(
            receipt(2, Phase::Shared, 2, Some(1)),
            DRAIN,
            Timestamp::ZERO,
        );
        assert!(
            known.accepts(NodeId(1), 9, Timestamp::ZERO)
                && known.accepts(NodeId(2), 0, Timestamp::ZERO)
        );
        known.take(receipt(2, Phase::Alone, 2, Some(1)), DRAIN, Timestamp::ZERO);
        assert!(known.accepts(NodeId(1), 9, Timestamp::ZERO));
        known.drain.as_mut().unwrap().last = Some(8);
        assert!(known.accepts(NodeId(1), 8, Timestamp::ZERO));
        assert!(!known.accepts(NodeId(1), 9, Timestamp::ZERO));
        assert!(!known.accepts(NodeId(1), 8, Timestamp::ZERO + DRAIN));
    }

    #[test]
    fn a_client_with_another_key_is_another_client() {
        let mut entry = crate::node::rig::membership(1).clients.remove(0);
        let known = Known {
            peer: Some(entry.key),
            ..Known::default()
        };
        assert!(known.is_of(&entry));
        entry.key = PublicKey([9; 32]);
        assert!(!known.is_of(&entry));
    }

    #[test]
    fn return_flows_follow_their_packets_while_two_holders_are_valid() {
        let mut known = Known::default();
        known.take(
            receipt(2, Phase::Shared, 2, Some(1)),
            DRAIN,
            Timestamp::ZERO,
        );
        let flow = FlowHash(7);
        assert_eq!(known.holder_for(flow, Timestamp::ZERO), Some(NodeId(1)));
        known.note_flow(flow, NodeId(2), Timestamp::ZERO);
        assert_eq!(known.holder_for(flow, Timestamp::ZERO), Some(NodeId(2)));
    }
}
