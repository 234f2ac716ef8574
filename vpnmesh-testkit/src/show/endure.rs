//! The endurance run: nothing happens for long, on lossy lines and busy processors, and nobody may
//! take over anything.

use std::time::Duration;

use super::Halt;
use super::layout::{self, Part};
use super::stage::Stage;
use crate::traffic::monotonic;

/// Plays it for `span`.
pub(super) fn play(stage: &mut Stage, span: Duration) -> Result<(), Halt> {
    for client in layout::all(Part::Client) {
        for node in layout::all(Part::Node) {
            let link = layout::healthy(client, node).loss(LOSS);
            let set = stage.lab.link(client.name, node.name, link);
            set.map_err(|error| Halt::new("make a line lossy", error))?;
        }
    }
    let nodes: Vec<&str> = layout::all(Part::Node).map(|node| node.name).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for core in 0..cores {
        stage.crew.burn(nodes[core % nodes.len()])?;
    }
    let since = stage.mark(
        "load",
        format!(
            "{:.0} % loss to every client, {cores} processes that use up {cores} processors",
            LOSS * 100.0
        ),
    );
    let mut counted = 0;
    while monotonic().since(since) < span {
        stage.measure_for(LOOK.min(span.saturating_sub(monotonic().since(since))));
        let events = layout::all(Part::Client).flat_map(|client| {
            let said = stage.board.look();
            let taken = said
                .since(since)
                .filter(|event| event.member == client.name && is_loss(&event.name));
            taken
                .map(|event| event.record.to_string())
                .collect::<Vec<_>>()
        });
        let events: Vec<String> = events.collect();
        for event in &events[counted..] {
            stage.tell(event.clone());
        }
        counted = events.len();
        stage.evidence.false_takeovers = counted as u64;
        stage.count_connections()?;
        stage.evidence.endured = monotonic().since(since);
    }
    Ok(())
}

/// Whether a client says that it lost a holder.
fn is_loss(event: &str) -> bool {
    matches!(event, "taken_over" | "detached")
}

const LOSS: f64 = 0.01;
const LOOK: Duration = Duration::from_secs(10);
