//! The seven acts, each of which hurts the mesh in its own way and watches.

mod degrade;
mod drain;
mod gone;
mod kill;
mod orphan;
mod steady;
mod zombie;

use std::time::Duration;

use super::Halt;
use super::layout::Place;
use super::stage::{Stage, Taken};
use crate::traffic::Window;
use vpnmesh_core::Timestamp;

/// One act.
pub(super) struct Act {
    /// Its number in the play.
    pub(super) number: u32,
    /// What it shows.
    pub(super) name: &'static str,
    /// Plays it; the mesh may be hurt when it returns.
    pub(super) play: fn(&mut Stage) -> Result<(), Halt>,
}

/// All acts in the order of the play. The first and the last are played once, the others in every
/// round.
pub(super) const ACTS: [Act; 7] = [
    act(1, "steady state", steady::play),
    act(2, "planned drain of a primary", drain::play),
    act(3, "a primary degrades, is left, then dies", degrade::play),
    act(4, "kill -9 of a primary", kill::play),
    act(5, "a frozen primary comes back as a zombie", zombie::play),
    act(
        6,
        "a primary dies while the controller is dead",
        orphan::play,
    ),
    act(7, "all holders die at once, no controller", gone::play),
];

const fn act(number: u32, name: &'static str, play: fn(&mut Stage) -> Result<(), Halt>) -> Act {
    Act { number, name, play }
}

/// Waits until all `clients` have left `lost`, and measures the silence of each.
fn watch_takeover(
    stage: &mut Stage,
    lost: &str,
    clients: &[&'static Place],
    since: Timestamp,
) -> Result<Vec<Taken>, Halt> {
    let mut taken = Vec::new();
    for client in clients {
        taken.push(stage.taken_over(client.name, lost, since)?);
    }
    let after = stage.measure_for(AFTER_TAKEOVER);
    for (client, taken) in clients.iter().zip(&taken) {
        let sample = stage.silence(client.name, Window::new(since, after.to), after)?;
        stage.tell(format!(
            "{} goes on through {} after {:.0} ms of silence ({:.0} ms without the round trip)",
            client.name,
            taken.to,
            super::evidence::ms(sample.silence),
            super::evidence::ms(sample.excess()),
        ));
        stage.evidence.silences.push(sample);
        stage.check_return(client.name, &taken.to);
    }
    Ok(taken)
}

fn names(clients: &[&'static Place]) -> String {
    let names: Vec<&str> = clients.iter().map(|client| client.name).collect();
    names.join(" and ")
}

/// Long enough to see the whole silence and the round trip after it.
const AFTER_TAKEOVER: Duration = Duration::from_millis(1000);
