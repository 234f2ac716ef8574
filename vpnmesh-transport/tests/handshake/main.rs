//! The handshake from outside: two ends that exchange datagrams.

mod agreement;
mod load;
mod order;
mod refusal;
mod rig;
mod tampering;
