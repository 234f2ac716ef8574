//! The handshake from outside: two ends that exchange datagrams.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod agreement;
mod exchange;
mod load;
mod network;
mod order;
mod refusal;
mod rig;
mod tampering;
