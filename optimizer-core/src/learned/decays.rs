//! Scalar inputs of learned optimizers: decays moved by theta, and the embeddings of time.

use super::float::{exact_exp, ln, tanh};

/// Times of the embeddings, in steps.
const TIMES: [f32; 11] = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5];

/// Number of values of [`time_embedding`] and of [`wave_embedding`].
pub(super) const TIME_CHANNELS: usize = TIMES.len();

/// A decay near `initial`, moved by a learned offset: `1 − exp(10 · (ln(1 − initial)/10 + offset))`.
///
/// A positive offset lowers the decay, a large one makes it negative.
pub(super) fn moved_decay(initial: f32, offset: f32) -> f32 {
    let encoded = ln(1.0 - initial) / 10.0;
    1.0 - exact_exp((encoded + offset) * 10.0)
}

/// `tanh(t/τ − 1)` at eleven times τ; `step` is the number of updates already applied.
pub(super) fn time_embedding(step: u32) -> [f32; TIME_CHANNELS] {
    TIMES.map(|time| tanh(step as f32 / time - 1.0))
}

/// `sin(t/(τ π))` at the same times; `step` is the number of updates already applied. The sine is taken in f64.
pub(super) fn wave_embedding(step: u32) -> [f32; TIME_CHANNELS] {
    TIMES.map(|time| f64::from(step as f32 / (time * std::f32::consts::PI)).sin() as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_offset_a_decay_stays() {
        for decay in [0.5_f32, 0.9, 0.99, 0.999] {
            assert!((moved_decay(decay, 0.0) - decay).abs() <= f32::EPSILON, "{decay}");
        }
    }

    #[test]
    fn offsets_move_the_logarithm_of_the_rest() {
        // 10 · 0.0693147 = ln 2: what is taken doubles.
        assert!((moved_decay(0.9, 0.069_314_72) - 0.8).abs() < 1e-6);
        assert!(moved_decay(0.9, 1.0) < 0.0);
    }

    #[test]
    fn waves_begin_at_zero_and_have_their_periods() {
        assert_eq!(wave_embedding(0), [0.0; TIME_CHANNELS]);
        // 30 steps at τ = 3: sin(10/π).
        assert!((f64::from(wave_embedding(30)[1]) - (10.0 / std::f64::consts::PI).sin()).abs() < 1e-6);
    }

    #[test]
    fn time_begins_at_tanh_of_minus_one() {
        assert!(time_embedding(0).iter().all(|&value| (value + 0.761_594_2).abs() < 1e-7));
        assert_eq!(time_embedding(1)[0], 0.0);
        assert_eq!(time_embedding(1_000_000)[0], 1.0);
    }
}
