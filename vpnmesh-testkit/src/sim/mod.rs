//! The deterministic simulator: whole meshes in virtual time, from one seed.
//!
//! A [`World`] runs the very machines that the product runs (nodes, clients, sites) over emulated
//! links. Every random choice follows from the seed: keys, nonces, losses, delays and faults. What
//! the machines seal goes through a [`ledger`]; [`invariant`] holds the laws, each checked after
//! every step. A [`schedule::Schedule`] draws a mesh, its traffic and its faults from a seed, and
//! [`play`] runs it: faults first, then all faults stop and the mesh must heal.

mod actor;
mod app;
mod dice;
pub mod invariant;
pub mod ledger;
mod members;
pub mod play;
pub mod schedule;
pub mod world;

pub use actor::{Actor, ActorId, Happened};
pub use app::{Delivery, Departure, Flow};
pub use members::Shape;
pub use world::{Fate, World};
