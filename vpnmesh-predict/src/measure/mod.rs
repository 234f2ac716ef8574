//! How good predictions are: the measures of the protocols that the data come with.

mod classes;
mod incidents;
mod nab;
mod values;

pub use classes::{
    Threshold, average_precision, calibration_error, recall_at_false_rate, roc_area,
};
pub use incidents::{Alarms, Incidents, Tally};
pub use nab::{NabScore, Series};
pub use values::{Errors, mean_and_spread, phm_score, rmse};
