//! Contracts of the traits that predict, for every implementation to run in its own tests.
//!
//! Each check takes a maker of fresh predictors and panics with the rule that was broken.

mod failure;
mod risk;
mod traffic;

pub use failure::check_failure_predictor;
pub use risk::check_risk_scorer;
pub use traffic::check_traffic_predictor;
