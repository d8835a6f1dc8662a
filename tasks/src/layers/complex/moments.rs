//! Statistics of complex batch normalisation: of a batch, or running ones of many.

use candle_core::{DType, Result, Tensor, bail};

use crate::layers::tensor;

/// Mean and covariance of each channel of each lane, `[lanes · channels]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Mean of real and of imaginary parts.
    pub mean: Vec<[f64; 2]>,
    /// Covariance rr, ii, ri, without ε.
    pub covariance: Vec<[f64; 3]>,
}

/// What running statistics take from the covariance V of a batch of n values. Implementations differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunningRule {
    /// V n/(n − 1): unbiased, without ε. This project's rule.
    Unbiased,
    /// (V + ε I) n/(n − 1): complexPyTorch's.
    UnbiasedWithEpsilon,
    /// V + ε I: that of Trabelsi's code.
    BiasedWithEpsilon,
}

impl Moments {
    /// Where running statistics start: mean 0, covariance I/√2.
    pub fn initial(lanes: usize, channels: usize) -> Self {
        let variance = std::f64::consts::FRAC_1_SQRT_2;
        Self { mean: vec![[0.0; 2]; lanes * channels], covariance: vec![[variance, variance, 0.0]; lanes * channels] }
    }

    /// As tensors for a model's state: means `[lanes, channels, 2]` and covariances `[lanes, channels, 3]`, in f32.
    ///
    /// # Errors
    /// If the lanes do not divide the channels of all lanes.
    pub fn to_tensors(&self, lanes: usize) -> Result<[Tensor; 2]> {
        let singles = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
        let channels = self.mean.len() / lanes.max(1);
        Ok([
            tensor::<f32>(singles(self.mean.as_flattened()), &[lanes, channels, 2])?,
            tensor::<f32>(singles(self.covariance.as_flattened()), &[lanes, channels, 3])?,
        ])
    }

    /// The inverse of [`Moments::to_tensors`].
    ///
    /// # Errors
    /// If the shapes are others.
    pub fn from_tensors(mean: &Tensor, covariance: &Tensor) -> Result<Self> {
        let ((lanes, channels, two), (other_lanes, other_channels, three)) = (mean.dims3()?, covariance.dims3()?);
        if (lanes, channels, two, three) != (other_lanes, other_channels, 2, 3) {
            bail!("complex batch norm: means {:?} do not fit covariances {:?}", mean.shape(), covariance.shape());
        }
        let values = |tensor: &Tensor| tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
        let (mean, covariance) = (values(mean)?, values(covariance)?);
        Ok(Self { mean: mean.as_chunks().0.to_vec(), covariance: covariance.as_chunks().0.to_vec() })
    }

    /// Moves running statistics towards those of a batch with `count` values a channel: `(1 − momentum) · running +
    /// momentum · batch`. `epsilon` is that of the normalisation.
    ///
    /// # Errors
    /// If the batch has other channels.
    pub fn update(&mut self, batch: &Self, count: usize, momentum: f64, epsilon: f64, rule: RunningRule) -> Result<()> {
        let lengths = |moments: &Self| (moments.mean.len(), moments.covariance.len());
        if lengths(self) != lengths(batch) {
            bail!(
                "complex batch norm: running statistics of {:?} channels, a batch of {:?}",
                lengths(self),
                lengths(batch)
            );
        }
        let unbiased = count as f64 / (count as f64 - 1.0);
        let (inside, factor) = match rule {
            RunningRule::Unbiased => (0.0, unbiased),
            RunningRule::UnbiasedWithEpsilon => (epsilon, unbiased),
            RunningRule::BiasedWithEpsilon => (epsilon, 1.0),
        };
        let towards = |running: &mut f64, batch: f64| *running = (1.0 - momentum) * *running + momentum * batch;
        for (running, batch) in self.mean.iter_mut().zip(&batch.mean) {
            running.iter_mut().zip(batch).for_each(|(running, &batch)| towards(running, batch));
        }
        for (running, &[rr, ii, ri]) in self.covariance.iter_mut().zip(&batch.covariance) {
            let batch = [rr + inside, ii + inside, ri].map(|value| value * factor);
            running.iter_mut().zip(batch).for_each(|(running, batch)| towards(running, batch));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_statistics_move_towards_those_of_batches() {
        let mut running = Moments::initial(1, 1);
        let batch = Moments { mean: vec![[2.0, -4.0]], covariance: vec![[3.0, 6.0, 1.5]] };
        for rule in [RunningRule::Unbiased, RunningRule::UnbiasedWithEpsilon, RunningRule::BiasedWithEpsilon] {
            for _ in 0..300 {
                running.update(&batch, 4, 0.1, 0.25, rule).unwrap();
            }
            let expected = match rule {
                RunningRule::Unbiased => [4.0, 8.0, 2.0],
                RunningRule::UnbiasedWithEpsilon => [3.25 * 4.0 / 3.0, 6.25 * 4.0 / 3.0, 2.0],
                RunningRule::BiasedWithEpsilon => [3.25, 6.25, 1.5],
            };
            let off = running.covariance[0].iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(off < 1e-9 && (running.mean[0][1] + 4.0).abs() < 1e-9, "{rule:?}: {running:?}");
        }
        assert!(running.update(&Moments::initial(1, 2), 4, 0.1, 0.25, RunningRule::Unbiased).is_err());
    }

    #[test]
    fn statistics_come_back_from_a_state() {
        let moments = Moments { mean: vec![[0.5, -1.0]; 6], covariance: vec![[2.0, 0.75, -0.25]; 6] };
        let [mean, covariance] = moments.to_tensors(2).unwrap();
        assert_eq!((mean.dims(), covariance.dims()), (&[2, 3, 2][..], &[2, 3, 3][..]));
        assert_eq!(Moments::from_tensors(&mean, &covariance).unwrap(), moments);
        assert!(Moments::from_tensors(&covariance, &mean).is_err() && moments.to_tensors(4).is_err());
    }
}
