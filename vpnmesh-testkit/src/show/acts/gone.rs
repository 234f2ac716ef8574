//! Act 7: a primary and all its shadows die at once, with the controller dead.
//!
//! Nobody is left who knows the session. The client finds another member by its signed membership
//! and brings its inner address along, so TCP goes on where it stood.

use std::time::Duration;

use super::super::Halt;
use super::super::stage::Stage;
use crate::traffic::Window;

pub(super) fn play(stage: &mut Stage) -> Result<(), Halt> {
    stage.kill_controller()?;
    let (primary, clients) = stage.busiest()?;
    let client = clients[0];
    let mut victims = stage.board.look().shadows(client.name);
    victims.insert(0, primary);
    let since = stage.mark(
        "all holders",
        format!(
            "kill -9 {}: all that know the session of {}",
            victims.join(", "),
            client.name
        ),
    );
    for victim in &victims {
        stage.kill(victim)?;
    }
    let what = format!("{} to find another member", client.name);
    let node = stage.wait(&what, PATIENCE, |said| {
        let event = said.first(client.name, "attached", since)?;
        Some(event.text("node").to_owned())
    })?;
    let after = stage.measure_for(AFTER);
    let sample = stage.silence(client.name, Window::new(since, after.to), after)?;
    stage.tell(format!(
        "{} found {node} and goes on after {:.2} s",
        client.name,
        sample.silence.as_secs_f64(),
    ));
    stage.evidence.cut_off.push(sample);
    stage.check_return(client.name, &node);
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(20);
/// TCP waits longer and longer before it tries again: it needs a while after the gap.
const AFTER: Duration = Duration::from_millis(2500);
