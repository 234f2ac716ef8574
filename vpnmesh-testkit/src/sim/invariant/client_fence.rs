//! A client takes packets from its present holders only, and never below a move that it left.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vpnmesh_core::{NodeId, Timestamp};
use vpnmesh_transport::client::ClientEvent;

use super::{Broken, broken};
use crate::sim::actor::ActorId;

/// The law's name.
pub const LAW: &str = "clients fence";

/// What the clients said of their holders. One entry for each client, small.
#[derive(Debug, Default)]
pub struct ClientFence {
    views: BTreeMap<ActorId, View>,
}

#[derive(Debug, Default)]
struct View {
    valid: BTreeSet<NodeId>,
    drained: Option<(NodeId, Timestamp)>,
    /// The greatest move of each holder's packets.
    newest: BTreeMap<NodeId, u32>,
    /// Moves that ended with the loss of their holder.
    ended: BTreeMap<NodeId, u32>,
}

impl ClientFence {
    /// The client begins a life.
    pub fn forget(&mut self, id: ActorId) {
        self.views.remove(&id);
    }

    /// A client took a packet that came under the keys of move `number` of a holder.
    ///
    /// # Errors
    /// If the holder is none of the client's, or was left with that move.
    pub fn handle_accepted(
        &mut self,
        id: ActorId,
        holder: NodeId,
        number: u32,
        now: Timestamp,
    ) -> Result<(), Broken> {
        let view = self.views.entry(id).or_default();
        let drains = view
            .drained
            .is_some_and(|(node, until)| node == holder && now <= until);
        if !view.valid.contains(&holder) && !drains {
            return Err(broken(
                LAW,
                format!("{id:?} took a packet from {holder:?}: {view:?}"),
            ));
        }
        if view
            .ended
            .get(&holder)
            .is_some_and(|ended| number <= *ended)
        {
            return Err(broken(
                LAW,
                format!("{id:?} took a packet of the lost move {number}"),
            ));
        }
        let newest = view.newest.entry(holder).or_default();
        *newest = number.max(*newest);
        Ok(())
    }

    /// A client changed its holders.
    pub fn handle_event(&mut self, id: ActorId, event: &ClientEvent, now: Timestamp) {
        let view = self.views.entry(id).or_default();
        match event {
            ClientEvent::Attached { node, .. } => {
                view.lose_all();
                view.valid.insert(*node);
            }
            ClientEvent::Moving { from, to } => view.valid.extend([*from, *to]),
            ClientEvent::Moved { from, to, .. } => {
                view.valid = [*to].into();
                view.drained = Some((*from, now + DRAIN));
            }
            ClientEvent::MoveAbandoned { to } => view.lose(*to),
            ClientEvent::TakenOver { to, .. } => {
                view.drained = None;
                let lost: Vec<NodeId> = view
                    .valid
                    .iter()
                    .copied()
                    .filter(|node| node != to)
                    .collect();
                lost.into_iter().for_each(|node| view.lose(node));
                view.valid.insert(*to);
            }
            ClientEvent::Detached => view.lose_all(),
            ClientEvent::Refreshed { .. }
            | ClientEvent::Roster { .. }
            | ClientEvent::Membership(_)
            | ClientEvent::IncarnationSeen(_)
            | ClientEvent::Report(_) => {}
        }
    }
}

impl View {
    fn lose(&mut self, node: NodeId) {
        self.valid.remove(&node);
        if let Some(newest) = self.newest.get(&node) {
            self.ended.insert(node, *newest);
        }
    }

    fn lose_all(&mut self) {
        for node in std::mem::take(&mut self.valid) {
            self.lose(node);
        }
        self.drained = None;
    }
}

/// max(3 × RTT, 1 s) on the longest path of a simulated mesh.
const DRAIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    const C: ActorId = ActorId::Client(0);
    const T: Timestamp = Timestamp::ZERO;

    fn attached() -> ClientFence {
        let mut law = ClientFence::default();
        law.handle_event(
            C,
            &ClientEvent::Attached {
                node: NodeId(1),
                generation: 1,
            },
            T,
        );
        law
    }

    #[test]
    fn a_zombies_packet_breaks_the_law() {
        let mut law = attached();
        assert_eq!(law.handle_accepted(C, NodeId(1), 1, T), Ok(()));
        let event = ClientEvent::TakenOver {
            from: NodeId(1),
            to: NodeId(2),
            silence: DRAIN,
        };
        law.handle_event(C, &event, T);
        assert_eq!(law.handle_accepted(C, NodeId(2), 2, T), Ok(()));
        assert_eq!(
            law.handle_accepted(C, NodeId(1), 1, T).unwrap_err().law,
            LAW
        );
    }

    #[test]
    fn a_packet_of_a_lost_move_breaks_the_law_even_if_its_holder_is_back() {
        let mut law = attached();
        law.handle_accepted(C, NodeId(1), 1, T).unwrap();
        law.handle_event(C, &ClientEvent::Detached, T);
        law.handle_event(
            C,
            &ClientEvent::Attached {
                node: NodeId(1),
                generation: 2,
            },
            T,
        );
        assert_eq!(law.handle_accepted(C, NodeId(1), 5, T), Ok(()));
        assert!(law.handle_accepted(C, NodeId(1), 1, T).is_err());
    }

    #[test]
    fn a_drained_holder_is_heard_for_a_while() {
        let mut law = attached();
        law.handle_event(
            C,
            &ClientEvent::Moving {
                from: NodeId(1),
                to: NodeId(2),
            },
            T,
        );
        law.handle_event(
            C,
            &ClientEvent::Moved {
                from: NodeId(1),
                to: NodeId(2),
                number: 2,
            },
            T,
        );
        assert_eq!(law.handle_accepted(C, NodeId(1), 1, T + DRAIN), Ok(()));
        assert!(law.handle_accepted(C, NodeId(1), 1, T + DRAIN * 2).is_err());
    }
}
