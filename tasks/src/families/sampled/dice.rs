//! Draws of settings, one after the other.

use paceline_optimizer_core::Seed;
use paceline_optimizer_core::noise::Draws;

use crate::log_uniform::LogUniform;

/// Draws of settings from a seed: the `n`-th draw does not depend on what was asked before.
#[derive(Debug)]
pub(crate) struct Dice {
    seed: Seed,
    rolls: u64,
}

impl Dice {
    pub(crate) fn new(seed: Seed) -> Self {
        Self { seed, rolls: 0 }
    }

    fn roll(&mut self) -> Seed {
        self.rolls += 1;
        self.seed.fold_in(self.rolls)
    }

    /// `⌊exp(U[ln low, ln high])⌋`, the reference's `logint`.
    pub(crate) fn log_int(&mut self, [low, high]: [u32; 2]) -> usize {
        LogUniform::new(f64::from(low), f64::from(high)).at(Draws::new(self.roll()).word()) as usize
    }

    /// A whole number from `low` to `high`, each as likely.
    pub(crate) fn int(&mut self, [low, high]: [u32; 2]) -> usize {
        (low + Draws::new(self.roll()).below(high - low + 1)) as usize
    }

    /// Uniform in `[low, high)`.
    pub(crate) fn uniform(&mut self, [low, high]: [f64; 2]) -> f64 {
        low + (high - low) * Draws::new(self.roll()).uniform()
    }

    /// One of several.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let count = u32::try_from(of.len()).expect("few choices");
        &of[Draws::new(self.roll()).below(count) as usize]
    }
}
