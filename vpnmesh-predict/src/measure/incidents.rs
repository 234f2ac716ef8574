//! Alarms of a machine against its labelled incidents.

use std::ops::Range;

/// The labelled incidents of one machine, and how alarms are matched to them.
#[derive(Clone, PartialEq, Debug)]
pub struct Incidents {
    spans: Vec<Range<usize>>, // ascending, apart by more than the gap
    rows: usize,
    early: usize,
    late: usize,
}

/// Alarm episodes of one machine: first row and the row after the last.
#[derive(Clone, PartialEq, Debug)]
pub struct Alarms(pub Vec<Range<usize>>);

/// What the alarms of one or several machines were worth.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Tally {
    /// Labelled incidents.
    pub incidents: usize,
    /// Incidents at which an alarm began in time.
    pub detected: usize,
    /// Incidents before whose start an alarm began.
    pub warned: usize,
    /// Alarms that belong to no incident.
    pub false_alarms: usize,
    /// Rows outside of incidents.
    pub normal_rows: usize,
}

impl Incidents {
    /// Labelled rows, apart by at most `gap` rows, are one incident. An alarm belongs to it that
    /// begins at most `early` rows before its start and no later than its end; within `late` rows
    /// after the end an alarm is not false.
    #[must_use]
    pub fn of(labels: &[bool], gap: usize, early: usize, late: usize) -> Self {
        Self {
            spans: episodes(labels, gap),
            rows: labels.len(),
            early,
            late,
        }
    }

    /// Spans of the incidents, in rows.
    #[must_use]
    pub fn spans(&self) -> &[Range<usize>] {
        &self.spans
    }

    /// Counts what `alarms` found.
    #[must_use]
    pub fn judge(&self, alarms: &Alarms) -> Tally {
        let starts = || alarms.0.iter().map(|alarm| alarm.start);
        let within = |low: usize, high: usize| starts().any(|start| low <= start && start < high);
        let mut tally = Tally {
            incidents: self.spans.len(),
            normal_rows: self.rows - self.spans.iter().map(Range::len).sum::<usize>(),
            ..Tally::default()
        };
        for span in &self.spans {
            let from = span.start.saturating_sub(self.early);
            tally.detected += usize::from(within(from, span.end));
            tally.warned += usize::from(within(from, span.start));
        }
        let belongs = |start: usize| {
            self.spans
                .iter()
                .any(|span| start + self.early >= span.start && start < span.end + self.late)
        };
        tally.false_alarms = starts().filter(|start| !belongs(*start)).count();
        tally
    }
}

impl Alarms {
    /// Rows on alarm become episodes; gaps of at most `gap` rows are bridged.
    #[must_use]
    pub fn of(alarmed: &[bool], gap: usize) -> Self {
        Self(episodes(alarmed, gap))
    }
}

impl Tally {
    /// Adds the counts of another machine.
    pub fn add(&mut self, other: Self) {
        self.incidents += other.incidents;
        self.detected += other.detected;
        self.warned += other.warned;
        self.false_alarms += other.false_alarms;
        self.normal_rows += other.normal_rows;
    }

    /// Share of the incidents detected.
    #[must_use]
    pub fn recall(&self) -> f64 {
        self.detected as f64 / self.incidents.max(1) as f64
    }

    /// Share of the incidents warned of before they began.
    #[must_use]
    pub fn early(&self) -> f64 {
        self.warned as f64 / self.incidents.max(1) as f64
    }

    /// False alarms per machine-day of normal time.
    #[must_use]
    pub fn false_per_day(&self, rows_per_day: f64) -> f64 {
        self.false_alarms as f64 * rows_per_day / self.normal_rows.max(1) as f64
    }
}

fn episodes(rows: &[bool], gap: usize) -> Vec<Range<usize>> {
    let mut spans: Vec<Range<usize>> = Vec::new();
    for (at, _) in rows.iter().enumerate().filter(|(_, on)| **on) {
        match spans.last_mut() {
            Some(last) if at - last.end <= gap => last.end = at + 1,
            _ => spans.push(at..at + 1),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(on: &[usize]) -> Vec<bool> {
        (0..100).map(|at| on.contains(&at)).collect()
    }

    #[test]
    fn an_alarm_that_is_always_on_detects_nothing() {
        let incidents = Incidents::of(&rows(&[50, 51, 52, 53, 54, 55, 56, 57, 62, 63]), 5, 10, 5);
        assert_eq!(incidents.spans()[0], 50..64);
        let tally = incidents.judge(&Alarms::of(&[true; 100], 5));
        assert_eq!((tally.detected, tally.false_alarms), (0, 1));
    }

    #[test]
    fn an_alarm_before_the_start_is_a_warning_and_one_just_behind_is_not_false() {
        let incidents = Incidents::of(&rows(&[50, 53, 56, 59]), 5, 10, 5);
        let tally = incidents.judge(&Alarms(vec![41..42, 62..63, 80..81]));
        assert_eq!(
            (tally.detected, tally.warned, tally.false_alarms),
            (1, 1, 1)
        );
        assert!((tally.false_per_day(90.0) - 1.0).abs() < 1e-12);
    }
}
