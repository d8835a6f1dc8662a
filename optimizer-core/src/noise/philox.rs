//! Philox4x32-10: a keyed bijection of 128-bit counters (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy
//! as 1, 2, 3", SC 2011).
//!
//! Ten rounds of two 32×32→64-bit products and a few exclusive ors. Counters are computed in batches, word by word, so
//! that the compiler turns the inner loops into vector instructions.

/// Counters computed at once.
pub(super) const BATCH: usize = 16;

const ROUNDS: usize = 10;
const MULTIPLIERS: [u64; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// The ten round keys of one 64-bit key.
#[derive(Clone, Debug)]
pub(super) struct RoundKeys([[u32; 2]; ROUNDS]);

impl RoundKeys {
    /// From the key's low and high word.
    pub(super) fn new(key: [u32; 2]) -> Self {
        let mut keys = [key; ROUNDS];
        for round in 1..ROUNDS {
            keys[round] = [keys[round - 1][0].wrapping_add(WEYL[0]), keys[round - 1][1].wrapping_add(WEYL[1])];
        }
        Self(keys)
    }

    /// The block of one counter.
    pub(super) fn block(&self, counter: [u32; 4]) -> [u32; 4] {
        let mut words = counter.map(|word| [u64::from(word)]);
        self.rounds(&mut words);
        words.map(|[word]| word as u32)
    }

    /// The blocks of counters `[block, stream, 0]` for `BATCH` successive 64-bit block numbers: word `j` of block
    /// `first + i` is the low half of `words[j][i]`.
    #[inline(always)]
    pub(super) fn batch(&self, first: u64, stream: u32) -> [[u64; BATCH]; 4] {
        let mut words = [[0; BATCH], [0; BATCH], [u64::from(stream); BATCH], [0; BATCH]];
        let [low, high, ..] = &mut words;
        for (i, (low, high)) in low.iter_mut().zip(high).enumerate() {
            let block = first.wrapping_add(i as u64);
            *low = block & 0xFFFF_FFFF;
            *high = block >> 32;
        }
        self.rounds(&mut words);
        words
    }

    /// Words live in the low halves of 64-bit places, where the products are formed; high halves are dropped on use.
    #[inline(always)]
    fn rounds<const N: usize>(&self, words: &mut [[u64; N]; 4]) {
        let [w0, w1, w2, w3] = words;
        for key in &self.0 {
            let [k0, k1] = [u64::from(key[0]), u64::from(key[1])];
            for (((w0, w1), w2), w3) in w0.iter_mut().zip(w1.iter_mut()).zip(w2.iter_mut()).zip(w3.iter_mut()) {
                let product0 = (*w0 & 0xFFFF_FFFF) * MULTIPLIERS[0];
                let product1 = (*w2 & 0xFFFF_FFFF) * MULTIPLIERS[1];
                *w0 = (product1 >> 32) ^ *w1 ^ k0;
                *w1 = product1;
                *w2 = (product0 >> 32) ^ *w3 ^ k1;
                *w3 = product0;
            }
        }
        for word in words.as_flattened_mut() {
            *word &= 0xFFFF_FFFF;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers published with the paper's reference implementation (Random123, `kat_vectors`).
    #[test]
    fn known_answers_of_the_paper() {
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(RoundKeys::new(key).block(counter), expected, "counter {counter:x?}");
        }
    }

    #[test]
    fn a_batch_is_its_blocks_also_across_the_carry() {
        let keys = RoundKeys::new([7, 11]);
        let first = u64::from(u32::MAX) - 5;
        let words = keys.batch(first, 3);
        for (i, block) in (first..first + BATCH as u64).enumerate() {
            let expected = keys.block([block as u32, (block >> 32) as u32, 3, 0]);
            assert_eq!(words.map(|word| word[i] as u32), expected, "block {block}");
        }
    }
}
