//! Grouped convolution: groups of channels that do not see each other.

use candle_core::{Result, Tensor, bail};

use super::{Conv2d, Tape, concat, conv2d, narrow};

/// A [`conv2d`] for each of `groups` equal runs of channels: `input` is `[lanes | 1, batch, height, width, in]`,
/// `weight` `[lanes, kernel_h, kernel_w, in / groups, out]`, `bias` `[lanes, out]`, the result
/// `[lanes, batch, out_h, out_w, out]`. Outputs `g · out / groups ..` see inputs `g · in / groups ..`.
///
/// # Errors
/// As [`conv2d`], and if the groups do not divide the channels.
pub fn grouped_conv2d(
    tape: &mut Tape,
    input: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    settings: Conv2d,
    groups: usize,
) -> Result<Tensor> {
    let (.., channels) = input.dims5()?;
    let (.., of_group, outputs) = weight.dims5()?;
    if groups == 0 || of_group.checked_mul(groups) != Some(channels) || outputs % groups != 0 {
        bail!("grouped conv2d: weights {:?} in {groups} groups do not fit images {:?}", weight.shape(), input.shape());
    }
    if groups == 1 {
        return conv2d(tape, input, weight, bias, settings);
    }
    if bias.dims() != [weight.dim(0)?, outputs] {
        bail!("grouped conv2d: expected a bias of {outputs} values a lane, got {:?}", bias.shape());
    }
    let step = outputs / groups;
    let parts = (0..groups).map(|group| {
        let input = narrow(tape, input, 4, group * of_group, of_group)?;
        let weight = narrow(tape, weight, 4, group * step, step)?;
        let bias = narrow(tape, bias, 1, group * step, step)?;
        conv2d(tape, &input, &weight, &bias, settings)
    });
    let parts = parts.collect::<Result<Vec<_>>>()?;
    concat(tape, &parts.iter().collect::<Vec<_>>(), 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::Activation;
    use crate::layers::gradcheck::{check, values};

    const DENSE: Conv2d =
        Conv2d { stride: [1, 1], padding: [1, 0], dilation: [1, 1], activation: Activation::Identity };

    #[test]
    fn gradients_are_those_of_differences() {
        for (groups, of_group, outputs) in [(2, 2, 4), (3, 1, 3), (1, 4, 2)] {
            let arguments = [
                values(&[2, 2, 4, 3, groups * of_group], 0),
                values(&[2, 3, 2, of_group, outputs], 1),
                values(&[2, outputs], 2),
            ];
            check(&format!("{groups} groups"), &arguments, |tape, a| {
                grouped_conv2d(tape, &a[0], &a[1], &a[2], DENSE, groups)
            });
        }
    }

    #[test]
    fn groups_agree_with_those_of_candle() {
        let (images, kernels, bias) = (values(&[1, 3, 6, 5, 4], 0), values(&[1, 3, 3, 2, 6], 1), values(&[1, 6], 2));
        let settings = Conv2d { padding: [1, 1], ..DENSE };
        let ours = grouped_conv2d(&mut Tape::default(), &images, &kernels, &bias, settings, 2).unwrap();
        let channels_first = images.get(0).unwrap().permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
        let kernel = kernels.get(0).unwrap().permute((3, 2, 0, 1)).unwrap().contiguous().unwrap();
        let theirs = channels_first.conv2d(&kernel, 1, 1, 1, 2).unwrap();
        let theirs = theirs.broadcast_add(&bias.reshape((1, 6, 1, 1)).unwrap()).unwrap();
        let off = (ours.get(0).unwrap().permute((0, 3, 1, 2)).unwrap() - theirs).unwrap().abs().unwrap();
        let worst: f64 = off.max_all().unwrap().to_scalar().unwrap();
        assert!(worst < 1e-12, "off by {worst}");
    }

    #[test]
    fn groups_that_do_not_divide_are_refused() {
        let (images, bias) = (values(&[1, 1, 3, 3, 4], 0), values(&[1, 3], 1));
        for (groups, of_group) in [(0, 4), (2, 4), (2, 2), (usize::MAX, 4)] {
            let kernels = values(&[1, 2, 2, of_group, 3], 2);
            let result = grouped_conv2d(&mut Tape::default(), &images, &kernels, &bias, DENSE, groups);
            assert!(result.unwrap_err().to_string().contains("groups"), "{groups}");
        }
    }
}
