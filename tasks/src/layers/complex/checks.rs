//! Every complex layer's backward pass against central differences, and its lanes against each other.

use std::sync::Arc;

use candle_core::{DType, Result, Tensor};

use super::*;
use crate::layers::gradcheck::{check, values};
use crate::layers::{Border, Tape, Window};

const LANES: usize = 2;

type Function = dyn Fn(&mut Tape, &[Tensor]) -> Result<Tensor>;

/// A layer as a function of tensors that all have a lane axis.
struct Layer {
    name: String,
    arguments: Vec<Tensor>,
    run: Box<Function>,
}

fn layer(
    name: impl Into<String>,
    shapes: &[&[usize]],
    run: impl Fn(&mut Tape, &[Tensor]) -> Result<Tensor> + 'static,
) -> Layer {
    let with_lanes = |(salt, shape): (usize, &&[usize])| values(&[&[LANES], *shape].concat(), salt);
    Layer { name: name.into(), arguments: shapes.iter().enumerate().map(with_lanes).collect(), run: Box::new(run) }
}

fn complex(stacked: &Tensor) -> Result<ComplexTensor> {
    ComplexTensor::from_stacked(stacked.clone())
}

fn pair(re: &Tensor, im: &Tensor) -> Pair {
    Pair { re: re.clone(), im: im.clone() }
}

fn whitening(params: &[Tensor]) -> Whitening {
    let [rr, ii, ri, re, im] = params else { panic!("five parameters") };
    Whitening { rr: rr.clone(), ii: ii.clone(), ri: ri.clone(), beta: pair(re, im) }
}

fn linear_layers(layers: &mut Vec<Layer>) {
    for batch in [&[3][..], &[2, 3]] {
        let input = [batch, &[2 * 3]].concat();
        layers.push(layer("linear", &[&input, &[3, 2], &[3, 2], &[2], &[2]], |tape, a| {
            let output = linear(tape, &complex(&a[0])?, &pair(&a[1], &a[2]), Some(&pair(&a[3], &a[4])))?;
            Ok(output.stacked().clone())
        }));
    }
    layers.push(layer("linear without bias", &[&[3, 6], &[3, 2], &[3, 2]], |tape, a| {
        Ok(linear(tape, &complex(&a[0])?, &pair(&a[1], &a[2]), None)?.stacked().clone())
    }));
    layers.push(layer("two real biases", &[&[3], &[3]], |tape, a| {
        Pair::of_two_real_biases(tape, &a[0], &a[1])?.stack(tape)
    }));
}

fn convolutions(layers: &mut Vec<Layer>) {
    let plain = ComplexConv2d::default();
    let settings = [
        (plain, 2, 3),
        (ComplexConv2d { stride: [2, 1], padding: [1, 0], ..plain }, 2, 3),
        (ComplexConv2d { padding: [1, 2], dilation: [2, 2], ..plain }, 1, 2),
        (ComplexConv2d { padding: [0, 1], groups: 2, ..plain }, 2, 4),
        (ComplexConv2d { groups: 4, ..plain }, 1, 4),
    ];
    for (settings, of_group, outputs) in settings {
        let input = [2, 4, 5, 2 * of_group * settings.groups];
        let weight = [2, 3, of_group, outputs];
        layers.push(layer(
            format!("{settings:?}"),
            &[&input, &weight, &weight, &[outputs], &[outputs]],
            move |tape, a| {
                let (weight, bias) = (pair(&a[1], &a[2]), pair(&a[3], &a[4]));
                Ok(conv2d(tape, &complex(&a[0])?, &weight, Some(&bias), settings)?.stacked().clone())
            },
        ));
    }
}

fn activations(layers: &mut Vec<Layer>) {
    for activation in ComplexActivation::ALL {
        layers.push(layer(format!("{activation:?}"), &[&[3, 2, 8]], move |tape, a| {
            // Half as large: away from the poles of the holomorphic ones.
            let half = crate::layers::scale(tape, &a[0], 0.5)?;
            Ok(activate(tape, &complex(&half)?, activation)?.stacked().clone())
        }));
    }
    layers.push(layer("modrelu", &[&[3, 2, 8], &[4]], |tape, a| {
        Ok(modrelu(tape, &complex(&a[0])?, &a[1])?.stacked().clone())
    }));
    layers.push(layer("modulus", &[&[3, 2, 8]], |tape, a| modulus(tape, &complex(&a[0])?)));
}

fn poolings(layers: &mut Vec<Layer>) {
    for (size, stride) in [([2, 2], [2, 2]), ([3, 2], [1, 2]), ([3, 3], [2, 2])] {
        let window = Window { size, stride };
        layers.push(layer(format!("max {window:?}"), &[&[2, 5, 7, 4]], move |tape, a| {
            Ok(max_pool2d(tape, &complex(&a[0])?, window)?.stacked().clone())
        }));
        for counted in [false, true] {
            let border = Border { pixels: [1, 1], counted };
            layers.push(layer(format!("mean {window:?} {border:?}"), &[&[2, 4, 5, 4]], move |tape, a| {
                Ok(average_pool2d(tape, &complex(&a[0])?, window, border)?.stacked().clone())
            }));
        }
    }
}

fn norms(layers: &mut Vec<Layer>) {
    for input in [&[7, 4][..], &[3, 2, 3, 4]] {
        let shapes: [&[usize]; 6] = [input, &[2], &[2], &[2], &[2], &[2]];
        layers.push(layer("batch norm, training", &shapes, |tape, a| {
            let (output, _, _) = batch_norm_train(tape, &complex(&a[0])?, &whitening(&a[1..]), 1e-3)?;
            Ok(output.stacked().clone())
        }));
        layers.push(layer("batch norm, evaluation", &shapes, |tape, a| {
            let lanes = a[0].dim(0)?;
            let running = Moments { mean: vec![[0.5, -1.0]; 2 * lanes], covariance: vec![[2.0, 0.7, 0.6]; 2 * lanes] };
            let output = batch_norm_eval(tape, &complex(&a[0])?, &whitening(&a[1..]), &running, 1e-3)?;
            Ok(output.stacked().clone())
        }));
    }
}

fn losses(layers: &mut Vec<Layer>) {
    layers.push(layer("cross entropy of modulus", &[&[3, 8]], |tape, a| {
        cross_entropy_of_modulus(tape, &complex(&a[0])?, &Arc::new(vec![0, 3, 1]))
    }));
    layers.push(layer("mean squared distance", &[&[3, 2, 4]], |tape, a| {
        let target = values(&[1, 3, 2, 4], 9).to_dtype(a[0].dtype())?;
        mean_squared_distance(tape, &complex(&a[0])?, &complex(&target)?)
    }));
}

fn layers() -> Vec<Layer> {
    let mut layers = Vec::new();
    [linear_layers, convolutions, activations, poolings, norms, losses].iter().for_each(|add| add(&mut layers));
    layers
}

#[test]
fn gradients_are_those_of_differences() {
    for Layer { name, arguments, run } in layers() {
        check(&name, &arguments, run);
    }
}

/// The bits of the output and of the gradient of each argument.
fn bits(layer: &Layer, arguments: &[Tensor]) -> Vec<Vec<Vec<u32>>> {
    let mut tape = Tape::default();
    arguments.iter().for_each(|argument| tape.variable(argument));
    let output = (layer.run)(&mut tape, arguments).unwrap();
    let mut gradients = tape.backward_from(&output, output.affine(0.7, 0.3).unwrap()).unwrap();
    let tensors = arguments.iter().map(|argument| gradients.take(argument).unwrap());
    let of_lane = |tensor: &Tensor| -> Vec<u32> {
        tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    };
    let by_lane =
        |tensor: Tensor| (0..tensor.dim(0).unwrap()).map(|lane| of_lane(&tensor.get(lane).unwrap())).collect();
    std::iter::once(output).chain(tensors).map(by_lane).collect()
}

#[test]
fn a_lane_is_the_same_to_the_bit_whatever_its_neighbours() {
    for layer in layers() {
        let f32s = |lane: usize, count: usize| -> Vec<Tensor> {
            let of = |tensor: &Tensor| {
                tensor.narrow(0, lane, count).and_then(|part| part.contiguous()?.to_dtype(DType::F32))
            };
            layer.arguments.iter().map(|argument| of(argument).unwrap()).collect()
        };
        let together = bits(&layer, &f32s(0, LANES));
        for lane in 0..LANES {
            let alone = bits(&layer, &f32s(lane, 1));
            for (index, (together, alone)) in together.iter().zip(alone).enumerate() {
                assert_eq!(together[lane], alone[0], "{}: lane {lane} of tensor {index}", layer.name);
            }
        }
        // A neighbour that diverged.
        let mut broken = f32s(0, LANES);
        let nan = Tensor::full(f32::NAN, f32s(1, 1)[0].dims(), &candle_core::Device::Cpu).unwrap();
        broken[0] = Tensor::cat(&[&f32s(0, 1)[0], &nan], 0).unwrap();
        for (index, (together, broken)) in together.iter().zip(bits(&layer, &broken)).enumerate() {
            assert_eq!(together[0], broken[0], "{}: a NaN beside changes tensor {index}", layer.name);
        }
    }
}

#[test]
fn data_that_lanes_share_are_the_same_as_copies() {
    let data = values(&[1, 2, 4, 5, 4], 5);
    let weight = pair(&values(&[LANES, 2, 3, 2, 3], 1), &values(&[LANES, 2, 3, 2, 3], 2));
    let run = |data: &Tensor| {
        let mut tape = Tape::default();
        tape.variable(&weight.re);
        let settings = ComplexConv2d::default();
        let output = conv2d(&mut tape, &complex(data).unwrap(), &weight, None, settings).unwrap().stacked().clone();
        let gradient = tape.backward(&output).unwrap().take(&weight.re).unwrap();
        [output, gradient].map(|tensor| tensor.flatten_all().unwrap().to_vec1::<f64>().unwrap())
    };
    assert_eq!(run(&data), run(&Tensor::cat(&[&data, &data], 0).unwrap()));
}

#[test]
fn shapes_that_do_not_fit_are_refused_by_name() {
    let (images, rows) = (complex(&values(&[1, 2, 3, 3, 4], 0)).unwrap(), complex(&values(&[1, 2, 4], 0)).unwrap());
    let square = |shape: &[usize]| pair(&values(shape, 1), &values(shape, 2));
    let settings = ComplexConv2d::default();
    let mut tape = Tape::default();
    let cases = [
        ("complex conv2d", conv2d(&mut tape, &images, &square(&[1, 2, 2, 3, 2]), None, settings)),
        (
            "groups",
            conv2d(&mut tape, &images, &square(&[1, 2, 2, 2, 2]), None, ComplexConv2d { groups: 0, ..settings }),
        ),
        ("window", conv2d(&mut tape, &images, &square(&[1, 4, 2, 2, 2]), None, settings)),
        (
            "window",
            conv2d(&mut tape, &images, &square(&[1, 2, 2, 2, 2]), None, ComplexConv2d { dilation: [0, 1], ..settings }),
        ),
        ("bias", conv2d(&mut tape, &images, &square(&[1, 2, 2, 2, 2]), Some(&square(&[1, 3])), settings)),
        ("complex linear", linear(&mut tape, &rows, &square(&[1, 3, 2]), None)),
        ("lanes", linear(&mut tape, &complex(&values(&[3, 2, 4], 0)).unwrap(), &square(&[2, 2, 2]), None)),
        ("modrelu", modrelu(&mut tape, &rows, &values(&[1, 3], 0))),
    ];
    for (expected, result) in cases {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} should name {expected:?}");
    }
}
