//! Draws a [`Timeline`] as an SVG picture.

use std::fmt::Write;
use std::time::Duration;

use vpnmesh_core::Timestamp;

use super::Timeline;
use super::axis::{clock_label, nice_step, time_step};
use super::labels::{
    LABEL, LEFT, RIGHT, band_label, labelled, mark_rows, mark_width, thin, throughput,
};
use super::timeline::Track;
use crate::traffic::Silence;

impl Timeline {
    /// The picture: light background, one panel per client, acts as bands over all panels.
    #[must_use]
    pub fn svg(&self) -> String {
        let mut canvas = Canvas::new(self);
        canvas.header();
        canvas.bands();
        canvas.marks();
        for (index, track) in self.clients.iter().enumerate() {
            canvas.panel(track, index);
        }
        canvas.time_axis();
        canvas.legend();
        canvas.finish()
    }
}

struct Canvas<'a> {
    timeline: &'a Timeline,
    out: String,
    top_mbps: f64,
    top_ms: f64,
    marks_height: f64,
}

impl<'a> Canvas<'a> {
    fn new(timeline: &'a Timeline) -> Self {
        let tracks = || timeline.clients.iter();
        let fastest = tracks().flat_map(|it| throughput(it, timeline.start));
        let fastest = fastest.map(|(_, rate)| rate).fold(1.0, f64::max);
        let longest = tracks().flat_map(|it| &it.silences).map(milliseconds);
        let longest = longest.fold(timeline.silence_limit_ms.max(100) as f64, f64::max);
        let rows = mark_rows(timeline)
            .into_iter()
            .map(|(_, row)| row + 1)
            .max();
        Self {
            timeline,
            out: String::new(),
            top_mbps: fastest * 1.25,
            top_ms: longest * 1.25,
            marks_height: rows.unwrap_or(0) as f64 * MARK_ROW,
        }
    }

    fn height(&self) -> f64 {
        self.bottom() + 74.0
    }

    /// Lower edge of the last panel.
    fn bottom(&self) -> f64 {
        self.panel_top(self.timeline.clients.len()) - PANEL_GAP + self.marks_height
    }

    fn panel_top(&self, index: usize) -> f64 {
        PANELS_TOP + index as f64 * (RATE_HEIGHT + SILENCE_HEIGHT + PANEL_GAP)
    }

    fn x(&self, at: Timestamp) -> f64 {
        let span = self.timeline.end.since(self.timeline.start).as_secs_f64();
        let here = at.since(self.timeline.start).as_secs_f64();
        let share = if span > 0.0 { here / span } else { 0.0 };
        LEFT + share.min(1.0) * (RIGHT - LEFT)
    }

    fn header(&mut self) {
        let (title, subtitle) = (self.timeline.title.clone(), self.timeline.subtitle.clone());
        self.text(LEFT, 38.0, "title", &title);
        self.text(LEFT, 60.0, "sub", &subtitle);
    }

    fn bands(&mut self) {
        let (top, bottom) = (BANDS_TOP, self.bottom());
        for (index, act) in self.timeline.acts.iter().enumerate() {
            let (x, end) = (self.x(act.from), self.x(act.to));
            let width = (end - x).max(0.5);
            let tint = TINTS[index % TINTS.len()];
            self.raw(format_args!(
                "<rect x=\"{x:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{tint}\" \
                 fill-opacity=\"0.45\"/><rect x=\"{x:.1}\" y=\"{top}\" width=\"{width:.1}\" \
                 height=\"{BAND_LABEL}\" fill=\"{tint}\"/>\n",
                bottom - top
            ));
            let lines = band_label(act.number, &act.name, width - 12.0);
            let first = top + 18.0 + if lines.len() < 2 { 8.0 } else { 0.0 };
            for (row, line) in lines.iter().enumerate() {
                self.text(x + width / 2.0, first + row as f64 * 15.0, "act", line);
            }
        }
    }

    fn panel(&mut self, track: &Track, index: usize) {
        let top = self.panel_top(index);
        let base = top + RATE_HEIGHT;
        self.text(LEFT + 8.0, top + 18.0, "name", &track.name);
        self.rate_axis(top, base);
        self.rate_area(track, base);
        let floor = base + SILENCE_HEIGHT;
        self.silence_axis(base, floor);
        self.silences(track, top, base, floor);
        self.raw(format_args!(
            "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{:.1}\" height=\"{:.1}\" class=\"frame\"/>\n",
            RIGHT - LEFT,
            floor - top
        ));
    }

    fn rate_axis(&mut self, top: f64, base: f64) {
        let step = nice_step(self.top_mbps / 4.0);
        let mut value = 0.0;
        while value <= self.top_mbps {
            let y = base - value / self.top_mbps * (base - top);
            self.grid(y, &format!("{value}"));
            value += step;
        }
        self.turned(LEFT - 48.0, f64::midpoint(top, base), "Mbit/s");
    }

    fn rate_area(&mut self, track: &Track, base: f64) {
        let points = throughput(track, self.timeline.start);
        let points = thin(&points, ((RIGHT - LEFT) / 1.5) as usize);
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            return;
        };
        let spot = |(at, rate): &(Timestamp, f64)| {
            let y = base - rate / self.top_mbps * RATE_HEIGHT;
            format!("{:.1},{y:.1}", self.x(*at))
        };
        let line: Vec<String> = points.iter().map(spot).collect();
        let (line, from, to) = (line.join(" "), self.x(first.0), self.x(last.0));
        self.raw(format_args!(
            "<polygon points=\"{from:.1},{base:.1} {line} {to:.1},{base:.1}\" class=\"area\"/>\
             <polyline points=\"{line}\" class=\"line\"/>\n"
        ));
    }

    fn silence_axis(&mut self, base: f64, floor: f64) {
        self.raw(format_args!(
            "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{base:.1}\" y2=\"{base:.1}\" class=\"frame\"/>\n"
        ));
        let step = nice_step(self.top_ms / 4.5);
        let mut value = step;
        while value <= self.top_ms * 0.92 {
            let y = floor - value / self.top_ms * (floor - base);
            self.grid(y, &format!("{value}"));
            value += step;
        }
        self.turned(LEFT - 48.0, f64::midpoint(base, floor), "ms");
        let limit = self.timeline.silence_limit_ms as f64;
        if limit > 0.0 {
            let y = floor - limit / self.top_ms * (floor - base);
            self.raw(format_args!(
                "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\" class=\"limit\"/>\n"
            ));
            self.text(
                RIGHT - 6.0,
                y - 4.0,
                "limit-text",
                &format!("limit {limit} ms"),
            );
        }
    }

    fn silences(&mut self, track: &Track, top: f64, base: f64, floor: f64) {
        for silence in &track.silences {
            let (x, end) = (self.x(silence.from), self.x(silence.to));
            let width = (end - x).max(1.5);
            let tip = floor - milliseconds(silence) / self.top_ms * (floor - base);
            self.raw(format_args!(
                "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\" class=\"gap\"/>\
                 <rect x=\"{x:.1}\" y=\"{tip:.1}\" width=\"{:.1}\" height=\"{:.1}\" class=\"stem\">\
                 <title>{:.0} ms at {:.2} s</title></rect>\n",
                base - top,
                width.max(3.0),
                floor - tip,
                milliseconds(silence),
                silence.from.since(self.timeline.start).as_secs_f64(),
            ));
        }
        for silence in labelled(&track.silences, |it| self.x(it.from)) {
            let tip = floor - milliseconds(&silence) / self.top_ms * (floor - base);
            let label = format!("{:.0} ms", milliseconds(&silence));
            let x = self
                .x(silence.from)
                .clamp(LEFT + LABEL / 2.0, RIGHT - LABEL / 2.0);
            self.text(x, (tip - 5.0).max(base + 11.0), "gap-text", &label);
        }
    }

    fn marks(&mut self) {
        let bottom = self.bottom();
        let first = bottom - self.marks_height;
        for (index, row) in mark_rows(self.timeline) {
            let mark = &self.timeline.marks[index];
            let x = self.x(mark.at);
            let y = first + row as f64 * MARK_ROW + 13.0;
            self.raw(format_args!(
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" class=\"mark\"/>\
                 <circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"2.5\" class=\"dot\"/>\n",
                BANDS_TOP + BAND_LABEL,
                y - 4.0,
                y - 4.0,
            ));
            let label = mark.label.clone();
            if x + mark_width(&label) > RIGHT {
                self.text(x - 6.0, y, "mark-left", &label);
            } else {
                self.text(x + 6.0, y, "mark-text", &label);
            }
        }
    }

    fn time_axis(&mut self) {
        let bottom = self.bottom();
        let span = self.timeline.end.since(self.timeline.start).as_secs_f64();
        let step = time_step(span / 14.0);
        let mut at = 0.0;
        while at <= span && span > 0.0 {
            let x = self.x(self.timeline.start + Duration::from_secs_f64(at));
            self.raw(format_args!(
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom:.1}\" y2=\"{:.1}\" class=\"tick\"/>\n",
                bottom + 5.0
            ));
            self.text(x, bottom + 20.0, "x", &clock_label(at, span));
            at += step;
        }
        let unit = if span > 120.0 {
            "time, min:s"
        } else {
            "time, s"
        };
        self.text(f64::midpoint(LEFT, RIGHT), bottom + 40.0, "x", unit);
    }

    fn legend(&mut self) {
        let y = self.bottom() + 60.0;
        let mut x = LEFT;
        let keys = [
            ("area-key", "throughput of the downloads"),
            ("stem", "silence: time without a heartbeat reply"),
            ("mark-key", "event"),
        ];
        let shown = if self.timeline.marks.is_empty() { 2 } else { 3 };
        for (class, label) in &keys[..shown] {
            self.raw(format_args!(
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"14\" height=\"10\" rx=\"2\" class=\"{class}\"/>\n",
                y - 9.0
            ));
            self.text(x + 20.0, y, "key", label);
            x += 20.0 + label.len() as f64 * 6.6 + 26.0;
        }
    }

    fn grid(&mut self, y: f64, label: &str) {
        self.raw(format_args!(
            "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\" class=\"grid\"/>\n"
        ));
        self.text(LEFT - 8.0, y + 4.0, "y", label);
    }

    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let text = escape(text);
        self.raw(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{text}</text>\n"
        ));
    }

    fn turned(&mut self, x: f64, y: f64, text: &str) {
        self.raw(format_args!(
            "<text transform=\"translate({x:.1} {y:.1}) rotate(-90)\" class=\"unit\">{text}</text>\n"
        ));
    }

    fn raw(&mut self, text: std::fmt::Arguments<'_>) {
        self.out
            .write_fmt(text)
            .expect("writing to a string does not fail");
    }

    fn finish(self) -> String {
        let height = self.height();
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {WIDTH} {height:.0}\" font-family=\"Inter, 'Segoe UI', 'DejaVu Sans', sans-serif\">\n\
             <style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#fdfdfc\"/>\n{}</svg>\n",
            self.out
        )
    }
}

fn milliseconds(silence: &Silence) -> f64 {
    silence.span().as_secs_f64() * 1000.0
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            _ if character.is_control() => out.push(' '),
            _ => out.push(character),
        }
    }
    out
}

const WIDTH: f64 = 1600.0;
const BANDS_TOP: f64 = 78.0;
const BAND_LABEL: f64 = 42.0;
const PANELS_TOP: f64 = BANDS_TOP + BAND_LABEL + 12.0;
const RATE_HEIGHT: f64 = 150.0;
const SILENCE_HEIGHT: f64 = 84.0;
const PANEL_GAP: f64 = 18.0;
const MARK_ROW: f64 = 17.0;
const TINTS: [&str; 2] = ["#eef2f7", "#f8efe2"];
const STYLE: &str = "\
text{font-size:12px;fill:#475569}.title{font-size:22px;font-weight:600;fill:#0f172a}\
.sub{font-size:13px;fill:#64748b}.act{font-size:12px;fill:#334155;text-anchor:middle}\
.name{font-size:13px;font-weight:600;fill:#0f172a}.x{text-anchor:middle}.y{text-anchor:end}\
.unit{text-anchor:middle}.key{font-size:12px}.gap-text{font-size:11px;font-weight:600;fill:#b91c1c;\
text-anchor:middle;paint-order:stroke;stroke:#fdfdfc;stroke-width:3px}.mark-text{font-size:11px;fill:#334155}\
.mark-left{font-size:11px;fill:#334155;text-anchor:end}.limit-text{font-size:11px;fill:#b91c1c;text-anchor:end}\
.grid{stroke:#cbd5e1;stroke-width:.6;stroke-dasharray:2 3}.frame{stroke:#94a3b8;stroke-width:.8;fill:none}\
.area{fill:#2563eb;fill-opacity:.13}.area-key{fill:#2563eb;fill-opacity:.45}\
.line{fill:none;stroke:#2563eb;stroke-width:1.3;stroke-linejoin:round}\
.gap{fill:#dc2626;fill-opacity:.16}.stem{fill:#dc2626}.limit{stroke:#dc2626;stroke-width:1;stroke-dasharray:6 4}\
.mark{stroke:#334155;stroke-width:.8;stroke-dasharray:3 3}.dot,.mark-key{fill:#334155}.tick{stroke:#94a3b8}";

#[cfg(test)]
mod tests {
    use super::super::{ActSpan, Mark};
    use super::*;
    use crate::traffic::Buckets;

    fn ms(ms: u64) -> Timestamp {
        Timestamp(ms * 1_000_000)
    }

    fn timeline() -> Timeline {
        let track = Track {
            name: "client <1>".into(),
            bytes: Buckets {
                from: ms(0),
                width_ns: 100_000_000,
                bytes: vec![100_000; 100],
            },
            silences: vec![Silence {
                from: ms(5000),
                to: ms(5142),
                unsent: 0,
                open: false,
            }],
        };
        Timeline {
            title: "a & b".into(),
            end: ms(10_000),
            acts: vec![ActSpan {
                number: 4,
                name: "kill -9 of a primary".into(),
                from: ms(2000),
                to: ms(8000),
            }],
            marks: vec![Mark {
                at: ms(5000),
                label: "kill -9 n2".into(),
            }],
            clients: vec![track],
            silence_limit_ms: 300,
            ..Timeline::default()
        }
    }

    #[test]
    fn the_picture_names_acts_clients_silences_and_units() {
        let svg = timeline().svg();
        for part in [
            "a &amp; b",
            "4 · kill -9 of a primary",
            "client &lt;1&gt;",
            ">142 ms</text>",
            "limit 300 ms",
            "Mbit/s",
            "time, s",
            "kill -9 n2",
        ] {
            assert!(svg.contains(part), "{part}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn an_empty_run_still_gives_a_picture() {
        let svg = Timeline::default().svg();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN"));
    }
}
