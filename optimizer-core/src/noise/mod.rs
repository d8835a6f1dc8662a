//! `noise/v1`.
use crate::Seed;
/// Version.
pub const VERSION: &str = "noise/v1";
/// Writes `out[i]` = ε(seed, first + i), standard normal.
pub fn normals(_seed: Seed, _first: u64, _out: &mut [f32]) {
    unimplemented!()
}
/// Sequential draws from one seed.
#[derive(Clone, Debug)]
pub struct Draws {
    seed: Seed,
    next: u64,
}
impl Draws {
    /// From the beginning of the seed's stream.
    pub fn new(seed: Seed) -> Self {
        Self { seed, next: 0 }
    }
    /// 32 random bits.
    pub fn word(&mut self) -> u32 {
        unimplemented!("{:?} {}", self.seed, self.next)
    }
    /// Uniform in `[0, 1)`, 53 bits.
    pub fn uniform(&mut self) -> f64 {
        unimplemented!()
    }
    /// Uniform in `0..n`, without bias.
    pub fn below(&mut self, _n: u32) -> u32 {
        unimplemented!()
    }
    /// Standard normal.
    pub fn normal(&mut self) -> f32 {
        unimplemented!()
    }
}
