//! A few numbers one after another, for decisions: which task, which length, which initial weight.

use super::philox::{BATCH, RoundKeys};
use super::{DRAWS, quantile, round_keys};
use crate::Seed;
use crate::simd::{Kernel, Simd, dispatch};

/// Sequential draws from one seed: the words of stream 1, in order. [`super::normals`] reads stream 0, so both may be
/// used with one seed.
///
/// ```
/// use paceline_optimizer_core::{Seed, noise::Draws};
///
/// let mut draws = Draws::new(Seed::new(7));
/// assert!((0.0..1.0).contains(&draws.uniform()));
/// assert!(draws.below(6) < 6);
/// ```
#[derive(Clone, Debug)]
pub struct Draws {
    keys: RoundKeys,
    block: [u32; 4],
    next: u64,
}

impl Draws {
    /// From the beginning of the seed's stream.
    pub fn new(seed: Seed) -> Self {
        Self { keys: round_keys(seed), block: [0; 4], next: 0 }
    }

    /// 32 random bits: the next word of the stream.
    pub fn word(&mut self) -> u32 {
        let place = (self.next % 4) as usize;
        if place == 0 {
            let block = self.next / 4;
            self.block = self.keys.block([block as u32, (block >> 32) as u32, DRAWS, 0]);
        }
        self.next += 1;
        self.block[place]
    }

    /// The next words of the stream, as many as `words` takes: those that [`Self::word`] would give one by one, but many
    /// blocks at once.
    pub fn fill_words(&mut self, words: &mut [u32]) {
        let begun = (self.next.wrapping_neg() % 4) as usize;
        let (begun, rest) = words.split_at_mut(begun.min(words.len()));
        begun.iter_mut().for_each(|word| *word = self.word());
        let (batches, last) = rest.as_chunks_mut();
        let (block, count) = (self.next / 4, batches.len());
        if count > 0 {
            dispatch(Words { keys: &self.keys, block, batches });
            self.next += (count * WORDS) as u64;
        }
        last.iter_mut().for_each(|word| *word = self.word());
    }

    /// Uniform in `[0, 1)`: the upper 53 of 64 bits (first word high) over 2⁵³. Takes two words.
    pub fn uniform(&mut self) -> f64 {
        let high = u64::from(self.word());
        let low = u64::from(self.word());
        ((high << 32 | low) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in `0..n`, without bias: the upper half of `word · n`, drawn again while the lower half falls among the
    /// `2³² mod n` surplus values (Lemire, arXiv 1805.10941). Takes one word, seldom more.
    ///
    /// # Panics
    /// If `n` is 0: there is nothing to choose from.
    pub fn below(&mut self, n: u32) -> u32 {
        assert!(n > 0, "cannot draw below 0");
        let surplus = n.wrapping_neg() % n;
        loop {
            let product = u64::from(self.word()) * u64::from(n);
            if product as u32 >= surplus {
                return (product >> 32) as u32;
            }
        }
    }

    /// Standard normal: the transform of [`super::normals`]. Takes one word.
    pub fn normal(&mut self) -> f32 {
        quantile::normal(self.word())
    }
}

/// Words of a batch of blocks.
const WORDS: usize = 4 * BATCH;

/// The words of whole batches, from `block` on.
struct Words<'a> {
    keys: &'a RoundKeys,
    block: u64,
    batches: &'a mut [[u32; WORDS]],
}

impl Kernel for Words<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let mut block = self.block;
        for out in self.batches {
            let words = self.keys.batch(block, DRAWS);
            for place in 0..4 {
                for i in 0..BATCH {
                    out[4 * i + place] = words[place][i] as u32;
                }
            }
            block = block.wrapping_add(BATCH as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_at_once_are_those_one_by_one() {
        let (mut single, mut bulk) = (Draws::new(Seed::new(6)), Draws::new(Seed::new(6)));
        for length in [0, 1, 2, 64, 63, 256, 3, 131, 128, 1, 700] {
            let mut words = vec![0; length];
            bulk.fill_words(&mut words);
            let expected: Vec<u32> = (0..length).map(|_| single.word()).collect();
            assert_eq!(words, expected, "{length} words");
            assert_eq!(bulk.clone().word(), single.clone().word());
        }
        assert_eq!(bulk.word(), single.word());
    }

    #[test]
    fn below_is_uniform_and_in_range() {
        let mut draws = Draws::new(Seed::new(3));
        let mut counts = [0_u32; 7];
        for _ in 0..70_000 {
            counts[draws.below(7) as usize] += 1;
        }
        // Binomial with mean 10 000 and deviation 93: five deviations.
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 465), "{counts:?}");
        assert_eq!(draws.below(1), 0);
    }

    #[test]
    fn below_redraws_the_surplus() {
        // 2³² mod 3·2³⁰ = 2³⁰: without the redraw, thirds of the range would come up 2 : 1 : 1 for n = 3·2³⁰.
        let mut draws = Draws::new(Seed::new(4));
        let n = 3 << 30;
        let third = (0..30_000).filter(|_| draws.below(n) < 1 << 30).count();
        assert!(third.abs_diff(10_000) < 410, "{third}");
    }

    #[test]
    fn uniform_has_the_moments_of_the_unit_interval() {
        let mut draws = Draws::new(Seed::new(5));
        let values: Vec<f64> = (0..100_000).map(|_| draws.uniform()).collect();
        let mean = values.iter().sum::<f64>() / 1e5;
        let square = values.iter().map(|u| u * u).sum::<f64>() / 1e5;
        assert!(values.iter().all(|u| (0.0..1.0).contains(u)));
        assert!((mean - 0.5).abs() < 0.005 && (square - 1.0 / 3.0).abs() < 0.005, "{mean} {square}");
    }
}
