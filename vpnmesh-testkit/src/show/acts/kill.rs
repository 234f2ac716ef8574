//! Act 4: a primary dies without a warning.

use super::super::Halt;
use super::super::stage::Stage;

pub(super) fn play(stage: &mut Stage) -> Result<(), Halt> {
    let (victim, clients) = stage.busiest()?;
    let since = stage.mark(
        "kill -9",
        format!(
            "kill -9 {victim}, the primary of {}",
            super::names(&clients)
        ),
    );
    stage.kill(&victim)?;
    super::watch_takeover(stage, &victim, &clients, since)?;
    Ok(())
}
