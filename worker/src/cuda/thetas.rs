//! Thetas of lanes, made on the device instead of sent there.
//!
//! ```text
//!  theta, once ──────────────┐
//!  parts of ε ─► tiles ──────┼─► lane_thetas (kernels/noise.cu) ─► [lanes, theta]: theta + sigma ε, theta − sigma ε
//!  seeds, factors of a pair ─┘     a block a tile of a pair
//! ```
//!
//! They are the CPU's to the bit, whatever the kind of noise. What travels is one theta and some words a pair; of
//! orthogonal noise, whose directions depend on those before, some words for each of those too.

use std::ops::Range;

use paceline_optimizer_core::perturbation::{Antithetic, FactoredMatrix, Noise, Part, Perturbation};
use paceline_optimizer_core::{Layout, Seed, TensorSpec, Theta, noise};

use super::budget::Need;

/// Of a dense tile: blocks of four normals. As in `kernels/perturbation.cuh`, like the next three.
const TILE_QUADS: usize = 512;

/// Of a tile of a matrix.
const TILE_ROWS: usize = 32;

/// Of a tile of a matrix.
const TILE_COLUMNS: usize = 64;

/// Columns of the factors that are in shared memory at a time.
const TILE_RANKS: usize = 16;

/// Bytes of shared memory of a block.
pub const SHARED: u32 = (4 * TILE_RANKS * (TILE_ROWS + TILE_COLUMNS)) as u32;

/// Words of a `Part` of `kernels/perturbation.cuh`.
const PART_WORDS: usize = 6;

/// One launch of `lane_thetas`: its parameters, but for the table.
#[derive(Clone, Debug)]
pub struct ThetaJob<'a> {
    /// What is perturbed.
    pub theta: &'a [f32],
    /// How far.
    pub sigma: f32,
    /// `Part`s.
    pub parts: Vec<[u32; PART_WORDS]>,
    /// `1 / √rank` of each part.
    pub scales: Vec<f64>,
    /// Blocks of a pair.
    pub tiles: u32,
    /// Where the streams of each pair begin, and where those of the last one end.
    pub first_streams: Vec<u32>,
    /// Of each stream.
    pub seeds: Vec<u64>,
    /// Of each stream.
    pub factors: Vec<f64>,
}

impl<'a> ThetaJob<'a> {
    /// The thetas of some pairs of `lanes`.
    ///
    /// # Panics
    /// If there are no such pairs.
    pub fn new(lanes: &'a Antithetic, pairs: Range<usize>) -> Self {
        let theta = lanes.theta().values();
        let (mut parts, mut scales, mut tiles) = (Vec::new(), Vec::new(), 0);
        for part in lanes.pairs().first().map_or(&[][..], Perturbation::parts) {
            let (words, scale) = described(part, tiles);
            parts.push(words.map(|word| word as u32));
            scales.push(scale);
            tiles += tiles_of(part);
        }
        let (mut first_streams, mut seeds, mut factors) = (vec![0], Vec::new(), Vec::new());
        for epsilon in &lanes.pairs()[pairs] {
            for (seed, factor) in epsilon.streams() {
                seeds.push(seed.value());
                factors.push(*factor);
            }
            first_streams.push(seeds.len() as u32);
        }
        Self { theta, sigma: lanes.sigma(), parts, scales, tiles: tiles as u32, first_streams, seeds, factors }
    }

    /// Pairs of lanes.
    pub fn pairs(&self) -> u32 {
        self.first_streams.len() as u32 - 1
    }

    /// Blocks of the launch.
    pub fn blocks(&self) -> u32 {
        self.tiles * self.pairs()
    }

    /// Floats that it writes.
    pub fn floats(&self) -> usize {
        2 * self.pairs() as usize * self.theta.len()
    }
}

/// A part in words, of which the first tile is `first_tile`, and its scale.
fn described(part: &Part, first_tile: usize) -> ([usize; PART_WORDS], f64) {
    match part {
        // No stream is longer than theta, and no theta that the kernels know is beyond 32 bits.
        Part::Dense { theta, stream } => ([first_tile, theta.start, 1, theta.len(), 0, *stream as usize], 1.0),
        Part::Factored(matrix) => {
            let &FactoredMatrix { offset, rows, columns, rank, stream, .. } = matrix;
            ([first_tile, offset, rows, columns, rank, stream as usize], matrix.scale())
        }
    }
}

/// Blocks that make a part of one pair.
fn tiles_of(part: &Part) -> usize {
    match part {
        Part::Dense { theta, stream } => {
            let skipped = (stream % 4) as usize;
            (skipped + theta.len()).div_ceil(4).div_ceil(TILE_QUADS)
        }
        Part::Factored(matrix) => matrix.rows.div_ceil(TILE_ROWS) * matrix.columns.div_ceil(TILE_COLUMNS),
    }
}

/// Device memory that the thetas of these lanes take, and what they are made of.
pub fn need(lanes: &Antithetic) -> Need {
    let size = lanes.theta().layout().size() as u64;
    let parts = lanes.pairs().first().map_or(0, |epsilon| epsilon.parts().len()) as u64;
    // A scale has two words, as have seed and factor of a stream.
    let shared = size + 2 * noise::QUANTILE_ROWS as u64 + (PART_WORDS as u64 + 2) * parts + 1;
    let streams = lanes.pairs().iter().map(|epsilon| epsilon.streams().len()).max().unwrap_or(0) as u64;
    Need { shared: 4 * shared, pair: 4 * (2 * size + 4 * streams + 1) }
}

/// Lanes under every kind of noise, small but with every kind of edge: a device must make their thetas as the CPU does
/// before it is used.
///
/// # Panics
/// Never: these shapes and settings fit.
pub fn trials() -> Vec<(Noise, Antithetic)> {
    let shapes: [(&str, &[usize]); 6] =
        [("a", &[7]), ("b", &[40, 31]), ("c", &[]), ("d", &[33, 130]), ("e", &[3, 2, 5]), ("f", &[2100])];
    let specs = shapes.iter().map(|&(name, shape)| TensorSpec::new(name, shape)).collect();
    let layout = Layout::new(specs).expect("no name stands twice");
    let mut values = vec![0.0; layout.size()];
    noise::normals(Seed::new(0x5eed), 0, &mut values);
    let theta = Theta::new(&layout, 1, values).expect("as many values as the layout has");
    let of = |noise| {
        let epsilon = |pair| Perturbation::new(Seed::new(11), noise, &layout, 5, 2, pair);
        let pairs = (1..4).map(epsilon).collect::<Result<_, _>>().expect("a few pairs of any kind");
        (noise, Antithetic::new(&theta, pairs, 0.03).expect("perturbations of this theta"))
    };
    // More columns of factors than are in shared memory at a time.
    let beyond = TILE_RANKS as u32 + 1;
    [Noise::Dense, Noise::Orthogonal, Noise::LowRank { rank: 1 }, Noise::LowRank { rank: beyond }].map(of).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launch_is_told_its_parts_and_the_streams_of_its_pairs() {
        let (_, lanes) = trials().pop().unwrap();
        let job = ThetaJob::new(&lanes, 1..3);
        // Seven values; two matrices of rank 17 with a value between; the rest.
        let normals = [7, 17 * (40 + 31), 1, 17 * (33 + 130)];
        let begins: Vec<u32> = (0..5).map(|part| normals[..part].iter().sum()).collect();
        let expected = [
            [0, 0, 1, 7, 0, begins[0]],
            [1, 7, 40, 31, 17, begins[1]],
            [3, 7 + 1240, 1, 1, 0, begins[2]],
            [4, 8 + 1240, 33, 130, 17, begins[3]],
            [10, 8 + 1240 + 4290, 1, 2130, 0, begins[4]],
        ];
        assert_eq!(job.parts, expected);
        // The last part begins within a block of four and takes 534 of them: two tiles.
        assert_eq!((begins[4] % 4, job.tiles, job.blocks()), (2, 12, 24));
        let rooted = 1.0 / 17_f64.sqrt();
        assert_eq!(job.scales, [1.0, rooted, 1.0, rooted, 1.0]);
        let seeds: Vec<u64> = lanes.pairs()[1..].iter().map(|epsilon| epsilon.streams()[0].0.value()).collect();
        assert_eq!((job.first_streams, job.seeds, job.factors), (vec![0, 1, 2], seeds, vec![1.0; 2]));
    }

    #[test]
    fn a_launch_takes_what_was_said() {
        for (noise, lanes) in trials() {
            let (need, pairs) = (need(&lanes), lanes.pairs().len());
            let job = ThetaJob::new(&lanes, 0..pairs);
            let words = |longs: usize| 2 * longs;
            let streams = words(job.seeds.len()) + words(job.factors.len());
            let told =
                job.theta.len() + PART_WORDS * job.parts.len() + words(job.scales.len()) + job.first_streams.len();
            let taken = 4 * (2 * noise::QUANTILE_ROWS + told + streams + job.floats()) as u64;
            let allowed = need.shared + pairs as u64 * need.pair;
            // Of orthogonal noise the last pair has four streams of four words, those before it three and two.
            let spare = if noise == Noise::Orthogonal { 4 * 4 * 3 } else { 0 };
            assert_eq!(allowed, taken + spare, "{noise:?}");
        }
    }
}
