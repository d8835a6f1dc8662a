//! One copy in a process of each data set that is in use.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::Error;

/// Data sets in use, by what decides their content. An entry lives as long as somebody holds its data.
///
/// A list, not a map: a process holds a handful of data sets, and keys with floating-point settings have no hash.
pub(crate) struct Shared<K, V>(Mutex<Vec<(K, Weak<V>)>>);

impl<K: PartialEq, V> Shared<K, V> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// The data set of this key, made by `load` if nobody holds it.
    ///
    /// # Errors
    /// Those of `load`; nothing is kept then.
    pub(crate) fn get(&self, key: K, load: impl FnOnce() -> Result<V, Error>) -> Result<Arc<V>, Error> {
        // Held while loading, so that threads that want the same data wait for it instead of making it again. A panic
        // of another holder leaves at worst a missing entry.
        let mut loaded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(data) = loaded.iter().find(|(other, _)| *other == key).and_then(|(_, data)| data.upgrade()) {
            return Ok(data);
        }
        let data = Arc::new(load()?);
        loaded.retain(|(_, data)| data.strong_count() > 0);
        loaded.push((key, Arc::downgrade(&data)));
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_are_loaded_once_while_they_are_held() {
        let shared = Shared::new();
        let first = shared.get("a", || Ok(1)).unwrap();
        let again = shared.get("a", || panic!("held already")).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!(*shared.get("b", || Ok(2)).unwrap(), 2, "another key is another data set");
        drop((first, again));
        assert_eq!(*shared.get("a", || Ok(3)).unwrap(), 3, "loaded anew after the last holder went");
        assert_eq!(shared.0.lock().unwrap().len(), 1, "entries that nobody holds are dropped");
    }

    #[test]
    fn a_failed_load_leaves_nothing() {
        let shared = Shared::new();
        let failed = shared.get(0, || Err(Error::Setting { family: "f".into(), reason: "r".into() }));
        assert!(failed.is_err());
        assert_eq!(*shared.get(0, || Ok(4)).unwrap(), 4);
    }
}
