//! Once all faults have stopped, the mesh heals: holders, rosters, sites, packets.

use std::time::Duration;

use super::{Broken, broken};
use crate::sim::actor::ActorId;
use crate::sim::world::World;

/// The law's name.
pub const LAW: &str = "the mesh heals";

/// Looks whether every client has its holders and every site its nodes.
///
/// # Errors
/// What is missing.
pub fn check(world: &mut World) -> Result<(), Broken> {
    let shape = world.shape();
    for client in 0..shape.clients {
        let report = world.report(client);
        let Some(report) = report else {
            return Err(broken(LAW, format!("client {client} does not answer")));
        };
        let wanted = 1 + world.tier(client).shadows().min(shape.nodes - 1);
        if report.active.is_none()
            || report.roster.len() < wanted
            || report.sites_ready < shape.sites
        {
            return Err(broken(
                LAW,
                format!("client {client} wants {wanted} holders: {report:?}"),
            ));
        }
    }
    for site in 0..shape.sites {
        let connected = world
            .site_report(site)
            .map_or(0, |report| report.nodes.len());
        if connected < shape.nodes {
            return Err(broken(
                LAW,
                format!("site {site} is connected to {connected} nodes"),
            ));
        }
    }
    Ok(())
}

/// Runs on and looks whether new packets of all streams arrive, both ways.
///
/// # Errors
/// A packet that was lost, or a stream without packets.
pub fn check_traffic(world: &mut World) -> Result<(), Broken> {
    let before = world.departures.len();
    world.run(WINDOW);
    let until = world.departures.len();
    world.run(TAIL);
    let sent = &world.departures[before..until];
    for packet in sent {
        if !world.witness().has(packet.flow, packet.number) {
            return Err(broken(
                LAW,
                format!("{packet:?} was lost after all faults stopped"),
            ));
        }
    }
    let clients = world.shape().clients;
    let speaks = |client: usize| sent.iter().any(|packet| packet.flow.client == client);
    match (0..clients).find(|client| !speaks(*client)) {
        Some(silent) => Err(broken(
            LAW,
            format!("{:?} sends nothing", ActorId::Client(silent)),
        )),
        None => Ok(()),
    }
}

const WINDOW: Duration = Duration::from_millis(700);
const TAIL: Duration = Duration::from_millis(600);
