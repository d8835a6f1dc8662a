//! A store that lives as long as its process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Change, Pair, Store, StoreError};

/// A [`Store`] in memory. Clones share their content, so that a test can "restart" on what was written.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    // A std mutex: every section is short and holds no await.
    map: Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn map(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Vec<u8>>> {
        // A panic inside a section cannot leave the map half changed: every section is one call of the map.
        self.map.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.map().get(key).cloned())
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, StoreError> {
        let map = self.map();
        let from_prefix = map.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        Ok(from_prefix.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn keys(&self, from: &[u8], to: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
        Ok(self.map().range(from.to_vec()..to.to_vec()).map(|(key, _)| key.clone()).collect())
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut map = self.map();
        for change in changes {
            match change {
                Change::Put(key, value) => map.insert(key, value),
                Change::Remove(key) => map.remove(&key),
            };
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
