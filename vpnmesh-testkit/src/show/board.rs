//! What all members said so far, and waiting for what they will say.
//!
//! Members print one JSON object a line. Each line becomes an [`Event`] or, if its event is
//! `report`, replaces the member's newest report. Waiting is by condition, never by time alone.

use std::collections::{BTreeMap, VecDeque};
use std::io::BufRead;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use vpnmesh_core::Timestamp;

/// One thing that a member said.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Event {
    /// When, on the clock that all processes share.
    pub(super) at: Timestamp,
    /// Who.
    pub(super) member: String,
    /// What, in snake case.
    pub(super) name: String,
    /// The whole line.
    pub(super) record: Value,
}

/// The newest report of a member.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Report {
    /// When.
    pub(super) at: Timestamp,
    /// The whole line.
    pub(super) record: Value,
}

/// What all members said.
#[derive(Clone, Default, Debug)]
pub(super) struct Said {
    events: VecDeque<Event>, // in order of arrival; at most EVENTS, the oldest go first
    reports: BTreeMap<String, Report>,
    strange: BTreeMap<String, VecDeque<String>>, // lines that are no records; at most STRANGE each
}

/// Takes in what members say, and lets others wait for it.
#[derive(Default, Debug)]
pub(super) struct Board {
    said: Mutex<Said>,
    changed: Condvar,
}

impl Event {
    /// A text field of the record; empty if there is none.
    #[must_use]
    pub(super) fn text(&self, field: &str) -> &str {
        self.record[field].as_str().unwrap_or_default()
    }
}

impl Said {
    /// A line of `member`.
    pub(super) fn handle_line(&mut self, member: &str, line: &str) {
        let record = serde_json::from_str::<Value>(line).ok();
        let parts = record.as_ref().and_then(|record| {
            Some((
                record["t_ns"].as_u64()?,
                record["event"].as_str()?.to_owned(),
            ))
        });
        match (parts, record) {
            (Some((at, name)), Some(record)) if name == "report" => {
                let at = Timestamp(at);
                self.reports
                    .insert(member.to_owned(), Report { at, record });
            }
            (Some((at, name)), Some(record)) => self.push(Event {
                at: Timestamp(at),
                member: member.to_owned(),
                name,
                record,
            }),
            _ => self.push_strange(member, line),
        }
    }

    /// The reports of `member` are of a life that has ended.
    pub(super) fn forget_report(&mut self, member: &str) {
        self.reports.remove(member);
    }

    /// Everything said from `since` on, in order of arrival.
    pub(super) fn since(&self, since: Timestamp) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |event| event.at >= since)
    }

    /// The first thing that `member` said under this name from `since` on.
    #[must_use]
    pub(super) fn first(&self, member: &str, name: &str, since: Timestamp) -> Option<&Event> {
        self.since(since)
            .find(|event| event.member == member && event.name == name)
    }

    /// The newest report of `member`.
    #[must_use]
    pub(super) fn report(&self, member: &str) -> Option<&Report> {
        self.reports.get(member)
    }

    /// A field of the newest report of `member`; null if there is none.
    #[must_use]
    pub(super) fn field(&self, member: &str, field: &str) -> &Value {
        self.report(member)
            .map_or(&Value::Null, |report| &report.record[field])
    }

    /// The newest lines of `member` that are no records: what it said before it gave up.
    #[must_use]
    pub(super) fn strange(&self, member: &str) -> String {
        let lines = self.strange.get(member);
        let lines: Vec<&str> = lines.into_iter().flatten().map(String::as_str).collect();
        lines.join("; ")
    }

    /// The holder of a client's session, by its newest report.
    #[must_use]
    pub(super) fn holder(&self, client: &str) -> Option<String> {
        let active = self.field(client, "active").as_str()?;
        Some(active.to_owned())
    }

    /// The shadows that a client may activate, by its newest report; its holder is none of them.
    #[must_use]
    pub(super) fn shadows(&self, client: &str) -> Vec<String> {
        let holder = self.holder(client);
        let roster = self.field(client, "roster").as_array();
        let names = roster.into_iter().flatten().filter_map(Value::as_str);
        let shadows = names.filter(|name| holder.as_deref() != Some(name));
        shadows.map(str::to_owned).collect()
    }

    fn push(&mut self, event: Event) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn push_strange(&mut self, member: &str, line: &str) {
        let lines = self.strange.entry(member.to_owned()).or_default();
        if lines.len() == STRANGE {
            lines.pop_front();
        }
        lines.push_back(line.chars().take(200).collect());
    }
}

impl Board {
    /// What was said until now. Nobody can say more while it is held.
    pub(super) fn look(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line of `member`.
    pub(super) fn handle_line(&self, member: &str, line: &str) {
        self.look().handle_line(member, line);
        self.changed.notify_all();
    }

    /// Takes in all lines of `member` until its output ends. `each` sees every line first.
    pub(super) fn read(&self, member: &str, output: impl BufRead, mut each: impl FnMut(&str)) {
        for line in output.lines() {
            let Ok(line) = line else { return };
            each(&line);
            self.handle_line(member, &line);
        }
    }

    /// Waits until `seen` finds what it looks for, at most `patience`.
    pub(super) fn wait<T>(
        &self,
        patience: Duration,
        mut seen: impl FnMut(&Said) -> Option<T>,
    ) -> Option<T> {
        let until = Instant::now() + patience;
        let mut said = self.look();
        loop {
            if let Some(found) = seen(&said) {
                return Some(found);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let waited = self.changed.wait_timeout(said, left);
            said = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

// An hour of ten members that each say one thing a second.
const EVENTS: usize = 36_000;
const STRANGE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lines: &[(&str, &str)]) -> Said {
        let mut said = Said::default();
        for (member, line) in lines {
            said.handle_line(member, line);
        }
        said
    }

    #[test]
    fn a_report_replaces_the_one_before_and_is_no_event() {
        let said = said(&[
            (
                "c1",
                r#"{"t_ns":1,"event":"report","active":"n1","roster":["n2","n3"]}"#,
            ),
            (
                "c1",
                r#"{"t_ns":2,"event":"report","active":"n2","roster":["n2","n3"]}"#,
            ),
        ]);
        assert_eq!(said.holder("c1").as_deref(), Some("n2"));
        assert_eq!(said.shadows("c1"), ["n3"]);
        assert_eq!(said.since(Timestamp::ZERO).count(), 0);
        assert_eq!(said.holder("c2"), None);
    }

    #[test]
    fn events_are_found_by_member_name_and_time() {
        let said = said(&[
            ("c1", r#"{"t_ns":5,"event":"taken_over","to":"n2"}"#),
            ("c2", r#"{"t_ns":6,"event":"taken_over","to":"n3"}"#),
            ("c1", r#"{"t_ns":9,"event":"taken_over","to":"n4"}"#),
        ]);
        let to = |since| {
            said.first("c1", "taken_over", Timestamp(since))
                .map(|it| it.text("to"))
        };
        assert_eq!([to(0), to(6), to(10)], [Some("n2"), Some("n4"), None]);
    }

    #[test]
    fn what_is_no_record_is_kept_apart() {
        let said = said(&[("n1", "port 7777 is taken"), ("n1", r#"{"event":"x"}"#)]);
        assert_eq!(said.strange("n1"), "port 7777 is taken; {\"event\":\"x\"}");
        assert_eq!(said.since(Timestamp::ZERO).count(), 0);
    }

    #[test]
    fn waiting_ends_with_the_condition_or_with_patience() {
        let board = Board::default();
        std::thread::scope(|scope| {
            scope.spawn(|| board.handle_line("c1", r#"{"t_ns":5,"event":"detached"}"#));
            let seen = board.wait(Duration::from_secs(20), |said| {
                said.first("c1", "detached", Timestamp::ZERO)
                    .map(|event| event.at)
            });
            assert_eq!(seen, Some(Timestamp(5)));
        });
        assert_eq!(board.wait(Duration::ZERO, |_| None::<()>), None);
    }
}
