//! Act 5: a primary freezes, its sessions are taken over, and it wakes up as a zombie.
//!
//! The proof does not rest on the word of the mesh: a datagram that was sent before the takeover
//! and reaches an application after the thaw can only have gone through the zombie, as no healthy
//! path holds a packet for so long.

use std::time::Duration;

use super::super::Halt;
use super::super::evidence::ZombieSample;
use super::super::stage::Stage;
use crate::traffic::Window;

pub(super) fn play(stage: &mut Stage) -> Result<(), Halt> {
    let (victim, clients) = stage.busiest()?;
    let fenced_before = stage.fenced();
    let since = stage.mark(
        "SIGSTOP",
        format!(
            "SIGSTOP {victim}, the primary of {}",
            super::names(&clients)
        ),
    );
    stage.freeze(&victim)?;
    super::watch_takeover(stage, &victim, &clients, since)?;
    let taken_over = since + FROZEN;
    stage.measure_for(FROZEN.saturating_sub(crate::traffic::monotonic().since(since)));
    let thawed = stage.mark(
        "SIGCONT",
        format!("SIGCONT {victim}: it still believes to be the primary"),
    );
    stage.thaw(&victim)?;
    stage.measure_for(SPEAKS);
    let mut accepted = 0;
    for client in &clients {
        let before_the_takeover = Window::new(since - FROZEN, taken_over - MARGIN);
        let seen = stage.seen(client, before_the_takeover)?;
        accepted += seen.arrived_late(client.ordinal().into(), thawed);
    }
    let fenced = stage.fenced().saturating_sub(fenced_before);
    stage.tell(format!(
        "of the zombie's packets {accepted} were accepted, {fenced} fenced"
    ));
    let moment = stage.moment(&victim);
    stage.evidence.zombies.push(ZombieSample {
        moment,
        accepted,
        fenced,
    });
    // The mesh took it for dead and removed it: a new life lets it in sooner than living on.
    stage.kill(&victim)
}

/// The freeze lasts at least so long: what is held back is told from what is slow.
const FROZEN: Duration = Duration::from_millis(2000);
/// No healthy path takes this long.
const MARGIN: Duration = Duration::from_millis(500);
/// So long the zombie may try; reports of what was fenced come every 250 ms.
const SPEAKS: Duration = Duration::from_millis(1500);
