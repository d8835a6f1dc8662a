//! The last few thetas of a run, by version.
//!
//! A lease brings theta only when its worker did not say that it holds it, and rebuilding a lost trajectory needs the
//! theta of every outer step since the trajectory began, one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use paceline_optimizer_core::params::Layout;
use paceline_optimizer_core::{Theta, ThetaHash};

use super::ComputeError;

/// How many bytes of theta a run may keep between leases. The newest is kept whatever its size.
const KEPT_BYTES: usize = 64 << 20;

/// One version of theta, hashed once: every lease that uses it checks the hash.
#[derive(Clone, Debug)]
pub(crate) struct HeldTheta {
    pub(crate) theta: Arc<Theta>,
    pub(crate) hash: ThetaHash,
}

/// The thetas held of one run.
#[derive(Debug)]
pub(crate) struct ThetaCache {
    layout: Arc<Layout>,
    versions: BTreeMap<u64, HeldTheta>,
}

impl ThetaCache {
    /// Holds nothing yet. Every theta has this layout.
    pub(crate) fn new(layout: &Arc<Layout>) -> Self {
        Self { layout: Arc::clone(layout), versions: BTreeMap::new() }
    }

    /// Newest version held.
    pub(crate) fn newest(&self) -> Option<u64> {
        self.versions.last_key_value().map(|(version, _)| *version)
    }

    /// A version, if held.
    pub(crate) fn get(&self, version: u64) -> Option<&HeldTheta> {
        self.versions.get(&version)
    }

    /// Takes in a version as little-endian f32.
    ///
    /// # Errors
    /// [`ComputeError::Failed`] if it is not as long as the layout says.
    pub(crate) fn insert(&mut self, version: u64, bytes: &[u8]) -> Result<(), ComputeError> {
        let size = self.layout.size();
        if bytes.len() != size * 4 {
            return Err(ComputeError::Failed(format!(
                "theta version {version} has {} bytes, but this run's optimizer has {size} values of 4 bytes: \
                 coordinator and worker disagree about the optimizer; run the same release of both",
                bytes.len()
            )));
        }
        let values = bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
        let theta = Theta::new(&self.layout, 1, values).map_err(ComputeError::failed)?;
        let hash = theta.hash();
        self.versions.insert(version, HeldTheta { theta: Arc::new(theta), hash });
        Ok(())
    }

    /// Forgets everything, for example because the coordinator names another theta by a version held.
    pub(crate) fn clear(&mut self) {
        self.versions.clear();
    }

    /// Forgets the oldest versions until what is kept fits its bound.
    pub(crate) fn trim(&mut self) {
        let fit = (KEPT_BYTES / (self.layout.size() * 4).max(1)).max(1);
        while self.versions.len() > fit {
            self.versions.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use paceline_optimizer_core::TensorSpec;

    use super::*;

    fn layout(size: usize) -> Arc<Layout> {
        Layout::new(vec![TensorSpec::new("w", vec![size])]).unwrap()
    }

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn values_arrive_to_the_bit() {
        let mut cache = ThetaCache::new(&layout(3));
        let values = [1.5, -0.0, f32::MIN_POSITIVE];
        cache.insert(7, &bytes(&values)).unwrap();
        let held: Vec<u32> = cache.get(7).unwrap().theta.values().iter().map(|value| value.to_bits()).collect();
        assert_eq!(held, values.map(f32::to_bits));
    }

    #[test]
    fn a_wrong_length_is_refused() {
        let mut cache = ThetaCache::new(&layout(3));
        for length in [0, 11, 13, 16] {
            let refused = cache.insert(7, &vec![0; length]).unwrap_err().to_string();
            assert!(refused.contains(&format!("{length} bytes")), "{refused}");
        }
        assert_eq!(cache.newest(), None);
    }

    #[test]
    fn the_oldest_go_first_and_the_newest_stays() {
        let large = KEPT_BYTES / 4 / 2;
        let mut cache = ThetaCache::new(&layout(large));
        for version in [3, 1, 2] {
            cache.insert(version, &vec![0; large * 4]).unwrap();
        }
        cache.trim();
        assert_eq!([1, 2, 3].map(|version| cache.get(version).is_some()), [false, true, true]);

        let huge = KEPT_BYTES / 4 + 1;
        let mut cache = ThetaCache::new(&layout(huge));
        cache.insert(9, &vec![0; huge * 4]).unwrap();
        cache.trim();
        assert_eq!(cache.newest(), Some(9));
    }
}
