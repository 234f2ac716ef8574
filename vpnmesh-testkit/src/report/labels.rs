//! What of a timeline fits into the picture, and where.

use std::time::Duration;

use vpnmesh_core::Timestamp;

use super::{Timeline, Track};
use crate::traffic::Silence;

/// Mbit/s at the middle of each bucket from `start` on.
pub(super) fn throughput(track: &Track, start: Timestamp) -> Vec<(Timestamp, f64)> {
    let width = Duration::from_nanos(track.bytes.width_ns);
    let seconds = width.as_secs_f64();
    let mut at = track.bytes.from + width / 2;
    let mut points = Vec::new();
    for bytes in &track.bytes.bytes {
        if at >= start && seconds > 0.0 {
            points.push((at, *bytes as f64 * 8.0 / 1e6 / seconds));
        }
        at += width;
    }
    points
}

/// At most about `most` points: the mean of each group.
pub(super) fn thin(points: &[(Timestamp, f64)], most: usize) -> Vec<(Timestamp, f64)> {
    let group = points.len().div_ceil(most.max(1)).max(1);
    let mean = |group: &[(Timestamp, f64)]| {
        let sum: f64 = group.iter().map(|(_, rate)| rate).sum();
        (group[group.len() / 2].0, sum / group.len() as f64)
    };
    points.chunks(group).map(mean).collect()
}

/// The silences whose labels fit beside each other, the longest first.
pub(super) fn labelled(silences: &[Silence], x: impl Fn(&Silence) -> f64) -> Vec<Silence> {
    let mut longest: Vec<Silence> = silences.to_vec();
    longest.sort_by_key(|silence| std::cmp::Reverse(silence.span()));
    let mut shown: Vec<Silence> = Vec::new();
    for silence in longest {
        if shown
            .iter()
            .all(|other| (x(other) - x(&silence)).abs() >= LABEL)
        {
            shown.push(silence);
        }
    }
    shown
}

/// Each mark that finds a place, with the row in which its label does not touch another.
pub(super) fn mark_rows(timeline: &Timeline) -> Vec<(usize, usize)> {
    let span = timeline.end.since(timeline.start).as_secs_f64().max(1e-9);
    let mut ends: Vec<f64> = Vec::new(); // where the last label of each row ends; at most MARK_ROWS
    let mut rows = Vec::new();
    for (index, mark) in timeline.marks.iter().enumerate() {
        let x = mark.at.since(timeline.start).as_secs_f64() / span * (RIGHT - LEFT);
        let width = mark_width(&mark.label);
        let x = if LEFT + x + width > RIGHT {
            x - width
        } else {
            x
        };
        let row = ends.iter().position(|end| *end <= x).unwrap_or(ends.len());
        if row >= MARK_ROWS {
            continue;
        }
        if row == ends.len() {
            ends.push(0.0);
        }
        ends[row] = x + width;
        rows.push((index, row));
    }
    rows
}

/// How wide a mark is with its label.
pub(super) fn mark_width(label: &str) -> f64 {
    label.chars().count() as f64 * 6.4 + 16.0
}

/// The act's label in at most two lines; its number alone where that is all that fits.
pub(super) fn band_label(number: u32, name: &str, width: f64) -> Vec<String> {
    let fits = |text: &str| text.chars().count() as f64 * 6.7 <= width;
    let whole = format!("{number} · {name}");
    if fits(&whole) {
        return vec![whole];
    }
    let cuts = whole.match_indices(' ').map(|(at, _)| at);
    let halves = cuts.map(|at| (&whole[..at], &whole[at + 1..]));
    let best = halves
        .filter(|(a, b)| fits(a) && fits(b))
        .min_by_key(|(a, b)| a.len().abs_diff(b.len()));
    match best {
        Some((a, b)) => vec![a.to_owned(), b.to_owned()],
        None if width >= 4.0 => vec![number.to_string()],
        None => Vec::new(),
    }
}

/// Left edge of the time axis.
pub(super) const LEFT: f64 = 84.0;
/// Right edge of the time axis.
pub(super) const RIGHT: f64 = 1572.0;
/// Room for the label of a silence.
pub(super) const LABEL: f64 = 50.0;

const MARK_ROWS: usize = 6;

#[cfg(test)]
mod tests {
    use super::super::Mark;
    use super::*;

    fn ms(ms: u64) -> Timestamp {
        Timestamp(ms * 1_000_000)
    }

    #[test]
    fn a_label_takes_two_lines_or_shrinks_to_its_number() {
        assert_eq!(band_label(4, "kill -9", 200.0), ["4 · kill -9"]);
        assert_eq!(
            band_label(2, "planned drain", 80.0),
            ["2 · planned", "drain"]
        );
        assert_eq!(band_label(2, "planned drain", 10.0), ["2"]);
        assert!(band_label(2, "planned drain", 1.0).is_empty());
    }

    #[test]
    fn labels_that_would_touch_leave_the_longest() {
        let silence = |from, to| Silence {
            from: ms(from),
            to: ms(to),
            unsent: 0,
            open: false,
        };
        let silences = [silence(0, 60), silence(10, 300), silence(900, 980)];
        let shown = labelled(&silences, |it| it.from.0 as f64 / 1e6);
        assert_eq!(shown, [silences[1], silences[2]]);
    }

    #[test]
    fn marks_that_would_touch_take_another_row() {
        let mark = |at, label: &str| Mark {
            at: ms(at),
            label: label.into(),
        };
        let timeline = Timeline {
            end: ms(10_000),
            marks: vec![mark(5000, "kill -9 n2"), mark(5100, "takeover")],
            ..Timeline::default()
        };
        assert_eq!(mark_rows(&timeline), [(0, 0), (1, 1)]);
    }

    #[test]
    fn long_series_are_thinned_to_means() {
        let points: Vec<(Timestamp, f64)> = (0..1000).map(|i| (ms(i), (i % 2) as f64)).collect();
        let thinned = thin(&points, 100);
        assert_eq!(thinned.len(), 100);
        assert!(thinned.iter().all(|(_, rate)| (*rate - 0.5).abs() < 1e-9));
    }
}
