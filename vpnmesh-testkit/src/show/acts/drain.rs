//! Act 2: an operator drains a primary, and nobody notices.

use std::time::Duration;

use super::super::Halt;
use super::super::stage::Stage;

pub(super) fn play(stage: &mut Stage) -> Result<(), Halt> {
    let (victim, clients) = stage.busiest()?;
    let since = stage.mark(
        "drain",
        format!(
            "the operator drains {victim}, the primary of {}",
            super::names(&clients)
        ),
    );
    stage.drain(&victim, true)?;
    for client in clients {
        let moved = stage.moved(client.name, &victim, since, PATIENCE)?;
        stage.tell(format!("{} was moved to {}", client.name, moved.to));
        let began = stage.moving(client.name, &victim, since).unwrap_or(since);
        stage.measure_move(client, began, moved.at);
        stage.check_return(client.name, &moved.to);
    }
    stage.settle()?;
    stage.drain(&victim, false)
}

const PATIENCE: Duration = Duration::from_secs(20);
