//! A log that ends with the process: for tests and for embedding.

use async_trait::async_trait;

use super::MeshStore;
use crate::{Error, LogEntry, MeshState};

/// Keeps nothing but a count: the state itself is in memory anyway.
#[derive(Default, Debug)]
pub struct MemoryStore {
    entries: u64,
}

impl MemoryStore {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl MeshStore for MemoryStore {
    async fn append(&mut self, entries: &[LogEntry]) -> Result<(), Error> {
        self.entries += entries.len() as u64;
        Ok(())
    }

    async fn compact(&mut self, _state: &MeshState) -> Result<(), Error> {
        self.entries = 0;
        Ok(())
    }

    fn entries(&self) -> u64 {
        self.entries
    }
}
