//! `noise/v1`: random numbers that are the same bits on every host, today and in a year.
//!
//! Nobody stores or sends a perturbation; whoever needs one rebuilds it from its seed. That works because each number
//! is a pure function of its place:
//!
//! ```text
//!  seed ─► key ┐
//!              ├─► Philox4x32-10 ─► block of 4 words ─► word ─► quantile table ─► ε(seed, i)
//!  i ─► counter┘                                                                  i = 4 · block + place
//!  counter = [block low, block high, stream, 0];  key = [seed low, seed high]
//!  stream 0: normals (perturbations)   stream 1: Draws (decisions)
//! ```
//!
//! Philox4x32-10 is that of Salmon, Moraes, Dror and Shaw ("Parallel random numbers: as easy as 1, 2, 3", SC 2011). No
//! libm, no fused multiply-add, no vendor library takes part, so a device that follows the same five integer steps gets
//! the same ε. Changing any of this is a new version with a new name; `tests/noise_v1.json` pins the stream.

mod draws;
mod philox;
mod quantile;

pub use draws::Draws;

use crate::Seed;
use crate::simd::{Kernel, Simd, dispatch};
use philox::{BATCH, RoundKeys};

/// Name of this generator in checkpoints and on the wire.
pub const VERSION: &str = "noise/v1";

/// Rows of [`quantile_table`].
pub const QUANTILE_ROWS: usize = quantile::ROWS;

/// Stream of [`normals`].
const NORMALS: u32 = 0;
/// Stream of [`Draws`].
const DRAWS: u32 = 1;

/// Writes `out[i] = ε(seed, first + i)`, standard normal and independent: the inverse of the normal distribution
/// function from a table, to 2e-5, of words of Philox4x32-10; the largest magnitude is 6.338. Any part of the vector
/// can be asked for: the values do not depend on where a call begins or ends.
///
/// ```
/// use paceline_optimizer_core::{Seed, noise};
///
/// let (mut whole, mut part) = ([0.0; 100], [0.0; 10]);
/// noise::normals(Seed::new(1), 0, &mut whole);
/// noise::normals(Seed::new(1), 50, &mut part);
/// assert_eq!(part, whole[50..60]);
/// ```
pub fn normals(seed: Seed, first: u64, out: &mut [f32]) {
    dispatch(Normals { keys: round_keys(seed), first, out });
}

/// Integers, one product and one sum a number: the compiler makes vectors of them for each instruction set, and no bit
/// depends on it.
struct Normals<'a> {
    keys: RoundKeys,
    first: u64,
    out: &'a mut [f32],
}

impl Kernel for Normals<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        const NUMBERS: usize = 4 * BATCH;
        let Self { keys, first, out } = self;
        let mut block = first / 4;
        let skip = (first % 4) as usize;
        let mut rest = out;
        if skip > 0 {
            let head = rest.len().min(NUMBERS - skip);
            let (now, later) = rest.split_at_mut(head);
            now.copy_from_slice(&batch(&keys, block)[skip..skip + head]);
            block = block.wrapping_add(BATCH as u64);
            rest = later;
        }
        let (batches, tail) = rest.as_chunks_mut::<NUMBERS>();
        for numbers in batches {
            *numbers = batch(&keys, block);
            block = block.wrapping_add(BATCH as u64);
        }
        if !tail.is_empty() {
            let length = tail.len();
            tail.copy_from_slice(&batch(&keys, block)[..length]);
        }
    }
}

/// The normals of `BATCH` successive blocks, in order.
#[inline(always)]
fn batch(keys: &RoundKeys, block: u64) -> [f32; 4 * BATCH] {
    let words = keys.batch(block, NORMALS);
    let mut out = [0.0; 4 * BATCH];
    for place in 0..4 {
        for i in 0..BATCH {
            out[4 * i + place] = quantile::normal(words[place][i] as u32);
        }
    }
    out
}

/// The table of the normal transform, base and slope of each row: what a device needs, beside five integer steps, to make
/// the same numbers.
pub fn quantile_table() -> &'static [[f32; 2]; QUANTILE_ROWS] {
    &quantile::TABLE
}

fn round_keys(seed: Seed) -> RoundKeys {
    RoundKeys::new([seed.value() as u32, (seed.value() >> 32) as u32])
}
