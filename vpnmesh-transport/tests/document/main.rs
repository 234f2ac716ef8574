//! The standard form of a session's state: what is frozen, what the schema says, what holds for
//! every document, and what is refused.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod frozen;
mod laws;
mod limits;
mod refusal;
mod rig;
mod schema;
mod secrets;
