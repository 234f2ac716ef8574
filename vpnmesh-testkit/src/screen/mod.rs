//! One live terminal screen that says what a run is doing.
//!
//! [`ScreenState`] is plain data that the orchestrator fills; [`render()`] makes text of it and
//! nothing else; [`Screen`] draws the text in place on a terminal, or as plain lines elsewhere.

mod render;
mod span;
mod state;
mod terminal;

pub use render::{render, render_colour};
pub use state::{ActLine, ActState, ClientLine, Life, Narration, NodeLine, ScreenState};
pub use terminal::{Mode, Screen};
