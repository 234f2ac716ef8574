//! Disks and their SMART attributes: will this one fail within 30 days?

use std::path::Path;

use ndarray::Array2;

use crate::Error;
use crate::store::{self, Table};

/// One disk: attributes as steps over its hours of operation.
#[derive(Clone, Debug)]
pub struct Disk {
    /// 0 or 1: which table it is from.
    pub model: usize,
    /// Begin and end of each span, in hours; an end is the next begin or later.
    spans: Vec<(f64, f64)>,
    values: Vec<[f64; ATTRIBUTES]>, // [span]
    /// It failed at the end of its last span.
    pub failed: bool,
}

/// Disks at points in time.
#[derive(Clone, Debug)]
pub struct Landmarks {
    /// Shape `[landmark, feature]`.
    pub x: Array2<f64>,
    /// Fails within [`HORIZON`] hours.
    pub fails: Vec<bool>,
    /// Index of the disk.
    pub disk: Vec<usize>,
    /// Hours of operation at the landmark.
    pub at: Vec<f64>,
}

/// Reads all tables of `folder`.
///
/// # Errors
/// [`Error::NoData`] if there is none; [`Error::NoColumn`] if a table is of another kind.
pub fn read(folder: &Path) -> Result<Vec<Disk>, Error> {
    let mut disks = Vec::new();
    let tables = store::files(folder, |name| {
        name.starts_with("st") && name.contains(".csv")
    })?;
    for (model, path) in tables.iter().enumerate() {
        let model = usize::from(!path.to_string_lossy().contains("st3000")).min(model + 1);
        let table = Table::read(path)?;
        let mut columns = Vec::new();
        for name in [
            "smart_5",
            "smart_12",
            "smart_187",
            "smart_188",
            "smart_189",
            "smart_197",
            "smart_198",
        ] {
            columns.push(table.required(name)?);
        }
        let (drive, start) = (table.required("drive")?, table.required("tstart")?);
        let (stop, fails) = (table.required("tstop")?, table.required("fails")?);
        let mut last = None;
        for row in 0..table.rows() {
            let number = table.text(row, drive);
            if last != Some(number) {
                disks.push(Disk {
                    model,
                    spans: Vec::new(),
                    values: Vec::new(),
                    failed: false,
                });
                last = Some(number);
            }
            if let Some(disk) = disks.last_mut() {
                disk.spans
                    .push((table.number(row, start), table.number(row, stop)));
                disk.values
                    .push(std::array::from_fn(|at| table.number(row, columns[at])));
                disk.failed |= table.number(row, fails) == 1.0;
            }
        }
    }
    if disks.is_empty() {
        return Err(Error::NoData {
            path: folder.to_owned(),
            missing: "st*.csv.gz",
        });
    }
    Ok(disks)
}

impl Disk {
    fn begin(&self) -> f64 {
        self.spans[0].0
    }

    fn end(&self) -> f64 {
        self.spans[self.spans.len() - 1].1
    }

    /// Hours at which the disk is judged: every `step` from `shift` on, where its fate is known.
    pub fn landmarks(&self, step: f64, shift: f64) -> Vec<f64> {
        let last = if self.failed {
            self.end()
        } else {
            self.end() - HORIZON + 1e-9
        };
        let mut at = shift + ((self.begin() - shift) / step).floor().max(-1.0) * step;
        let mut found = Vec::new();
        while at < last {
            if at > self.begin() && at < self.end() {
                found.push(at);
            }
            at += step;
        }
        found
    }

    /// Whether it fails within [`HORIZON`] behind `at`.
    #[must_use]
    pub fn fails_after(&self, at: f64) -> bool {
        self.failed && self.end() <= at + HORIZON
    }

    /// Hours observed behind `at`.
    #[must_use]
    pub fn left(&self, at: f64) -> f64 {
        self.end() - at
    }

    fn span_at(&self, at: f64) -> usize {
        self.spans
            .partition_point(|(begin, _)| *begin < at)
            .saturating_sub(1)
    }

    /// What was known at `at`.
    pub fn features(&self, at: f64, out: &mut Vec<f64>) {
        let now = self.span_at(at);
        let values = &self.values[now];
        out.extend([at, at - self.begin(), self.begin(), self.model as f64]);
        out.extend(values);
        let mut recent_changes = [0.0; 3];
        for (slot, back) in [168.0, 720.0, 2160.0].into_iter().enumerate() {
            recent_changes[slot] = (now - self.span_at(at - back)) as f64;
        }
        out.extend(recent_changes);
        out.push(at - self.spans[now].0);
        let known_for = at - self.begin();
        for (attribute, &value) in values.iter().enumerate() {
            for back in [24.0, 168.0, 720.0, 2160.0, 4320.0] {
                let then = if known_for > back {
                    self.values[self.span_at(at - back)][attribute]
                } else {
                    self.values[0][attribute]
                };
                out.push(value - then);
            }
            // Time since it changed last, and since it first was above zero; how often it changed.
            let mut changed = 0.0;
            let mut last = f64::NAN;
            let mut first_above = f64::NAN;
            let mut most_step = 0.0_f64;
            for span in 0..=now {
                if self.values[span][attribute] > 0.0 && first_above.is_nan() {
                    first_above = self.spans[span].0;
                }
                if span > 0 && self.values[span][attribute] != self.values[span - 1][attribute] {
                    changed += 1.0;
                    last = self.spans[span].0;
                    most_step = most_step
                        .max(self.values[span][attribute] - self.values[span - 1][attribute]);
                }
            }
            out.extend([at - last, at - first_above, changed, most_step]);
        }
        let signs = [0, 2, 3, 5, 6]
            .into_iter()
            .filter(|&a| values[a] > 0.0)
            .count();
        out.push(signs as f64);
        let sum = |a: &[usize]| {
            a.iter()
                .map(|&a| values[a].max(0.0))
                .filter(|v| v.is_finite())
                .sum::<f64>()
        };
        out.push(sum(&[0, 5, 6]));
        out.push(sum(&[2, 3]));
        out.push(values[1] / known_for.max(24.0));
    }
}

/// Features of `disks` at the hours that `at` picks for each.
pub fn landmarks(disks: &[Disk], mut at: impl FnMut(usize, &Disk) -> Vec<f64>) -> Landmarks {
    let mut flat = Vec::new();
    let (mut fails, mut disk_of, mut hours) = (Vec::new(), Vec::new(), Vec::new());
    let mut width = 0;
    for (index, disk) in disks.iter().enumerate() {
        for hour in at(index, disk) {
            let before = flat.len();
            disk.features(hour, &mut flat);
            width = flat.len() - before;
            fails.push(disk.fails_after(hour));
            disk_of.push(index);
            hours.push(hour);
        }
    }
    let x = Array2::from_shape_vec((fails.len(), width), flat).unwrap_or_default();
    Landmarks {
        x,
        fails,
        disk: disk_of,
        at: hours,
    }
}

const ATTRIBUTES: usize = 7;
/// Hours within which a failure counts.
pub const HORIZON: f64 = 720.0;
