//! What a run measured and promised.
mod percentile;

pub use percentile::{percentile, percentile_of};
