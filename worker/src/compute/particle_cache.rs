//! Particles of window estimators, kept between outer steps so that a trajectory goes on where it stood.
//!
//! ```text
//!  slot 3:   ready for step 41 │ ready for step 42      both are kept after step 41 was computed:
//!            (before)          │ (after)                the lease of 41 may be given again, 42 is what comes next
//! ```
//!
//! The cache never decides a result: a particle is used only if it stands exactly where the lease says, else the
//! trajectory is rebuilt from seeds and thetas, to the same bits.

use std::collections::HashMap;
use std::sync::Arc;

use paceline_optimizer_core::schedule::Trajectory;
use paceline_optimizer_core::unroll::Particle;

/// How many bytes of particles a run may keep. The slot used last is kept whatever its size.
const KEPT_BYTES: usize = 512 << 20;

/// One slot's particles before one outer step.
#[derive(Debug)]
struct Generation {
    outer_step: u64,
    /// In pair order.
    particles: Arc<Vec<Particle>>,
}

/// One slot's particles: before the outer step computed last, and after it.
#[derive(Debug, Default)]
struct SlotParticles {
    generations: Vec<Generation>,
    used: u64,
    bytes: usize,
}

/// The particles held of one run.
#[derive(Debug)]
pub(crate) struct ParticleCache {
    slots: HashMap<u32, SlotParticles>,
    clock: u64,
    kept_bytes: usize,
}

impl Default for ParticleCache {
    fn default() -> Self {
        Self { slots: HashMap::new(), clock: 0, kept_bytes: KEPT_BYTES }
    }
}

impl ParticleCache {
    /// The particles of all pairs of a slot, if they stand exactly at `current` before `outer_step`.
    pub(crate) fn at(&self, slot: u32, outer_step: u64, current: &Trajectory) -> Option<Arc<Vec<Particle>>> {
        let generations = &self.slots.get(&slot)?.generations;
        let ready = generations.iter().find(|generation| generation.outer_step == outer_step)?;
        let standing = ready.particles.iter().all(|particle| particle.trajectory == *current);
        standing.then(|| Arc::clone(&ready.particles))
    }

    /// Keeps what the slot's pairs, in order, returned for the outer step before `outer_step`, beside what they began
    /// it with. Older particles of the slot are dropped, then those of the slots unused for longest.
    pub(crate) fn put(&mut self, slot: u32, outer_step: u64, particles: Vec<Particle>) {
        self.clock += 1;
        let held = self.slots.entry(slot).or_default();
        held.generations.retain(|generation| generation.outer_step + 1 == outer_step);
        held.generations.push(Generation { outer_step, particles: Arc::new(particles) });
        held.used = self.clock;
        held.bytes = held.generations.iter().flat_map(|held| held.particles.iter()).map(bytes).sum();
        self.evict();
    }

    /// Forgets a slot.
    pub(crate) fn forget(&mut self, slot: u32) {
        self.slots.remove(&slot);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
    }

    /// Slots whose particles are kept, in order.
    pub(crate) fn slots(&self) -> Vec<u32> {
        let mut slots: Vec<u32> = self.slots.keys().copied().collect();
        slots.sort_unstable();
        slots
    }

    fn evict(&mut self) {
        let mut total: usize = self.slots.values().map(|held| held.bytes).sum();
        while total > self.kept_bytes && self.slots.len() > 1 {
            let oldest = self.slots.iter().min_by_key(|(_, held)| held.used).map(|(slot, _)| *slot);
            let Some(dropped) = oldest.and_then(|slot| self.slots.remove(&slot)) else { return };
            total -= dropped.bytes;
        }
    }
}

/// What the numbers of a particle take.
fn bytes(particle: &Particle) -> usize {
    let params = &particle.state.params;
    let slots: usize = particle.state.slots.iter().map(|slot| slot.values.len()).sum();
    (params.layout().size() * params.lanes() + slots) * 4
}

#[cfg(test)]
mod tests {
    use paceline_optimizer_core::optimizer::OptState;
    use paceline_optimizer_core::params::Layout;
    use paceline_optimizer_core::{Params, TensorSpec};

    use super::*;

    fn at(inner_step: u32) -> Trajectory {
        Trajectory { horizon: 100, inner_step, ..Trajectory::default() }
    }

    /// 80 bytes: ten f32 in each of two lanes.
    fn particle(inner_step: u32) -> Particle {
        let layout = Layout::new(vec![TensorSpec::new("w", vec![10])]).unwrap();
        let state = OptState::new(Params::zeros(&layout, 2), &[100, 100], vec![]).unwrap();
        Particle { trajectory: at(inner_step), state, task_state: None, diverged: [false; 2] }
    }

    #[test]
    fn the_step_before_is_kept_until_a_later_step_is_computed() {
        let mut cache = ParticleCache::default();
        cache.put(3, 1, vec![particle(10)]);
        cache.put(3, 2, vec![particle(20)]);
        assert!(cache.at(3, 1, &at(10)).is_some(), "the lease of step 1 may be given again");
        assert!(cache.at(3, 2, &at(20)).is_some());
        cache.put(3, 2, vec![particle(20)]);
        assert!(cache.at(3, 1, &at(10)).is_some(), "computing step 1 again keeps what it begins with");
        cache.put(3, 3, vec![particle(30)]);
        assert!(cache.at(3, 1, &at(10)).is_none());
        assert!(cache.at(3, 2, &at(20)).is_some());
    }

    #[test]
    fn a_particle_that_stands_elsewhere_is_not_used() {
        let mut cache = ParticleCache::default();
        cache.put(3, 1, vec![particle(10), particle(11)]);
        assert!(cache.at(3, 1, &at(10)).is_none(), "one of the pairs stands elsewhere");
        assert!(cache.at(3, 2, &at(10)).is_none(), "another step");
        assert!(cache.at(4, 1, &at(10)).is_none(), "another slot");
    }

    #[test]
    fn the_slot_unused_for_longest_goes_first() {
        let mut cache = ParticleCache { kept_bytes: 200, ..ParticleCache::default() };
        cache.put(0, 1, vec![particle(10)]);
        cache.put(1, 1, vec![particle(10)]);
        assert_eq!(cache.slots(), [0, 1]);
        cache.put(0, 2, vec![particle(20)]);
        assert_eq!(cache.slots(), [0], "slot 0 now keeps two steps, 160 bytes");
        cache.put(2, 1, (0..4).map(|_| particle(10)).collect());
        assert_eq!(cache.slots(), [2], "320 bytes exceed the bound, but the newest slot stays");
        cache.forget(2);
        assert_eq!(cache.slots(), [0; 0]);
    }
}
