//! A planned move loses nothing, unless something fails within three seconds of it.

use std::time::Duration;

use vpnmesh_core::Timestamp;
use vpnmesh_transport::client::ClientEvent;

use super::{Broken, broken};
use crate::sim::actor::Happened;
use crate::sim::world::World;

/// The law's name.
pub const LAW: &str = "planned moves lose nothing";

/// A client's move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedMove {
    /// The client.
    pub client: usize,
    /// From the activation on.
    pub from: Timestamp,
    /// To the commit.
    pub to: Timestamp,
}

/// All planned moves that were committed.
#[must_use]
pub fn moves(world: &World) -> Vec<PlannedMove> {
    let mut began = std::collections::BTreeMap::new();
    let mut moves = Vec::new();
    for (at, happened) in &world.happened {
        let Happened::Client(client, event) = happened else {
            continue;
        };
        match event {
            ClientEvent::Moving { .. } => {
                began.entry(*client).or_insert(*at);
            }
            ClientEvent::Moved { .. } => {
                if let Some(from) = began.remove(client) {
                    moves.push(PlannedMove {
                        client: *client,
                        from,
                        to: *at,
                    });
                }
            }
            ClientEvent::TakenOver { .. }
            | ClientEvent::Detached
            | ClientEvent::MoveAbandoned { .. } => {
                began.remove(client);
            }
            _ => {}
        }
    }
    moves
}

/// Looks for packets that were lost in a quiet planned move. `disturbed`: when something failed.
///
/// # Errors
/// A packet that was lost.
pub fn check(world: &World, disturbed: &[(Timestamp, Timestamp)]) -> Result<u64, Broken> {
    let quiet = |from: Timestamp, to: Timestamp| {
        let near =
            |(start, end): &(Timestamp, Timestamp)| *start < to + APART && from < *end + APART;
        !disturbed.iter().any(near)
    };
    let mut checked = 0;
    for planned in moves(world) {
        if !quiet(planned.from, planned.to) {
            continue;
        }
        checked += 1;
        let (from, to) = (planned.from, planned.to + TAIL);
        let during = world.departures.iter().filter(|packet| {
            packet.flow.client == planned.client && packet.at >= from && packet.at <= to
        });
        for packet in during {
            if packet.at + TAIL < world.now() && !world.witness().has(packet.flow, packet.number) {
                return Err(broken(LAW, format!("{packet:?} was lost in {planned:?}")));
            }
        }
    }
    Ok(checked)
}

/// Faults nearer than this may cost packets.
const APART: Duration = Duration::from_secs(3);
/// After the commit old packets still arrive.
const TAIL: Duration = Duration::from_secs(1);
