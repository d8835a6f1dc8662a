//! Every layer's backward pass against central finite differences in f64, over every entry of every argument; and the
//! forward passes against candle's own layers.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};

use super::*;

/// Reproducible values that are nowhere near a kink or a tie: multiples of 1/64, all distinct within 1009 entries.
pub(crate) fn values(shape: &[usize], salt: usize) -> Tensor {
    let count: usize = shape.iter().product();
    assert!(count <= 1009);
    let data: Vec<f64> = (0..count).map(|i| ((i * 517 + salt * 131 + 7) % 1009) as f64 / 256.0 - 1.97).collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}

/// Checks `d Σ cotangent · f(arguments) / d arguments` entry by entry.
pub(super) fn check(name: &str, arguments: &[Tensor], f: impl Fn(&mut Tape, &[Tensor]) -> Result<Tensor>) {
    let mut tape = Tape::default();
    arguments.iter().for_each(|argument| tape.variable(argument));
    let output = f(&mut tape, arguments).unwrap();
    let cotangent = values(output.dims(), 3);
    let objective = |arguments: &[Tensor]| -> f64 {
        (f(&mut Tape::default(), arguments).unwrap() * &cotangent).unwrap().sum_all().unwrap().to_scalar().unwrap()
    };
    let mut gradients = tape.backward_from(&output, cotangent.clone()).unwrap();
    for (index, argument) in arguments.iter().enumerate() {
        let gradient = gradients.take(argument).unwrap_or_else(|| panic!("{name}: no gradient of argument {index}"));
        assert_eq!(gradient.dims(), argument.dims(), "{name}: argument {index}");
        let gradient: Vec<f64> = gradient.flatten_all().unwrap().to_vec1().unwrap();
        let at: Vec<f64> = argument.flatten_all().unwrap().to_vec1().unwrap();
        let largest = gradient.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
        assert!(largest > 0.0, "{name}: argument {index} has no influence, so the check would be empty");
        for entry in 0..at.len() {
            let shifted = |delta: f64| {
                let mut values = at.clone();
                values[entry] += delta;
                let mut arguments = arguments.to_vec();
                arguments[index] = Tensor::from_vec(values, argument.dims(), &Device::Cpu).unwrap();
                objective(&arguments)
            };
            let step = 1e-5;
            let expected = (shifted(step) - shifted(-step)) / (2.0 * step);
            let error = (gradient[entry] - expected).abs();
            assert!(
                error <= 1e-7 * (1.0 + largest),
                "{name}: argument {index} entry {entry}: {} but differences say {expected}",
                gradient[entry]
            );
        }
    }
}

/// Checks that two tensors have one shape and differ by at most `tolerance`.
pub(super) fn close(name: &str, got: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(got.dims(), expected.dims(), "{name}");
    let worst = (got.to_dtype(DType::F64).unwrap() - expected.to_dtype(DType::F64).unwrap())
        .and_then(|difference| difference.abs()?.max_all()?.to_scalar::<f64>())
        .unwrap();
    assert!(worst <= tolerance, "{name}: off by {worst}");
}

/// Checks in f32 that a lane's output and gradients are the same bits with and without the other lanes: `arguments` are
/// `[lanes, …]`, and those with a lane axis of 1 are data that all share.
pub(super) fn lanes_are_independent(arguments: &[Tensor], f: impl Fn(&mut Tape, &[Tensor]) -> Result<Tensor>) {
    let arguments: Vec<Tensor> = arguments.iter().map(|argument| argument.to_dtype(DType::F32).unwrap()).collect();
    let lanes = arguments.iter().map(|argument| argument.dim(0).unwrap()).max().unwrap();
    let run = |lane: Option<usize>| -> Vec<Tensor> {
        let of = |tensor: &Tensor| match lane {
            Some(lane) if tensor.dim(0).unwrap() == lanes => tensor.get(lane).unwrap().unsqueeze(0).unwrap(),
            _ => tensor.clone(),
        };
        let own: Vec<Tensor> = arguments.iter().map(|argument| of(argument).copy().unwrap()).collect();
        let variables: Vec<&Tensor> = own
            .iter()
            .zip(&arguments)
            .filter(|(_, whole)| whole.dim(0).unwrap() == lanes)
            .map(|(own, _)| own)
            .collect();
        let mut tape = Tape::default();
        variables.iter().for_each(|variable| tape.variable(variable));
        let output = f(&mut tape, &own).unwrap();
        let whole: Vec<usize> = [&[lanes], &output.dims()[1..]].concat();
        let cotangent = of(&values(&whole, 3).to_dtype(DType::F32).unwrap());
        let mut gradients = tape.backward_from(&output, cotangent).unwrap();
        let gradients = variables.iter().map(|variable| gradients.take(variable).unwrap());
        std::iter::once(output.clone()).chain(gradients).collect()
    };
    let together = run(None);
    for lane in 0..lanes {
        for (index, (together, alone)) in together.iter().zip(run(Some(lane))).enumerate() {
            let bits = |tensor: Tensor| -> Vec<u32> {
                tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
            };
            let together = bits(together.get(lane).unwrap());
            assert_eq!(together, bits(alone), "lane {lane} meets others (0: output, then gradients: {index})");
        }
    }
}

#[test]
fn linear_gradients_are_those_of_differences() {
    for activation in [Activation::Identity, Activation::Relu] {
        for (lanes, batch, inputs, outputs) in [(1, 1, 1, 2), (2, 3, 5, 4), (3, 7, 2, 1)] {
            let arguments = [
                values(&[lanes, batch, inputs], 0),
                values(&[lanes, inputs, outputs], 1),
                values(&[lanes, outputs], 2),
            ];
            check(&format!("linear {activation:?}"), &arguments, |tape, a| {
                linear(tape, &a[0], &a[1], &a[2], activation)
            });
        }
        // Examples of any shape are flattened, and get a gradient of their own shape.
        let arguments = [values(&[2, 3, 2, 1, 3], 0), values(&[2, 6, 4], 1), values(&[2, 4], 2)];
        check("linear on images", &arguments, |tape, a| linear(tape, &a[0], &a[1], &a[2], activation));
        let data = values(&[1, 3, 5], 5);
        check("linear on shared data", &[values(&[2, 5, 4], 1), values(&[2, 4], 2)], |tape, a| {
            linear(tape, &data, &a[0], &a[1], activation)
        });
    }
}

#[test]
fn conv_gradients_are_those_of_differences() {
    // (image, kernel, stride, padding, dilation), odd and unequal sizes included
    let cases = [
        ([4, 5], [3, 3], [1, 1], [1, 1], [1, 1]),
        ([5, 4], [3, 2], [2, 1], [0, 1], [1, 1]),
        ([6, 7], [2, 3], [2, 3], [1, 0], [1, 1]),
        ([3, 3], [3, 3], [1, 1], [0, 0], [1, 1]),
        ([2, 3], [1, 1], [1, 2], [0, 0], [1, 1]),
        ([3, 2], [3, 4], [2, 2], [2, 2], [1, 1]),
        ([7, 6], [3, 2], [1, 1], [2, 1], [2, 3]),
        ([5, 6], [2, 3], [2, 1], [1, 2], [1, 2]),
        ([6, 5], [2, 2], [1, 2], [0, 1], [3, 1]),
    ];
    for (image, kernel, stride, padding, dilation) in cases {
        for activation in [Activation::Identity, Activation::Relu] {
            let settings = Conv2d { stride, padding, dilation, activation };
            let arguments = [
                values(&[2, 3, image[0], image[1], 2], 0),
                values(&[2, kernel[0], kernel[1], 2, 3], 1),
                values(&[2, 3], 2),
            ];
            check(&format!("conv {image:?} {settings:?}"), &arguments, |tape, a| {
                conv2d(tape, &a[0], &a[1], &a[2], settings)
            });
        }
    }
    let settings = Conv2d { stride: [2, 2], padding: [1, 1], dilation: [1, 1], activation: Activation::Relu };
    let data = values(&[1, 3, 5, 5, 2], 5);
    check("conv on shared data", &[values(&[3, 3, 3, 2, 2], 1), values(&[3, 2], 2)], |tape, a| {
        conv2d(tape, &data, &a[0], &a[1], settings)
    });
}

#[test]
fn a_convolution_of_many_chunks_is_that_of_one_image_at_a_time() {
    // 40 images of 16×16 with a 3×3×2 patch are five chunks.
    let settings = Conv2d { stride: [1, 1], padding: [1, 1], dilation: [1, 1], activation: Activation::Relu };
    let data: Vec<f32> = (0..40 * 16 * 16 * 2).map(|i| ((i * 7919) % 613) as f32 / 613.0 - 0.5).collect();
    let images = Tensor::from_vec(data, (1, 40, 16, 16, 2), &Device::Cpu).unwrap();
    let weight = values(&[1, 3, 3, 2, 4], 1).to_dtype(DType::F32).unwrap();
    let bias = values(&[1, 4], 2).to_dtype(DType::F32).unwrap();
    let run = |images: &Tensor| {
        let mut tape = Tape::default();
        [&weight, &bias].iter().for_each(|variable| tape.variable(variable));
        let output = conv2d(&mut tape, images, &weight, &bias, settings).unwrap();
        let mut gradients = tape.backward(&output).unwrap();
        (output, gradients.take(&weight).unwrap(), gradients.take(&bias).unwrap())
    };
    let (together, weight_together, bias_together) = run(&images);
    let alone: Vec<_> = (0..40).map(|i| run(&images.narrow(1, i, 1).unwrap().contiguous().unwrap())).collect();
    let outputs: Vec<&Tensor> = alone.iter().map(|(output, _, _)| output).collect();
    close("outputs", &together, &Tensor::cat(&outputs, 1).unwrap(), 1e-5);
    let sum = |pick: fn(&(Tensor, Tensor, Tensor)) -> &Tensor| {
        alone.iter().map(pick).cloned().reduce(|a, b| (a + b).unwrap()).unwrap()
    };
    close("weight gradient", &weight_together, &sum(|run| &run.1), 1e-2);
    close("bias gradient", &bias_together, &sum(|run| &run.2), 1e-2);
}

#[test]
fn pooling_gradients_are_those_of_differences() {
    // Dividing, with a remainder, overlapping, with gaps, unequal axes, the whole image.
    let cases = [
        ([4, 4], [2, 2], [2, 2]),
        ([5, 7], [2, 2], [2, 2]),
        ([5, 5], [3, 3], [2, 2]),
        ([7, 5], [2, 1], [3, 2]),
        ([4, 3], [3, 2], [1, 1]),
        ([3, 5], [3, 5], [3, 5]),
    ];
    for (image, size, stride) in cases {
        let window = Window { size, stride };
        let arguments = [values(&[2, 3, image[0], image[1], 2], 0)];
        check(&format!("max pool {image:?} {window:?}"), &arguments, |tape, a| max_pool2d(tape, &a[0], window));
        check(&format!("avg pool {image:?} {window:?}"), &arguments, |tape, a| avg_pool2d(tape, &a[0], window));
        for counted in [false, true] {
            let border = Border { pixels: [size[0] - 1, size[1] / 2], counted };
            check(&format!("avg pool {image:?} {window:?} {border:?}"), &arguments, |tape, a| {
                avg_pool2d_bordered(tape, &a[0], window, border)
            });
        }
    }
}

#[test]
fn cross_entropy_gradients_are_those_of_differences() {
    let shared = Arc::new(vec![0, 3, 1]);
    check("cross entropy, shared labels", &[values(&[2, 3, 4], 0)], |tape, a| cross_entropy(tape, &a[0], &shared));
    let own = Arc::new(vec![0, 3, 1, 2, 2, 0]);
    check("cross entropy, own labels", &[values(&[2, 3, 4], 0)], |tape, a| cross_entropy(tape, &a[0], &own));
}

#[test]
fn layers_agree_with_those_of_candle() {
    let close = |name: &str, got: &Tensor, expected: &Tensor| close(name, got, expected, 1e-12);
    let (input, weight, bias) = (values(&[2, 3, 5], 0), values(&[2, 5, 4], 1), values(&[2, 4], 2));
    let got = linear(&mut Tape::default(), &input, &weight, &bias, Activation::Relu).unwrap();
    for lane in 0..2 {
        let of_lane = |tensor: &Tensor| tensor.get(lane).unwrap();
        let layer = candle_nn::Linear::new(of_lane(&weight).t().unwrap(), Some(of_lane(&bias)));
        let expected = candle_nn::Module::forward(&layer, &of_lane(&input)).unwrap().relu().unwrap();
        close("linear", &of_lane(&got), &expected);
    }

    let (images, kernels, bias) = (values(&[2, 3, 6, 7, 2], 0), values(&[2, 3, 3, 2, 4], 1), values(&[2, 4], 2));
    for (stride, padding, dilation) in [(1, 1, 1), (2, 0, 1), (3, 2, 1), (1, 2, 2)] {
        let activation = Activation::Identity;
        let settings = Conv2d { stride: [stride; 2], padding: [padding; 2], dilation: [dilation; 2], activation };
        let got = conv2d(&mut Tape::default(), &images, &kernels, &bias, settings).unwrap();
        for lane in 0..2 {
            let channels_first = images.get(lane).unwrap().permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
            let kernel = kernels.get(lane).unwrap().permute((3, 2, 0, 1)).unwrap().contiguous().unwrap();
            let config = candle_nn::Conv2dConfig { stride, padding, dilation, ..Default::default() };
            let layer = candle_nn::Conv2d::new(kernel, Some(bias.get(lane).unwrap()), config);
            let expected = candle_nn::Module::forward(&layer, &channels_first).unwrap();
            close("conv2d", &got.get(lane).unwrap(), &expected.permute((0, 2, 3, 1)).unwrap());
        }
    }

    let window = Window { size: [3, 2], stride: [2, 2] };
    let channels_first = images.get(0).unwrap().permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
    let expected = channels_first.max_pool2d_with_stride((3, 2), (2, 2)).unwrap().permute((0, 2, 3, 1)).unwrap();
    close("max pool", &max_pool2d(&mut Tape::default(), &images, window).unwrap().get(0).unwrap(), &expected);
    let expected = channels_first.avg_pool2d_with_stride((3, 2), (2, 2)).unwrap().permute((0, 2, 3, 1)).unwrap();
    close("avg pool", &avg_pool2d(&mut Tape::default(), &images, window).unwrap().get(0).unwrap(), &expected);

    let logits = values(&[2, 3, 4], 0);
    let got = cross_entropy(&mut Tape::default(), &logits, &Arc::new(vec![0, 3, 1])).unwrap();
    let labels = Tensor::new(&[0_u32, 3, 1], &Device::Cpu).unwrap();
    for lane in 0..2 {
        let expected = candle_nn::loss::cross_entropy(&logits.get(lane).unwrap(), &labels).unwrap();
        close("cross entropy", &got.get(lane).unwrap(), &expected);
    }
}

#[test]
fn ties_and_kinks_follow_jax() {
    let window = Window { size: [2, 2], stride: [2, 2] };
    let flat = Tensor::from_vec(vec![1.0_f32, 5.0, 5.0, 5.0], (1, 1, 2, 2, 1), &Device::Cpu).unwrap();
    let mut tape = Tape::default();
    tape.variable(&flat);
    let output = max_pool2d(&mut tape, &flat, window).unwrap();
    let mut gradients = tape.backward(&output).unwrap();
    let gradient: Vec<f32> = gradients.take(&flat).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(gradient, [0.0, 1.0, 0.0, 0.0], "the first of equals takes it all");

    let zero = Tensor::from_vec(vec![0.0_f32], (1, 1, 1), &Device::Cpu).unwrap();
    let weight = Tensor::ones((1, 1, 1), DType::F32, &Device::Cpu).unwrap();
    let bias = Tensor::zeros((1, 1), DType::F32, &Device::Cpu).unwrap();
    let mut tape = Tape::default();
    tape.variable(&zero);
    let output = linear(&mut tape, &zero, &weight, &bias, Activation::Relu).unwrap();
    let mut gradients = tape.backward(&output).unwrap();
    let gradient: Vec<f32> = gradients.take(&zero).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(gradient, [0.0], "relu'(0) = 0");
}

#[test]
fn nan_is_never_hidden() {
    let weight = Tensor::ones((1, 1, 2), DType::F32, &Device::Cpu).unwrap();
    let bias = Tensor::zeros((1, 2), DType::F32, &Device::Cpu).unwrap();
    let input = Tensor::from_vec(vec![f32::NAN], (1, 1, 1), &Device::Cpu).unwrap();
    let logits = linear(&mut Tape::default(), &input, &weight, &bias, Activation::Relu).unwrap();
    let labels = Arc::new(vec![0]);
    assert!(cross_entropy(&mut Tape::default(), &logits, &labels).unwrap().to_vec1::<f32>().unwrap()[0].is_nan());
    assert_eq!(correct(&logits, &labels, None).unwrap(), [(0, 1)], "a diverged lane classifies nothing right");

    let image = Tensor::from_vec(vec![1.0_f32, f32::NAN, 3.0, 4.0], (1, 1, 2, 2, 1), &Device::Cpu).unwrap();
    let window = Window { size: [2, 2], stride: [2, 2] };
    let pooled: Vec<f32> =
        max_pool2d(&mut Tape::default(), &image, window).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    assert!(pooled[0].is_nan());
}

#[test]
fn shapes_that_do_not_fit_are_refused_by_name() {
    let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();
    let settings = Conv2d { stride: [1, 1], padding: [0, 0], dilation: [1, 1], activation: Activation::Identity };
    let window = |size, stride| Window { size, stride };
    let no_stride = Conv2d { stride: [0, 1], ..settings };
    let tracked = ones(&[1, 3, 4]);
    let mut tape = Tape::default();
    tape.variable(&tracked);
    let labels = |labels: &[u32]| Arc::new(labels.to_vec());
    let cases = [
        ("lanes", linear(&mut Tape::default(), &ones(&[3, 3, 4]), &ones(&[2, 4, 5]), &ones(&[2, 5]), Activation::Relu)),
        ("data", linear(&mut tape, &tracked, &ones(&[2, 4, 5]), &ones(&[2, 5]), Activation::Relu)),
        (
            "values an example",
            linear(&mut Tape::default(), &ones(&[2, 3, 3]), &ones(&[2, 4, 5]), &ones(&[2, 5]), Activation::Relu),
        ),
        ("bias", linear(&mut Tape::default(), &ones(&[2, 3, 4]), &ones(&[2, 4, 5]), &ones(&[2, 4]), Activation::Relu)),
        (
            "do not fit",
            conv2d(&mut Tape::default(), &ones(&[1, 1, 3, 3, 2]), &ones(&[1, 2, 2, 1, 1]), &ones(&[1, 1]), settings),
        ),
        (
            "window",
            conv2d(&mut Tape::default(), &ones(&[1, 1, 3, 3, 1]), &ones(&[1, 4, 2, 1, 1]), &ones(&[1, 1]), settings),
        ),
        (
            "window",
            conv2d(&mut Tape::default(), &ones(&[1, 1, 3, 3, 1]), &ones(&[1, 2, 2, 1, 1]), &ones(&[1, 1]), no_stride),
        ),
        ("pooling", max_pool2d(&mut Tape::default(), &ones(&[1, 1, 3, 3, 1]), window([4, 1], [1, 1]))),
        ("pooling", avg_pool2d(&mut Tape::default(), &ones(&[1, 1, 3, 3, 1]), window([1, 1], [0, 1]))),
        (
            "border",
            avg_pool2d_bordered(
                &mut Tape::default(),
                &ones(&[1, 1, 3, 3, 1]),
                window([2, 2], [1, 1]),
                Border { pixels: [2, 0], counted: true },
            ),
        ),
        ("label 2 of 2", cross_entropy(&mut Tape::default(), &ones(&[1, 2, 2]), &labels(&[0, 2]))),
        ("3 labels", cross_entropy(&mut Tape::default(), &ones(&[2, 2, 2]), &labels(&[0, 1, 1]))),
    ];
    for (expected, result) in cases {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} should name {expected:?}");
    }
}
