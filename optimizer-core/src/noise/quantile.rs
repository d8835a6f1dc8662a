//! The normal transform: 32 random bits to one standard normal, with the same bits on every host.
//!
//! ```text
//!  word  s mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm      s: sign      m: two-sided tail p = (m + 1/2) / 2³¹
//!  m     0001 ssssss ffffffffffffffffffffffff   leading zeros: octave, 6 bits: segment, 24 bits: fraction
//!  z     base[octave, segment] + slope[octave, segment] · fraction
//! ```
//!
//! One product and one sum in f32, everything else on integers: no `log`, no `cos`, no library whose last bit differs.
//! Octaves make the table fine where the quantile is steep: the error is below 2e-5 everywhere, the largest value is
//! 6.338 (p = 2⁻³²), and the variance over all words is 1. Table and generator: `normal_table.bin`, `normal_table.py`.

const SEGMENT_BITS: u32 = 6;
const FRACTION_BITS: u32 = 24;
pub(super) const ROWS: usize = 32 << SEGMENT_BITS;
const BYTES: &[u8; ROWS * 8] = include_bytes!("normal_table.bin");

pub(super) static TABLE: [[f32; 2]; ROWS] = parse();

const fn parse() -> [[f32; 2]; ROWS] {
    let mut table = [[0.0; 2]; ROWS];
    let mut i = 0;
    while i < 2 * ROWS {
        let bytes = [BYTES[4 * i], BYTES[4 * i + 1], BYTES[4 * i + 2], BYTES[4 * i + 3]];
        table[i / 2][i % 2] = f32::from_le_bytes(bytes);
        i += 1;
    }
    table
}

/// The standard normal of one random word.
#[inline(always)]
pub(super) fn normal(word: u32) -> f32 {
    let magnitude = word & 0x7FFF_FFFF;
    // The leading one ends up in bit 30 (m = 0 has none and takes row 31·64).
    let octave = (magnitude << 1 | 1).leading_zeros();
    let aligned = magnitude << octave;
    let segment = (aligned >> FRACTION_BITS) & ((1 << SEGMENT_BITS) - 1);
    let fraction = (aligned & ((1 << FRACTION_BITS) - 1)) as f32;
    let [base, slope] = TABLE[((octave << SEGMENT_BITS | segment) as usize) & (ROWS - 1)];
    let z = base + slope * fraction;
    f32::from_bits(z.to_bits() ^ (word & 0x8000_0000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn the_table_is_pinned() {
        let digest: String = Sha256::digest(BYTES).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, "2d28b340a1e354b24881052b1b2825a5ba36301dd8c03bcf62996c8277268399");
    }

    #[test]
    fn larger_magnitudes_never_give_larger_values() {
        // Around every segment edge, and both ends.
        let mut edges: Vec<u32> = vec![0, 1, 2, 3, 0x7FFF_FFFF];
        for octave in 0..=24 {
            edges.extend((0..64_u32).map(|segment| ((1 << 30) + (segment << 24)) >> octave));
        }
        edges.sort_unstable();
        for edge in edges {
            for m in edge.saturating_sub(3)..edge.saturating_add(3).min(0x7FFF_FFFF) {
                // Where two chords meet, rounding may cost the last bit.
                assert!(normal(m) >= normal(m + 1) - 3e-7, "m = {m}: {} < {}", normal(m), normal(m + 1));
            }
        }
        assert!((normal(0) - 6.337_936).abs() < 1e-6);
        assert!(normal(0x7FFF_FFFF) >= 0.0 && normal(0x7FFF_FFFF) < 1e-6);
    }

    #[test]
    fn the_sign_bit_mirrors() {
        for m in [0, 1, 77, 0x1234_5678, 0x7FFF_FFFF] {
            assert_eq!(normal(m | 0x8000_0000).to_bits(), (-normal(m)).to_bits());
        }
    }

    #[test]
    fn quantiles_are_those_of_the_normal_distribution() {
        // Two-sided tails from tables of the normal distribution.
        for (p, z) in [(0.317_310_507_9, 1.0), (0.045_500_263_9, 2.0), (0.002_699_796_1, 3.0), (6.334_248_4e-5, 4.0)] {
            let m = (p * 2_f64.powi(31)) as u32;
            assert!((f64::from(normal(m)) - z).abs() < 2e-5, "{} is not {z}", normal(m));
        }
    }
}
