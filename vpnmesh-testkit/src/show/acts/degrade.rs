//! Act 3: a primary gets worse and worse. It is left before it dies.
//!
//! Its line to clients and sites gets longer once, before anything is measured; its line to the
//! other nodes loses more and more packets, and its processor is used up. So the mesh has every
//! reason to leave it, while a datagram that is lost can only have been lost by the move.

use std::time::Duration;

use super::super::Halt;
use super::super::layout::{self, Part, Place};
use super::super::stage::Stage;
use crate::lab::Link;
use crate::traffic::monotonic;

pub(super) fn play(stage: &mut Stage) -> Result<(), Halt> {
    let (victim, clients) = stage.busiest()?;
    degrade(stage, &victim, &clients)?;
    let at = stage.mark(
        "dies",
        format!("{victim} dies (SIGKILL), long after it was left"),
    );
    stage.kill(&victim)?;
    let after = stage.measure_for(AFTER_DEATH);
    for client in &clients {
        let seen = stage.window(client.name, after)?;
        let longest = seen
            .heartbeat
            .longest
            .map_or(0.0, |it| it.span().as_secs_f64() * 1e3);
        stage.tell(format!(
            "{} saw no more than {longest:.0} ms of silence",
            client.name
        ));
        let takeover = stage
            .board
            .look()
            .first(client.name, "taken_over", at)
            .is_some();
        if takeover {
            stage.evidence.hit_by_death += 1;
        }
    }
    Ok(())
}

/// Makes `victim` worse until all its clients have left it.
pub(super) fn degrade(
    stage: &mut Stage,
    victim: &str,
    clients: &[&'static Place],
) -> Result<(), Halt> {
    let since = stage.mark(
        "degrades",
        format!("{victim} begins to fail: latency, loss, processor"),
    );
    slower(stage, victim)?;
    stage.measure_for(MEASURED);
    stage.crew.burn(victim)?;
    let first_step = monotonic();
    let mut step = 0;
    let mut steps: Vec<Option<super::Taken>> = vec![None; clients.len()];
    while steps.iter().any(Option::is_none) {
        if step < STEPS {
            step += 1;
            worse(stage, victim, step)?;
        }
        for (client, moved) in clients.iter().zip(&mut steps) {
            if moved.is_none() {
                *moved = stage.moved(client.name, victim, since, STEP).ok();
            }
        }
        if monotonic().since(first_step) > PATIENCE {
            return Err(Halt::Missing(format!("the mesh to leave {victim}")));
        }
    }
    for line in stage.decisions(victim, since) {
        stage.tell(line);
    }
    for (client, moved) in clients.iter().zip(steps.into_iter().flatten()) {
        let began = stage.moving(client.name, victim, since).unwrap_or(moved.at);
        stage.tell(format!(
            "{} was moved to {} in steps over {:.1} s",
            client.name,
            moved.to,
            moved.at.since(began).as_secs_f64(),
        ));
        stage.measure_move(client, began, moved.at);
        stage.check_return(client.name, &moved.to);
    }
    stage.settle()
}

/// A longer line to clients and sites.
fn slower(stage: &Stage, victim: &str) -> Result<(), Halt> {
    let others = layout::all(Part::Client).chain(layout::all(Part::Site));
    others.into_iter().try_for_each(|other| {
        set(stage, victim, other, |link| Link {
            delay: link.delay + LONGER,
            ..link
        })
    })
}

/// A longer line to the other nodes and the controller that loses more.
fn worse(stage: &Stage, victim: &str, step: u32) -> Result<(), Halt> {
    let others = layout::all(Part::Node).chain(layout::all(Part::Controller));
    let loss = LOSS_STEP * f64::from(step);
    let delay = DELAY_STEP * step;
    others
        .filter(|other| other.name != victim)
        .try_for_each(|other| {
            set(stage, victim, other, |link| {
                Link {
                    delay: link.delay + delay,
                    ..link
                }
                .loss(loss)
            })
        })
}

fn set(
    stage: &Stage,
    victim: &str,
    other: &Place,
    change: impl Fn(Link) -> Link,
) -> Result<(), Halt> {
    let Some(here) = layout::find(victim) else {
        return Err(Halt::Missing(format!("{victim} in the layout")));
    };
    let link = change(layout::healthy(here, other));
    let set = stage.lab.link(victim, other.name, link);
    set.map_err(|error| Halt::new(format!("change the line of {victim}"), error))
}

const LONGER: Duration = Duration::from_millis(4);
/// The longer line is measured for so long before anything else happens.
const MEASURED: Duration = Duration::from_millis(1500);
const STEP: Duration = Duration::from_millis(400);
const STEPS: u32 = 20;
const LOSS_STEP: f64 = 0.01;
const DELAY_STEP: Duration = Duration::from_millis(4);
const PATIENCE: Duration = Duration::from_secs(40);
const AFTER_DEATH: Duration = Duration::from_millis(1000);
