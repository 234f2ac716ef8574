//! Traffic as series over time.

use std::path::Path;

use ndarray::{Array2, Axis, concatenate};

use crate::Error;
use crate::store::Table;

/// Several series with the same steps.
#[derive(Clone, Debug)]
pub struct Demand {
    /// Shape `[step, series]`; never NaN.
    pub values: Array2<f64>,
    /// Names of the series.
    pub names: Vec<String>,
    /// Number of the first step.
    pub first: usize,
}

/// Reads a table with a column `step`; missing values are filled from the step before.
///
/// # Errors
/// If the file is missing or has no column `step`.
pub fn read(path: &Path) -> Result<Demand, Error> {
    let table = Table::read(path)?;
    let step = table.required("step")?;
    let columns: Vec<usize> = (0..table.names().len()).filter(|at| *at != step).collect();
    let mut values = Array2::from_shape_fn((table.rows(), columns.len()), |(row, at)| {
        table.number(row, columns[at])
    });
    for mut series in values.columns_mut() {
        let mut last = 0.0;
        for value in &mut series {
            if value.is_finite() {
                last = *value
            } else {
                *value = last
            }
        }
    }
    Ok(Demand {
        values,
        names: columns
            .iter()
            .map(|at| table.names()[*at].clone())
            .collect(),
        first: table.number(0, step) as usize,
    })
}

impl Demand {
    /// `self`, continued by `later`.
    ///
    /// # Errors
    /// [`Error::NoColumn`] if they do not have the same series.
    pub fn then(self, later: &Self) -> Result<Self, Error> {
        if self.names != later.names {
            return Err(Error::NoColumn {
                column: self.names.join(","),
            });
        }
        let values =
            concatenate(Axis(0), &[self.values.view(), later.values.view()]).unwrap_or(self.values);
        Ok(Self { values, ..self })
    }
}
