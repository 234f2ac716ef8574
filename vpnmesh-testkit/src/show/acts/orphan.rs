//! Act 6: the controller is dead. A primary still hands over softly, and another one dies.

use super::super::Halt;
use super::super::stage::Stage;

pub(super) fn play(stage: &mut Stage) -> Result<(), Halt> {
    stage.kill_controller()?;
    let (failing, clients) = stage.busiest()?;
    stage.tell(format!(
        "no controller: {failing} must notice by itself that it fails"
    ));
    super::degrade::degrade(stage, &failing, &clients)?;
    stage.mark(
        "dies",
        format!("{failing} dies (SIGKILL), long after it was left"),
    );
    stage.kill(&failing)?;
    stage.covered()?;
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
