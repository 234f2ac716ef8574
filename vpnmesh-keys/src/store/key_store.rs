//! Where secrets of 32 bytes are kept: keys, seeds and pre-shared secrets.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use vpnmesh_core::{KeyId, Secret};

use crate::Error;

/// Keeps secrets by id.
///
/// What [`KeyStore::put`] took in is there until it is erased or replaced; what was erased cannot
/// be had again. Calls may come from several tasks at once.
#[async_trait]
pub trait KeyStore: Debug + Send + Sync {
    /// Keeps `secret` as `key`; it replaces an older one.
    async fn put(&self, key: KeyId, secret: Secret<32>) -> Result<(), Error>;

    /// A copy of the secret.
    ///
    /// # Errors
    /// [`Error::UnknownKey`], or what the store itself runs into.
    async fn load(&self, key: KeyId) -> Result<Secret<32>, Error>;

    /// Forgets the secret. Whether it existed does not matter.
    async fn erase(&self, key: KeyId) -> Result<(), Error>;

    /// The ids of all secrets, in order.
    async fn list(&self) -> Result<Vec<KeyId>, Error>;
}

const _: Option<&dyn KeyStore> = None; // must stay object safe

/// Keeps secrets in memory; all are wiped when it is dropped.
#[derive(Default, Debug)]
pub struct MemoryStore {
    keys: Mutex<BTreeMap<KeyId, Secret<32>>>, // at most MemoryStore::MAX_KEYS
}

impl MemoryStore {
    /// The store takes no more keys than this.
    pub const MAX_KEYS: usize = 65_536;

    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// No call leaves the map half changed, so a panic elsewhere does not matter.
    fn keys(&self) -> std::sync::MutexGuard<'_, BTreeMap<KeyId, Secret<32>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl KeyStore for MemoryStore {
    async fn put(&self, key: KeyId, secret: Secret<32>) -> Result<(), Error> {
        let mut keys = self.keys();
        if keys.len() >= Self::MAX_KEYS && !keys.contains_key(&key) {
            let limit = Self::MAX_KEYS;
            return Err(Error::StoreFull { limit });
        }
        keys.insert(key, secret);
        Ok(())
    }

    async fn load(&self, key: KeyId) -> Result<Secret<32>, Error> {
        let found = self.keys().get(&key).map(Secret::duplicate);
        found.ok_or(Error::UnknownKey { key })
    }

    async fn erase(&self, key: KeyId) -> Result<(), Error> {
        self.keys().remove(&key);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<KeyId>, Error> {
        Ok(self.keys().keys().copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::DirectoryStore;
    use super::*;

    async fn keeps_replaces_and_erases(store: &dyn KeyStore) {
        let secret = |byte| Secret::take(&mut [byte; 32]);
        assert!(matches!(
            store.load(KeyId(1)).await,
            Err(Error::UnknownKey { key: KeyId(1) })
        ));
        store.put(KeyId(2), secret(2)).await.unwrap();
        store.put(KeyId(1), secret(1)).await.unwrap();
        store.put(KeyId(1), secret(3)).await.unwrap();
        assert_eq!(store.load(KeyId(1)).await.unwrap(), secret(3));
        assert_eq!(store.list().await.unwrap(), [KeyId(1), KeyId(2)]);
        store.erase(KeyId(1)).await.unwrap();
        store.erase(KeyId(1)).await.unwrap();
        assert!(store.load(KeyId(1)).await.is_err());
        assert_eq!(store.list().await.unwrap(), [KeyId(2)]);
    }

    #[tokio::test]
    async fn both_stores_keep_replace_and_erase() {
        keeps_replaces_and_erases(&MemoryStore::new()).await;
        let directory = tempfile::tempdir().unwrap();
        let store = DirectoryStore::open(&directory.path().join("keys")).unwrap();
        keeps_replaces_and_erases(&store).await;
    }
}
