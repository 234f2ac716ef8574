//! Act 1: nothing happens, and that is measured.

use std::time::Duration;

use super::super::Halt;
use super::super::layout::{self, Part};
use super::super::stage::Stage;

pub(super) fn play(stage: &mut Stage) -> Result<(), Halt> {
    stage.tell("downloads, requests, heartbeats and datagrams through the tunnels");
    let window = stage.measure_for(STEADY);
    for client in layout::all(Part::Client) {
        let seen = stage.window(client.name, window)?;
        let rtt = seen.heartbeat.rtt_p50_ns.unwrap_or(0) as f64 / 1e6;
        let longest = seen
            .heartbeat
            .longest
            .map_or(0.0, |it| it.span().as_secs_f64() * 1e3);
        stage.tell(format!(
            "{}: {} requests, round trip {rtt:.1} ms, longest silence {longest:.0} ms, via {}",
            client.name,
            seen.http.answered,
            stage.holder(client.name)?,
        ));
    }
    Ok(())
}

const STEADY: Duration = Duration::from_secs(5);
