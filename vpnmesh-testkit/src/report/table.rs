//! The promises as a table for a terminal.

use super::{Promise, Report};

/// The promises of `report` as a plain text table, with a last line that says how it went.
#[must_use]
pub fn table(report: &Report) -> String {
    let head = ["act", "promise", "measured", "limit", ""].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(head)
        .chain(report.promises.iter().map(row))
        .collect();
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths = [0, 1, 2, 3].map(width);
    let mut out = String::new();
    for (index, [act, name, value, limit, held]) in rows.iter().enumerate() {
        let [a, n, v, l] = widths;
        let line = format!("{act:<a$}  {name:<n$}  {value:>v$}  {limit:>l$}  {held}");
        out.push_str(line.trim_end());
        out.push('\n');
        if index == 0 {
            out.push_str(&"─".repeat(a + n + v + l + 6 + 8));
            out.push('\n');
        }
    }
    out.push_str(&verdict(report));
    out
}

fn row(promise: &Promise) -> [String; 5] {
    let held = if promise.held { "held" } else { "BROKEN" };
    let unit = &promise.unit;
    let value = match promise.value {
        Some(_) => format!("{} {unit}", promise.value_text()),
        None => promise.value_text(),
    };
    [
        promise.act.clone(),
        promise.name.clone(),
        value.trim_end().to_owned(),
        format!("{} {unit}", promise.limit_text())
            .trim_end()
            .to_owned(),
        held.to_owned(),
    ]
}

fn verdict(report: &Report) -> String {
    let all = report.promises.len();
    let held = report
        .promises
        .iter()
        .filter(|promise| promise.held)
        .count();
    let seconds = report.facts.duration_ms as f64 / 1000.0;
    match (report.ok, all) {
        (true, _) => format!("all {all} promises held in {seconds:.0} s\n"),
        (false, 0) => "nothing was promised, so nothing held\n".to_owned(),
        (false, _) => format!(
            "{} of {all} promises BROKEN in {seconds:.0} s\n",
            all - held
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Facts;
    use super::*;

    #[test]
    fn columns_line_up_and_what_broke_is_loud() {
        let promises = vec![
            Promise::none("all", "TCP connections broken", 0, "connections"),
            Promise::at_most("4", "silence, maximum", Some(312.4), 340.0, "ms"),
            Promise::at_most("5", "zombie packets accepted", None, 0.0, "packets"),
        ];
        let report = Report::new(
            promises,
            Facts {
                duration_ms: 61_000,
                ..Facts::default()
            },
        );
        assert_eq!(
            table(&report),
            "\
act  promise                       measured          limit
──────────────────────────────────────────────────────────────────
all  TCP connections broken   0 connections  0 connections  held
4    silence, maximum              312.4 ms         340 ms  held
5    zombie packets accepted   not measured      0 packets  BROKEN
1 of 3 promises BROKEN in 61 s
"
        );
    }
}
