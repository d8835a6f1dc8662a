//! Dropout: some entries become 0, the others grow by `1 / (1 − rate)`, so that the mean stays (Srivastava et al., JMLR
//! 15, 2014, in its "inverted" form). Which ones is a pure function of the lane's seed, so a step can be repeated.

use candle_core::{Result, Tensor, bail};
use paceline_optimizer_core::simd::{Kernel, Simd, dispatch};
use paceline_optimizer_core::{Seed, noise::Draws};

use super::real::Real;
use super::slices::{block_mut, lane_of};
use super::{Tape, by_type, host, tensor};

/// Drops entries of `[lanes | 1, …]` with probability `rate`, each lane by its own seed: entry `i` of a lane is dropped
/// if the `i`-th word of its [`Draws`] is below `rate · 2³²`. One seed a lane gives `[lanes, …]`, also of shared data.
/// Fold the step and the layer into the seed: the same seed drops the same entries. A rate of 0 is the identity; leave
/// dropout out for evaluation.
///
/// # Errors
/// If the rate is not in `[0, 1)`, seeds and lanes do not fit, or the tensor is not contiguous f32 or f64.
pub fn dropout(tape: &mut Tape, input: &Tensor, rate: f64, seeds: &[Seed]) -> Result<Tensor> {
    if !(0.0..1.0).contains(&rate) {
        bail!("dropout: a rate of {rate} is not in [0, 1)");
    }
    let (have, lanes) = (input.dim(0)?, seeds.len());
    if have != lanes && (have != 1 || tape.tracks(input)) {
        bail!("dropout: {lanes} seeds for {have} lanes");
    }
    if rate == 0.0 && have == lanes {
        return Ok(input.clone());
    }
    let (output, factors) = by_type!("dropout", input.dtype(), forward::<_>(input, rate, seeds))?;
    let dtype = input.dtype();
    Ok(tape.record_keeping("dropout", &[input], output, &[&factors.clone()], move |grad, _| {
        by_type!("dropout", dtype, backward::<_>(&factors, grad)).map(|gradient| vec![Some(gradient)])
    }))
}

/// Words drawn at once.
const BLOCK: usize = 256;

/// Where a word is at least `limit` the factor is `kept`, else 0. The compiler makes vectors of it.
struct Dropping<'a, T> {
    output: &'a mut [T],
    factors: &'a mut [T],
    values: &'a [T],
    words: &'a [u32],
    limit: u64,
    kept: T,
}

impl<T: Real> Kernel for Dropping<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let zero = T::zero();
        let outputs = self.output.iter_mut().zip(self.factors);
        for ((output, factor), (&value, &word)) in outputs.zip(self.values.iter().zip(self.words)) {
            *factor = if u64::from(word) >= self.limit { self.kept } else { zero };
            // A product, so that NaN stays NaN where it is dropped.
            *output = value * *factor;
        }
    }
}

/// The output, and the factor of each entry: 0 or `1 / (1 − rate)`.
fn forward<T: Real>(input: &Tensor, rate: f64, seeds: &[Seed]) -> Result<(Tensor, Tensor)> {
    let guard = input.storage_and_layout();
    let values = host::<T>(&guard)?;
    let size = values.len() / input.dim(0)?.max(1);
    // No word is between a number and the next integer. It may be 2³².
    let limit = (rate * (1_u64 << 32) as f64).ceil() as u64;
    let kept = T::from_f64(1.0 / (1.0 - rate));
    let mut factors = vec![T::zero(); seeds.len() * size];
    let mut output = vec![T::zero(); seeds.len() * size];
    for (lane, &seed) in seeds.iter().enumerate() {
        let mut draws = Draws::new(seed);
        let mut words = [0; BLOCK];
        let factors = block_mut(&mut factors, lane, size).chunks_mut(BLOCK);
        let output = block_mut(&mut output, lane, size).chunks_mut(BLOCK);
        for ((output, factors), values) in output.zip(factors).zip(lane_of(values, lane, size).chunks(BLOCK)) {
            let words = &mut words[..values.len()];
            draws.fill_words(words);
            dispatch(Dropping { output, factors, values, words, limit, kept });
        }
    }
    let dims = [&[seeds.len()], &input.dims()[1..]].concat();
    Ok((tensor(output, &dims)?, tensor(factors, &dims)?))
}

fn backward<T: Real>(factors: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (factor_guard, grad_guard) = (factors.storage_and_layout(), grad.storage_and_layout());
    let mut grads = host::<T>(&grad_guard)?.to_vec();
    grads.iter_mut().zip(host::<T>(&factor_guard)?).for_each(|(grad, &factor)| *grad *= factor);
    tensor(grads, grad.dims())
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::layers::gradcheck::{check, close, values};

    fn seeds(count: u64) -> Vec<Seed> {
        (0..count).map(|lane| Seed::new(3).fold_in(lane)).collect()
    }

    #[test]
    fn gradients_are_those_of_differences() {
        check("dropout", &[values(&[2, 3, 5], 0)], |tape, x| dropout(tape, &x[0], 0.4, &seeds(2)));
    }

    #[test]
    fn it_keeps_the_mean_and_drops_by_the_lanes_seed_alone() {
        let ones = Tensor::ones((3, 100, 400), DType::F32, &Device::Cpu).unwrap();
        let run = |input: &Tensor, seeds: &[Seed]| dropout(&mut Tape::default(), input, 0.25, seeds).unwrap();
        let output = run(&ones, &seeds(3));
        let dropped = |lane: usize| {
            let values: Vec<f32> = output.get(lane).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            assert!(values.iter().all(|&value| value == 0.0 || value == 4.0 / 3.0));
            values.iter().filter(|&&value| value == 0.0).count()
        };
        // Binomial with mean 10 000 and deviation 87: five deviations.
        assert!((0..3).all(|lane| dropped(lane).abs_diff(10_000) < 433));
        let alone = run(&ones.narrow(0, 1, 1).unwrap(), &seeds(3)[1..2]);
        close("a lane alone", &alone, &output.narrow(0, 1, 1).unwrap(), 0.0);
        let shared = run(&ones.narrow(0, 0, 1).unwrap(), &seeds(3));
        close("shared data", &shared, &output, 0.0);
        assert_ne!(
            output.get(0).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            output.get(1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        );
    }

    #[test]
    fn a_rate_of_zero_changes_nothing_and_nonsense_is_refused() {
        let x = values(&[2, 3], 0);
        let run = |rate, count| dropout(&mut Tape::default(), &x, rate, &seeds(count));
        close("rate 0", &run(0.0, 2).unwrap(), &x, 0.0);
        for rate in [1.0, -0.1, f64::NAN] {
            assert!(run(rate, 2).unwrap_err().to_string().contains("not in [0, 1)"));
        }
        assert!(run(0.5, 3).unwrap_err().to_string().contains("3 seeds for 2 lanes"));
    }
}
