//! Turbofans that run to failure: how many cycles are left?

use std::path::Path;

use ndarray::{Array2, s};

use crate::Error;
use crate::store::{self, Table};

/// One engine: readings of each cycle, the last row being the last known.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Shape `[cycle, sensor]`.
    pub readings: Array2<f64>,
    /// Cycles left after the last row.
    pub left: f64,
}

/// Reads `train.csv.gz` (units that ran to failure), or `test.csv.gz` with `rul.csv`.
///
/// # Errors
/// If a file is missing or of another kind.
pub fn read(folder: &Path, test: bool) -> Result<Vec<Unit>, Error> {
    let find = |stem: &str| store::table_path(folder, stem);
    let table = Table::read(&find(if test { "test" } else { "train" }))?;
    let unit = table.required("unit")?;
    let mut columns = Vec::new();
    for at in SENSORS {
        columns.push(table.required(&format!("s{at}"))?);
    }
    let mut units: Vec<(String, Vec<usize>)> = Vec::new();
    for row in 0..table.rows() {
        let name = table.text(row, unit);
        match units.last_mut() {
            Some((last, rows)) if last == name => rows.push(row),
            _ => units.push((name.to_owned(), vec![row])),
        }
    }
    let left = if test {
        remaining(&find("rul"))?
    } else {
        vec![0.0; units.len()]
    };
    let units = units.into_iter().zip(left).map(|((_, rows), left)| Unit {
        readings: Array2::from_shape_fn((rows.len(), columns.len()), |(at, column)| {
            table.number(rows[at], columns[column])
        }),
        left,
    });
    Ok(units.collect())
}

fn remaining(path: &Path) -> Result<Vec<f64>, Error> {
    let table = Table::read_nameless(path)?;
    let last = table.names().len() - 1;
    Ok(table
        .numbers(last)
        .into_iter()
        .filter(|value| value.is_finite())
        .collect())
}

impl Unit {
    /// The unit as it was known after `cycles`.
    #[must_use]
    pub fn cut(&self, cycles: usize) -> Self {
        let cycles = cycles.min(self.readings.nrows());
        Self {
            readings: self.readings.slice(s![..cycles, ..]).to_owned(),
            left: self.left + (self.readings.nrows() - cycles) as f64,
        }
    }
}

/// The sensors that change at all.
const SENSORS: [usize; 14] = [2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21];
