//! Single metrics with labelled windows.

use std::ops::Range;
use std::path::Path;

use crate::Error;
use crate::store::{self, Table};

/// One file.
#[derive(Clone, Debug)]
pub struct Single {
    /// Folder and name.
    pub name: String,
    /// Minutes since some day.
    pub minutes: Vec<f64>,
    /// The metric.
    pub values: Vec<f64>,
    /// Labelled windows, in rows.
    pub windows: Vec<Range<usize>>,
}

/// Reads all files under `folder`, with the windows of `windows.json`.
///
/// # Errors
/// [`Error::NoData`] without files or windows.
pub fn read(folder: &Path) -> Result<Vec<Single>, Error> {
    let no_data = |missing| Error::NoData {
        path: folder.to_owned(),
        missing,
    };
    let text = store::unpacked(&folder.join("windows.json"))?;
    let windows: serde_json::Value =
        serde_json::from_str(&text).map_err(|_| no_data("a readable windows.json"))?;
    let mut found = Vec::new();
    for category in store::files(folder, |_| true)?
        .into_iter()
        .filter(|path| path.is_dir())
    {
        for path in store::files(&category, |name| name.contains(".csv"))? {
            let table = Table::read(&path)?;
            let (stamp, value) = (table.required("timestamp")?, table.required("value")?);
            let end = |path: &Path| {
                path.file_name()
                    .and_then(|name| name.to_str())
                    .unwrap_or_default()
                    .to_owned()
            };
            let name = format!("{}/{}", end(&category), end(&path).trim_end_matches(".gz"));
            let minutes: Vec<f64> = (0..table.rows())
                .map(|row| minutes(table.text(row, stamp)))
                .collect();
            let spans = windows
                .get(&name)
                .and_then(serde_json::Value::as_array)
                .cloned()
                .unwrap_or_default();
            let windows = spans.iter().filter_map(|span| {
                let edge = |at: usize| {
                    span.get(at)
                        .and_then(serde_json::Value::as_str)
                        .map(self::minutes)
                };
                let (from, to) = (edge(0)?, edge(1)?);
                let begin = self::row_from(&minutes, from);
                let end = minutes.iter().rposition(|m| *m <= to + 1e-6)? + 1;
                Some(begin..end)
            });
            let mut windows: Vec<Range<usize>> = windows.collect();
            windows.sort_by_key(|window| window.start);
            found.push(Single {
                name,
                windows,
                values: table.numbers(value),
                minutes,
            });
        }
    }
    if found.is_empty() {
        Err(no_data("CATEGORY/NAME.csv.gz"))
    } else {
        Ok(found)
    }
}

fn row_from(minutes: &[f64], from: f64) -> usize {
    minutes
        .iter()
        .position(|m| *m >= from - 1e-6)
        .unwrap_or(minutes.len())
}

/// Minutes of `2014-04-10 07:15:00`, counted from the year 0.
pub(crate) fn minutes(stamp: &str) -> f64 {
    let number = |from: usize, to: usize| {
        stamp
            .get(from..to)
            .and_then(|t| t.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    // Days from a civil date, after Hinnant.
    let year = if month <= 2.0 { year - 1.0 } else { year };
    let era = (year / 400.0).floor();
    let of_era = year - era * 400.0;
    let shifted = if month > 2.0 {
        month - 3.0
    } else {
        month + 9.0
    };
    let of_year = ((153.0 * shifted + 2.0) / 5.0).floor() + day - 1.0;
    let days = era * 146_097.0 + of_era * 365.0 + (of_era / 4.0).floor() - (of_era / 100.0).floor()
        + of_year;
    days * 1440.0 + number(11, 13) * 60.0 + number(14, 16) + number(17, 19) / 60.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leap_day_has_1440_minutes() {
        assert_eq!(
            minutes("2016-03-01 00:00:00") - minutes("2016-02-28 00:00:00"),
            2880.0
        );
        assert_eq!(
            minutes("2014-04-10 07:15:00.000000") - minutes("2014-04-10 00:00:00"),
            435.0
        );
    }
}
