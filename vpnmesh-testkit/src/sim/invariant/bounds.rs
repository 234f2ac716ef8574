//! Tables stay as large as the mesh is: nothing is kept of sessions and peers that are gone.

use std::time::Duration;

use vpnmesh_transport::client::ClientEvent;

use super::{Broken, broken};
use crate::sim::actor::{ActorId, Happened};
use crate::sim::world::World;

/// The law's name.
pub const LAW: &str = "tables stay bounded";

/// Sessions that began within the time for which an idle one is kept.
fn sessions(world: &World) -> usize {
    let recent = world
        .happened
        .iter()
        .rev()
        .take_while(|(at, _)| world.now().since(*at) < IDLE);
    let began = recent.filter(|(_, happened)| {
        matches!(happened, Happened::Client(_, ClientEvent::Attached { .. }))
    });
    world.shape().clients + began.count()
}

/// Compares every table with what its actor may need.
///
/// # Errors
/// The table that is too large.
pub fn check(world: &World) -> Result<(), Broken> {
    let shape = world.shape();
    let (nodes, clients, sites) = (shape.nodes, shape.clients, shape.sites);
    let sessions = sessions(world);
    for (id, actor) in world.actors() {
        for (name, size) in actor.sizes() {
            let most = match (id, name) {
                (ActorId::Node(_), "peers") => nodes - 1 + sites,
                (ActorId::Node(_), "sessions" | "clients") => clients,
                // A session's present generation and the next one. What a dead primary gave away
                // waits for its client as long as a session may be idle.
                (ActorId::Node(_), "branches" | "bases") => 2 * sessions,
                (ActorId::Node(_), "channels") => 4 * (nodes - 1 + sites + clients),
                (ActorId::Node(_), "attempts") => nodes,
                (ActorId::Client(_), "ties") | (ActorId::Site(_), "clients") => sites.max(clients),
                (ActorId::Client(_), "channels") => 12,
                (ActorId::Client(_), "attempts") => sites + 3,
                (ActorId::Client(_), "tried" | "roster")
                | (ActorId::Site(_), "links" | "attempts") => nodes,
                (ActorId::Site(_), "channels") => 4 * nodes,
                (ActorId::Node(_), "dirty") => 0, // every turn empties it
                (ActorId::Node(_) | ActorId::Client(_) | ActorId::Site(_), _) => usize::MAX,
            };
            if size > most {
                return Err(broken(
                    LAW,
                    format!("{id:?} has {size} {name}, at most {most} are needed"),
                ));
            }
        }
    }
    Ok(())
}

/// The default of a node's timers, and the period of its digests.
const IDLE: Duration = Duration::from_secs(182);
