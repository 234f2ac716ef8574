//! A report as one page of HTML with plots in SVG, without scripts.

use std::fmt::Write as _;

use super::report::{Finding, Report};

/// Lines over a pair of axes.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// What the axes mean: across, then up.
    pub axes: [&'static str; 2],
    /// Name and points of each line.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

impl Plot {
    /// Precision over recall.
    #[must_use]
    pub fn precision_recall(scores: &[f64], labels: &[bool]) -> Self {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let positives = labels.iter().filter(|label| **label).count().max(1) as f64;
        let (mut hits, mut points) = (0.0, Vec::new());
        let step = (scores.len() / POINTS).max(1);
        for (rank, at) in order.into_iter().enumerate() {
            hits += f64::from(labels[at]);
            if rank % step == 0 || rank < POINTS {
                points.push((hits / positives, hits / (rank + 1) as f64));
            }
        }
        Self {
            title: "precision by recall".to_owned(),
            axes: ["recall", "precision"],
            lines: vec![("ours".to_owned(), points)],
        }
    }

    /// What came by what was said, in ten bins of equally many.
    #[must_use]
    pub fn calibration(said: &[f64], labels: &[bool]) -> Self {
        let mut order: Vec<usize> = (0..said.len()).collect();
        order.sort_by(|a, b| said[*a].total_cmp(&said[*b]));
        let points = order.chunks(said.len().div_ceil(10).max(1)).map(|bin| {
            let count = bin.len() as f64;
            let said = bin.iter().map(|at| said[*at]).sum::<f64>() / count;
            (
                said,
                bin.iter().filter(|at| labels[**at]).count() as f64 / count,
            )
        });
        Self {
            title: "calibration".to_owned(),
            axes: ["said", "came"],
            lines: vec![
                ("ours".to_owned(), points.collect()),
                ("ideal".to_owned(), vec![(0.0, 0.0), (1.0, 1.0)]),
            ],
        }
    }

    /// The plot as an SVG element.
    #[must_use]
    pub fn svg(&self) -> String {
        let points = || {
            self.lines
                .iter()
                .flat_map(|(_, points)| points)
                .filter(|(x, y)| x.is_finite() && y.is_finite())
        };
        let range = |pick: fn(&(f64, f64)) -> f64| {
            let (low, high) = points()
                .map(pick)
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                    (low.min(value), high.max(value))
                });
            if low < high {
                (low, high)
            } else {
                (low.min(0.0), low.max(0.0) + 1.0)
            }
        };
        let ((left, right), (bottom, top)) = (range(|p| p.0), range(|p| p.1));
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">"
        );
        let _ = write!(
            svg,
            "<rect x=\"50\" y=\"10\" width=\"{INNER}\" height=\"{TALL}\" fill=\"none\" stroke=\"#bbb\"/>"
        );
        for (at, (name, points)) in self.lines.iter().enumerate() {
            let color = COLORS[at % COLORS.len()];
            let mut path = String::new();
            for (x, y) in points
                .iter()
                .filter(|(x, y)| x.is_finite() && y.is_finite())
            {
                let x = 50.0 + (x - left) / (right - left) * INNER;
                let y = 10.0 + (top - y) / (top - bottom) * TALL;
                let _ = write!(path, "{x:.1},{y:.1} ");
            }
            let _ = write!(
                svg,
                "<polyline points=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\"/>"
            );
            let y = 26 + 14 * at;
            let _ = write!(
                svg,
                "<text x=\"60\" y=\"{y}\" fill=\"{color}\">{}</text>",
                escaped(name)
            );
        }
        let base = 10.0 + TALL;
        let [across, up] = self.axes;
        let _ = write!(
            svg,
            "<text x=\"50\" y=\"{:.0}\">{left:.3}</text><text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{right:.3}</text>",
            base + 14.0,
            50.0 + INNER,
            base + 14.0
        );
        let _ = write!(
            svg,
            "<text x=\"46\" y=\"{base:.0}\" text-anchor=\"end\">{bottom:.2}</text><text x=\"46\" y=\"20\" text-anchor=\"end\">{top:.2}</text>"
        );
        let _ = write!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{across}; up: {up}</text></svg>",
            50.0 + INNER / 2.0,
            base + 14.0
        );
        svg
    }
}

impl Report {
    /// The report as a page of HTML.
    #[must_use]
    pub fn html(&self) -> String {
        let task = escaped(&self.task);
        let mut page = format!(
            "<!doctype html><meta charset=\"utf-8\"><title>{task}</title>{STYLE}<h1>{task}</h1><table><tr><th>metric<th>value<th>spread<th>best baseline<th>target"
        );
        for finding in &self.findings {
            let Finding {
                metric,
                value,
                spread,
                ..
            } = finding;
            let baseline = finding.baseline.map_or(String::new(), |value| {
                format!("{value:.4} ({})", finding.best)
            });
            let target = finding.target.map_or(String::new(), |target| {
                let held = if finding.held() == Some(true) {
                    "held"
                } else {
                    "missed"
                };
                format!("{target:.4} {held}")
            });
            let _ = write!(
                page,
                "<tr><td>{}<td>{value:.4}<td>{spread:.4}<td>{baseline}<td>{target}",
                escaped(metric)
            );
        }
        page.push_str("</table>");
        for plot in &self.plots {
            let _ = write!(page, "<h2>{}</h2>{}", escaped(&plot.title), plot.svg());
        }
        page
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

const POINTS: usize = 400;
const WIDTH: u32 = 640;
const HEIGHT: u32 = 300;
const INNER: f64 = 570.0;
const TALL: f64 = 260.0;
const COLORS: [&str; 4] = ["#1565c0", "#e65100", "#2e7d32", "#6a1b9a"];
const STYLE: &str = "<style>body{font:14px sans-serif;margin:2em}td,th{text-align:left;padding:2px 12px 2px 0}svg text{font:11px sans-serif}</style>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_row_per_figure_and_a_plot_per_plot() {
        let report = Report {
            task: "a<b".to_owned(),
            findings: vec![Finding::more("x", &[1.0])],
            plots: vec![
                Plot::precision_recall(&[0.1, 0.9], &[false, true]),
                Plot::calibration(&[0.1, 0.9], &[false, true]),
            ],
        };
        let page = report.html();
        assert!(page.contains("a&lt;b") && !page.contains("a<b"));
        assert_eq!(page.matches("<svg").count(), 2);
        assert_eq!(page.matches("<tr><td>").count(), 1);
        assert!(!page.contains("NaN"));
    }
}
