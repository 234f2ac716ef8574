//! What a plot of the run shows, in data.

use vpnmesh_core::Timestamp;

use crate::traffic::{Buckets, Silence};

/// Throughput and silences per client over a run, with its acts.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Timeline {
    /// Title line.
    pub title: String,
    /// Smaller line below it.
    pub subtitle: String,
    /// Left edge.
    pub start: Timestamp,
    /// Right edge.
    pub end: Timestamp,
    /// In the order of time.
    pub acts: Vec<ActSpan>,
    /// Moments worth a line of their own.
    pub marks: Vec<Mark>,
    /// One panel each.
    pub clients: Vec<Track>,
    /// The longest silence promised in ms, drawn as a line; 0 draws none.
    pub silence_limit_ms: u64,
}

/// An act on the time axis.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActSpan {
    /// Its number in the play; all that shows where the band is narrow.
    pub number: u32,
    /// What it shows.
    pub name: String,
    /// Start.
    pub from: Timestamp,
    /// End.
    pub to: Timestamp,
}

/// A moment worth a line of its own: a kill, a drain, a restart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mark {
    /// When.
    pub at: Timestamp,
    /// What happened, in a word or two.
    pub label: String,
}

/// What one client saw.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Track {
    /// Its name.
    pub name: String,
    /// Bytes of its downloads.
    pub bytes: Buckets,
    /// Its silences.
    pub silences: Vec<Silence>,
}
