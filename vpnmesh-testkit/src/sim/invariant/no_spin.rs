//! No machine asks for its timer again and again: that would burn a processor.

use std::collections::BTreeMap;

use vpnmesh_core::Timestamp;

use super::{Broken, broken};
use crate::sim::actor::ActorId;

/// The law's name.
pub const LAW: &str = "no machine spins";

/// Counts timers. One entry for each actor.
#[derive(Debug, Default)]
pub struct NoSpin {
    counts: BTreeMap<ActorId, (u64, u32)>,
}

impl NoSpin {
    /// A machine's timer fired.
    ///
    /// # Errors
    /// If it fired too often within this second.
    pub fn handle_timer(&mut self, id: ActorId, now: Timestamp) -> Result<(), Broken> {
        let second = now.0 / 1_000_000_000;
        let (counted, count) = self.counts.entry(id).or_default();
        if *counted != second {
            (*counted, *count) = (second, 0);
        }
        *count += 1;
        if *count <= MOST {
            return Ok(());
        }
        Err(broken(
            LAW,
            format!("{id:?} had {MOST} timers in one second"),
        ))
    }
}

/// A busy node has some hundred timers a second; one that spins has as many as the clock allows.
const MOST: u32 = 3000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_timer_that_is_always_due_breaks_the_law() {
        let mut law = NoSpin::default();
        let mut now = Timestamp::ZERO;
        let broken = (0..MOST + 1).find(|_| {
            now += Duration::from_micros(200);
            law.handle_timer(ActorId::Node(0), now).is_err()
        });
        assert!(broken.is_some());
    }
}
