//! Servers and their metrics, with labelled incidents.

use std::path::Path;

use ndarray::{Array2, s};

use crate::Error;
use crate::store::{self, Table};

/// One machine: a part without labels, then one with.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Shape `[row, metric]`: what it looked like before.
    pub train: Array2<f64>,
    /// Shape `[row, metric]`, following `train` directly.
    pub test: Array2<f64>,
    /// Whether each row of `test` belongs to an incident.
    pub labels: Vec<bool>,
}

/// Reads all machines of which `folder` has both parts.
///
/// # Errors
/// [`Error::NoData`] if there is none.
pub fn read(folder: &Path) -> Result<Vec<Machine>, Error> {
    let mut machines = Vec::new();
    for path in store::files(folder, |name| name.contains("_test.csv"))? {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let train = Table::read(&path.with_file_name(name.replace("_test.csv", "_train.csv")))?;
        let test = Table::read(&path)?;
        let label = test.required("label")?;
        let width = train.names().len();
        machines.push(Machine {
            name: name.split("_test").next().unwrap_or_default().to_owned(),
            train: matrix(&train, width),
            test: matrix(&test, width),
            labels: (0..test.rows())
                .map(|row| test.number(row, label) > 0.5)
                .collect(),
        });
    }
    if machines.is_empty() {
        return Err(Error::NoData {
            path: folder.to_owned(),
            missing: "*_test.csv.gz",
        });
    }
    Ok(machines)
}

fn matrix(table: &Table, width: usize) -> Array2<f64> {
    Array2::from_shape_fn((table.rows(), width), |(row, column)| {
        table.number(row, column)
    })
}

impl Machine {
    /// The part without labels, less its last share.
    #[must_use]
    pub fn fit_part(&self, share: f64) -> Array2<f64> {
        let rows = (self.train.nrows() as f64 * (1.0 - share)) as usize;
        self.train.slice(s![..rows, ..]).to_owned()
    }
}
