//! What a run promised, whether it held, and pictures of it.
//!
//! Start from [`Promise`], [`Report::new`] and [`Timeline`]; [`Report::write`] leaves
//! `report.json` and `timeline.svg`, [`table()`] prints the promises.

mod axis;
mod labels;
mod percentile;
mod promise;
mod run;
mod svg;
mod table;
mod timeline;

pub use percentile::{percentile, percentile_of};
pub use promise::{Promise, text};
pub use run::{Act, ClientSums, Facts, Report, ReportError, Sample};
pub use table::table;
pub use timeline::{ActSpan, Mark, Timeline, Track};
