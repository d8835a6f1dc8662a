//! Seeds: every random decision has a name.
//!
//! Nothing in Paceline asks an operating system for randomness that ends up in a result. A run has one root seed, and
//! each decision derives its own from it by folding in *where* and *what for*:
//!
//! ```text
//! run seed ─► purpose ─► outer step ─► slot ─► pair ─► …
//! ```
//!
//! so that the same place always makes the same draw, on every host, in every order, after every restart.

use serde::{Deserialize, Serialize};

/// A 64-bit seed. Equal seeds draw equal numbers everywhere (see [`crate::noise`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(u64);

/// What a derived seed is for. The numbers are part of `noise/v1`: never reuse or renumber one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Perturbations of theta.
    Perturbation = 1,
    /// Which task instance a pair trains on.
    Task = 2,
    /// Planned length of an unroll.
    Horizon = 3,
    /// Which task family a trajectory trains on.
    Mixture = 4,
    /// Initial values of theta.
    Theta = 5,
    /// Initial weights of an inner problem.
    Init = 6,
    /// Batches of inner training and evaluation.
    Batch = 7,
    /// Procedural data.
    Data = 8,
    /// Held-out evaluation: never used while meta-training.
    Evaluation = 9,
    /// By how much a slot's first trajectory ends early.
    Offset = 10,
    /// Which member of a family of families a trajectory trains on.
    Member = 11,
    /// Choices of one task instance other than weights and batches.
    Instance = 12,
    /// Random numbers of one inner step: dropout, latent samples, directions.
    Step = 13,
}

impl Seed {
    /// A seed from a number a person chose.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The seed as a number.
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The seed of a place inside this one: two rounds of a 64-bit finaliser (Stafford's Mix13, as in SplitMix64:
    /// Steele, Lea, Flood, OOPSLA 2014), so that neighbouring words give unrelated seeds.
    #[must_use]
    pub const fn fold_in(self, word: u64) -> Self {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        Self(finalise(finalise(self.0.wrapping_add(GOLDEN)).wrapping_add(word.wrapping_mul(GOLDEN) ^ word)))
    }

    /// The seed for one purpose: `fold_in` of the purpose's number.
    #[must_use]
    pub const fn purpose(self, purpose: Purpose) -> Self {
        self.fold_in(purpose as u64)
    }
}

const fn finalise(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl std::fmt::Display for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_seeds_are_pinned() {
        // noise/v1: these values never change, or every recorded run would.
        assert_eq!(Seed::new(0).fold_in(0).value(), 0x4821_8226_FF3C_D4BF);
        assert_eq!(Seed::new(7).purpose(Purpose::Horizon).value(), 0xC515_8A8E_956B_79BB);
        assert_ne!(Seed::new(1).fold_in(2), Seed::new(2).fold_in(1));
        assert_ne!(Seed::new(7).purpose(Purpose::Task), Seed::new(7).purpose(Purpose::Horizon));
    }

    #[test]
    fn folding_does_not_collide_on_small_words() {
        let mut seen = std::collections::HashSet::new();
        for a in 0..64 {
            for b in 0..64 {
                assert!(seen.insert(Seed::new(a).fold_in(b)), "collision at {a}, {b}");
            }
        }
    }
}
