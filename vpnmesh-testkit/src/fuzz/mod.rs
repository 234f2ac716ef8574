//! The bodies of the fuzz targets: every decoder, and every state machine by a list of operations.
//!
//! A body takes any bytes. It must not panic, and what it asserts must hold for all of them. The
//! targets in `fuzz/` call nothing but these functions, and `tests/corpora.rs` replays what is
//! committed beside them, so a finding becomes a test by its file alone.
//!
//! Lists of operations are read from front to back: one byte says what happens, then come its
//! numbers (little endian) and texts (length 2, bytes). What is missing at the end counts as zero.

mod decoders;
mod documents;
mod handshake;
mod insider;
mod legs;
mod machines;
mod members;
mod packets;
mod script;
mod settings;
mod windows;

pub use decoders::{frames, keys, log, membership, messages, probes, proc_files, receipts, wire};
pub use documents::{document_binary, document_json, sealed_values};
pub use handshake::{answers, handshake, hellos};
pub use legs::leg;
pub use machines::{client, node, site, tunnel};
pub use packets::{device_packets, inner_packets, split};
pub use settings::{settings, weights};
pub use windows::{mtu, replay, stream};

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: of the program in `fuzz/fuzz_targets` and of the folder in `fuzz/corpus`.
    pub name: &'static str,
    /// What it does with any bytes.
    pub body: fn(&[u8]),
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        &[$(Target { name: stringify!($name), body: $name }),*]
    };
}

/// All targets.
pub const TARGETS: &[Target] = targets![
    answers,
    client,
    device_packets,
    document_binary,
    document_json,
    frames,
    handshake,
    hellos,
    inner_packets,
    keys,
    leg,
    log,
    membership,
    messages,
    mtu,
    node,
    probes,
    proc_files,
    receipts,
    replay,
    sealed_values,
    settings,
    site,
    split,
    stream,
    tunnel,
    weights,
    wire,
];
