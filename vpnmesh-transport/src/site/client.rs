//! What a site knows of a client: its receipt key and its fence.

use std::time::Duration;

use vpnmesh_core::{ClientEntry, ClientId, NodeId, PublicKey, Secret, Timestamp};

use super::fence::SiteFence;
use super::{SiteEvent, SiteMachine, relay_address};
use crate::flow::FlowHash;
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
    /// When the client may be asked again to state its holder.
    ask_at: Timestamp,
    fence: SiteFence,
}

impl Known {
    /// Whether this is still what the membership calls by that id.
    pub(super) fn is_of(&self, client: &ClientEntry) -> bool {
        self.peer.is_none_or(|peer| peer == client.key)
    }

    /// See [`SiteFence::accepts`].
    pub(super) fn accepts(&self, node: NodeId, counter: u64, now: Timestamp) -> bool {
        self.fence.accepts(node, counter, now)
    }

    /// See [`SiteFence::note_flow`].
    pub(super) fn note_flow(&mut self, flow: FlowHash, node: NodeId, now: Timestamp) {
        self.fence.note_flow(flow, node, now);
    }

    /// See [`SiteFence::holder_for`].
    pub(super) fn holder_for(&self, flow: FlowHash, now: Timestamp) -> Option<NodeId> {
        self.fence.holder_for(flow, now)
    }

    /// See [`SiteFence::note_sent`].
    pub(super) fn note_sent(&mut self, node: NodeId, counter: u64) {
        self.fence.note_sent(node, counter);
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

    pub(super) fn holder(&self) -> Option<NodeId> {
        self.fence.newest().map(|receipt| receipt.holder)
    }

    /// Our memory is older than the world: the key and all that the client said are in doubt.
    pub(super) fn doubt(&mut self) {
        self.key = None;
        self.fence.doubt();
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
        let taken = known.fence.take(receipt, grace, now);
        if !known.fence.is_in_force(&receipt) {
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
                .and_then(|known| known.fence.last_sent_to(drained));
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
        if let Some(known) = self.clients.get_mut(&client) {
            known.fence.close(node, number, counter);
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
}
