//! The deterministic simulator: whole meshes in virtual time, from one seed.
//!
//! A [`World`] runs the very machines that the product runs (nodes, clients, sites) over emulated
//! links. Every random choice follows from the seed: keys, nonces, losses, delays and faults. What
//! the machines seal goes through a [`ledger`], and what they deliver is compared with what was
//! sent. [`invariant`] holds the laws, each checked after every step.

mod app;
pub mod invariant;
pub mod ledger;
mod members;
pub mod world;

pub use app::Delivery;
pub use members::Shape;
pub use world::{Actor, ActorId, World};
