//! Models that learn, written by hand on `ndarray`: fitting and scoring, no files, no clock.
//!
//! Rows are samples, columns features; a missing value is NaN where a model says it bears it.

mod bins;
mod boost;
mod budget;
mod calibrate;
mod dice;
mod ensemble;
mod forest;
mod gru;
mod guard;
mod jump;
mod linear;
mod logistic;
mod novelty;
mod watch;
mod weights;

pub use boost::{BoostSettings, Boosted, Objective};
pub use budget::Budget;
pub use calibrate::Isotonic;
pub use dice::Dice;
pub use ensemble::Ensemble;
pub use forest::IsolationForest;
pub use gru::{Gru, GruSettings};
pub use guard::{Guard, GuardSettings};
pub use jump::Jump;
pub use linear::{Ridge, RunningRidge, solve_positive};
pub use logistic::{Logistic, Standardizer};
pub use novelty::Novelty;
pub use watch::{Rating, VIEWS, Watch};
pub use weights::{Reader, Weights, Writer};
