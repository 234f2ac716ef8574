//! Reports that wait for a controller: the newest of each kind, never more.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use vpnmesh_core::{Event, HealthReport, NodeId, NodeSample};

use crate::{AgentReport, Handover, SessionCounts};

/// Takes reports from any thread and gives them to one task.
#[derive(Default, Debug)]
pub(super) struct Mailbox {
    slots: Mutex<Slots>,
    filled: Notify,
}

#[derive(Default, Debug)]
struct Slots {
    events: VecDeque<Event>, // at most MAX_EVENTS
    sent: VecDeque<Event>,   // the last ones sent, at most MAX_EVENTS: a session may swallow them
    sample: Option<NodeSample>,
    sessions: Option<SessionCounts>,
    handover: Option<Handover>,
    health: BTreeMap<NodeId, HealthReport>, // at most MAX_PEERS
}

impl Mailbox {
    /// Takes a report; it replaces one of its kind about the same node.
    pub(super) fn put(&self, report: AgentReport) {
        let mut slots = self.slots();
        match report {
            AgentReport::Sample(sample) => slots.sample = Some(sample),
            AgentReport::Sessions(counts) => slots.sessions = Some(counts),
            AgentReport::Handover(handover) => slots.handover = Some(handover),
            AgentReport::Health(report) => {
                if slots.health.len() < MAX_PEERS || slots.health.contains_key(&report.about) {
                    slots.health.insert(report.about, report);
                }
            }
            AgentReport::Event(event) => {
                slots.sent.retain(|old| !is_about_the_same(old, &event));
                slots.events.retain(|old| !is_about_the_same(old, &event));
                push(&mut slots.events, event);
            }
        }
        drop(slots);
        self.filled.notify_one();
    }

    /// The next report: events before measurements.
    pub(super) async fn next(&self) -> AgentReport {
        loop {
            let filled = self.filled.notified();
            if let Some(report) = self.slots().take() {
                return report;
            }
            filled.await;
        }
    }

    /// A new session begins: events of the last one may not have arrived.
    pub(super) fn rewind(&self) {
        let mut slots = self.slots();
        let mut again = std::mem::take(&mut slots.sent);
        again.append(&mut slots.events);
        again
            .into_iter()
            .for_each(|event| push(&mut slots.events, event));
        drop(slots);
        self.filled.notify_one();
    }

    /// No call leaves the slots half changed, so a panic elsewhere does not matter.
    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn take(&mut self) -> Option<AgentReport> {
        if let Some(event) = self.events.pop_front() {
            push(&mut self.sent, event);
            return Some(AgentReport::Event(event));
        }
        let sample = self.sample.take().map(AgentReport::Sample);
        let health = || {
            self.health
                .pop_first()
                .map(|(_, report)| AgentReport::Health(report))
        };
        sample
            .or_else(health)
            .or_else(|| self.sessions.take().map(AgentReport::Sessions))
            .or_else(|| self.handover.take().map(AgentReport::Handover))
    }
}

/// At the bound the oldest goes.
fn push(events: &mut VecDeque<Event>, event: Event) {
    if events.len() >= MAX_EVENTS {
        events.pop_front();
    }
    events.push_back(event);
}

/// A later event about a move replaces an earlier one: only the outcome counts.
fn is_about_the_same(old: &Event, new: &Event) -> bool {
    match (old, new) {
        (
            Event::StandbyReady { node, standby } | Event::StandbyFailed { node, standby, .. },
            Event::StandbyReady {
                node: n,
                standby: s,
            }
            | Event::StandbyFailed {
                node: n,
                standby: s,
                ..
            },
        ) => (node, standby) == (n, s),
        (Event::NodeDrained { node }, Event::NodeDrained { node: n }) => node == n,
        _ => false,
    }
}

const MAX_EVENTS: usize = 64; // moves that a node takes part in at once, and then some
const MAX_PEERS: usize = 256; // nodes that one node watches

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vpnmesh_core::{StandbyFailure, Verdict};

    use super::*;

    fn health(about: u64, verdict: Verdict) -> AgentReport {
        AgentReport::Health(HealthReport {
            from: NodeId(1),
            about: NodeId(about),
            verdict,
            risk: None,
            path: None,
            own_delay: Duration::ZERO,
        })
    }

    #[tokio::test]
    async fn the_newest_of_each_kind_waits_and_events_go_first() {
        let mailbox = Mailbox::default();
        mailbox.put(AgentReport::Sample(NodeSample::default()));
        let newest = NodeSample {
            load: Some(2.0),
            ..NodeSample::default()
        };
        mailbox.put(AgentReport::Sample(newest.clone()));
        mailbox.put(health(2, Verdict::Silent));
        mailbox.put(health(2, Verdict::Well));
        let drained = Event::NodeDrained { node: NodeId(1) };
        mailbox.put(AgentReport::Event(drained));
        assert_eq!(mailbox.next().await, AgentReport::Event(drained));
        assert_eq!(mailbox.next().await, AgentReport::Sample(newest));
        assert_eq!(mailbox.next().await, health(2, Verdict::Well));
        assert_eq!(mailbox.slots().take(), None);
    }

    #[tokio::test]
    async fn a_new_session_hears_the_last_events_again_unless_they_are_overtaken() {
        let mailbox = Mailbox::default();
        let (node, standby) = (NodeId(1), NodeId(2));
        let ready = Event::StandbyReady { node, standby };
        mailbox.put(AgentReport::Event(ready));
        mailbox.next().await;
        mailbox.rewind();
        assert_eq!(mailbox.next().await, AgentReport::Event(ready));
        let reason = StandbyFailure::FellSick;
        let failed = Event::StandbyFailed {
            node,
            standby,
            reason,
        };
        mailbox.put(AgentReport::Event(failed));
        mailbox.rewind();
        assert_eq!(mailbox.next().await, AgentReport::Event(failed));
        assert_eq!(mailbox.slots().take(), None);
    }

    #[test]
    fn nothing_grows_without_bound() {
        let mailbox = Mailbox::default();
        for number in 0..1000 {
            mailbox.put(health(number, Verdict::Well));
            mailbox.put(AgentReport::Event(Event::NodeDrained {
                node: NodeId(number),
            }));
        }
        assert_eq!(mailbox.slots().health.len(), MAX_PEERS);
        assert_eq!(mailbox.slots().events.len(), MAX_EVENTS);
    }
}
