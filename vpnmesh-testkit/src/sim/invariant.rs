//! The laws that hold in every simulated mesh, whatever fails.

use super::ledger;
use super::world::World;

/// Checks all laws.
///
/// # Errors
/// The law that does not hold, in words.
pub fn check(world: &World) -> Result<(), String> {
    no_nonce_twice()?;
    nothing_twice(world)
}

/// No (key, counter) covers two contents, over all nodes, zombies and clones.
fn no_nonce_twice() -> Result<(), String> {
    match ledger::reuses().first() {
        None => Ok(()),
        Some(reuse) => Err(format!("sealed twice with different content: {reuse:?}")),
    }
}

/// No packet comes out twice.
fn nothing_twice(world: &World) -> Result<(), String> {
    match world.duplicates.first() {
        None => Ok(()),
        Some(delivery) => Err(format!("delivered twice: {delivery:?}")),
    }
}
