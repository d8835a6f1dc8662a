//! The golden vectors of complex layers: inputs in the layout of the files (channels second) go through the layers and
//! back, on the tape, so that gradients come out in that layout too.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use num_complex::Complex64;

use super::*;
use crate::golden::{Case, Precision, each};
use crate::layers::{Border, Tape, Window, concat, cross_entropy, permute, reshape};

mod initial;
mod network;

/// One case under way.
struct Run<'a> {
    case: &'a mut Case,
    tape: Tape,
    leaves: Vec<(String, Tensor)>,
}

impl<'a> Run<'a> {
    fn of(case: &'a mut Case) -> Self {
        Self { case, tape: Tape::default(), leaves: Vec::new() }
    }

    /// `in.key` as it is; a variable if the case has its gradient.
    fn leaf(&mut self, key: &str) -> Tensor {
        let tensor = constant(self.case, &format!("in.{key}"));
        if self.case.has(&format!("grad.{key}")) {
            self.tape.variable(&tensor);
        }
        self.leaves.push((key.to_owned(), tensor.clone()));
        tensor
    }

    /// `in.key` with a lane axis of 1.
    fn of_lane(&mut self, key: &str) -> Tensor {
        let leaf = self.leaf(key);
        lane(&mut self.tape, &leaf)
    }

    /// The pair of a parameter, its axes permuted into ours.
    fn pair(&mut self, name: &str, axes: &[usize]) -> Pair {
        let [re, im] = ["re", "im"].map(|part| {
            let leaf = self.leaf(&format!("{name}.{part}"));
            parameter(&mut self.tape, &leaf, axes)
        });
        Pair { re, im }
    }

    fn bias(&mut self) -> Option<Pair> {
        self.case.has("in.b.re").then(|| self.pair("b", &[0]))
    }

    /// The activation `name`, its channels on this axis of the file.
    fn activation(&mut self, name: &str, channel_axis: usize) -> ComplexTensor {
        let [re, im] = ["re", "im"].map(|part| {
            let leaf = self.leaf(&format!("{name}.{part}"));
            channels_last(&mut self.tape, &leaf, channel_axis)
        });
        ComplexTensor::from_parts(&mut self.tape, &re, &im).unwrap()
    }

    /// Compares `y.re` and `y.im`, whose channels are on this axis of the file, and all gradients.
    fn finish(mut self, y: &ComplexTensor, channel_axis: usize) {
        let (re, im) = y.parts(&mut self.tape).unwrap();
        let [re, im] = [re, im].map(|part| channels_at(&mut self.tape, &part, channel_axis));
        self.finish_with(&[("y.re", re), ("y.im", im)]);
    }

    /// Compares outputs with `out.*`, and gradients, from the `cot.*` of those outputs that have one, with `grad.*`.
    fn finish_with(mut self, outputs: &[(&str, Tensor)]) {
        let mut ends = Vec::new();
        let mut cotangents = Vec::new();
        for (name, output) in outputs {
            self.case.compare(&format!("out.{name}"), &floats(output));
            let cotangent = format!("cot.{name}");
            if self.case.has(&cotangent) {
                ends.push(reshape(&mut self.tape, output, &[output.elem_count()]).unwrap());
                cotangents.push(constant(self.case, &cotangent).flatten_all().unwrap());
            }
        }
        let end = concat(&mut self.tape, &ends.iter().collect::<Vec<_>>(), 0).unwrap();
        let mut gradients = self.tape.backward_from(&end, Tensor::cat(&cotangents, 0).unwrap()).unwrap();
        for (key, leaf) in &self.leaves {
            let key = format!("grad.{key}");
            if self.case.has(&key) {
                let gradient = gradients.take(leaf).unwrap_or_else(|| panic!("{}: no {key}", self.case.name()));
                self.case.compare(&key, &floats(&gradient));
            }
        }
    }
}

fn dtype(case: &Case) -> DType {
    match case.precision() {
        Precision::F64 => DType::F64,
        Precision::F32 => DType::F32,
    }
}

fn constant(case: &Case, key: &str) -> Tensor {
    Tensor::from_vec(case.floats(key).to_vec(), case.shape(key), &Device::Cpu).unwrap().to_dtype(dtype(case)).unwrap()
}

fn floats(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn numbers(case: &Case, name: &str) -> Vec<Complex64> {
    let [re, im] = ["re", "im"].map(|part| case.floats(&format!("{name}.{part}")));
    re.iter().zip(im).map(|(&re, &im)| Complex64::new(re, im)).collect()
}

fn lane(tape: &mut Tape, tensor: &Tensor) -> Tensor {
    reshape(tape, tensor, &[&[1], tensor.dims()].concat()).unwrap()
}

fn parameter(tape: &mut Tape, tensor: &Tensor, axes: &[usize]) -> Tensor {
    let permuted = permute(tape, tensor, axes).unwrap();
    lane(tape, &permuted)
}

fn channels_last(tape: &mut Tape, tensor: &Tensor, channel_axis: usize) -> Tensor {
    let mut axes: Vec<usize> = (0..tensor.rank()).collect();
    axes.remove(channel_axis);
    axes.push(channel_axis);
    parameter(tape, tensor, &axes)
}

fn channels_at(tape: &mut Tape, tensor: &Tensor, channel_axis: usize) -> Tensor {
    let without_lane = reshape(tape, tensor, &tensor.dims()[1..]).unwrap();
    let last = without_lane.rank() - 1;
    let mut axes: Vec<usize> = (0..last).collect();
    axes.insert(channel_axis, last);
    permute(tape, &without_lane, &axes).unwrap()
}

/// A setting that is 1 or 0 where the manifest has none.
fn size_or(case: &Case, name: &str, default: usize) -> usize {
    if case.param(name).is_null() { default } else { case.size(name) }
}

fn window(case: &Case) -> Window {
    Window { size: [case.size("kernel"); 2], stride: [case.size("stride"); 2] }
}

/// `[out, in, height, width]` to ours.
const KERNEL: [usize; 4] = [2, 3, 1, 0];

#[test]
fn convolutions() {
    each("conv2d_", |case| {
        let settings = ComplexConv2d {
            stride: [size_or(case, "stride", 1); 2],
            padding: [size_or(case, "padding", 0); 2],
            dilation: [size_or(case, "dilation", 1); 2],
            groups: size_or(case, "groups", 1),
        };
        let mut run = Run::of(case);
        let x = run.activation("x", 1);
        let (weight, bias) = if run.case.has("in.wr") {
            let [re, im] = ["wr", "wi"].map(|key| {
                let leaf = run.leaf(key);
                parameter(&mut run.tape, &leaf, &KERNEL)
            });
            let [real, imaginary] = ["br", "bi"].map(|key| run.of_lane(key));
            (Pair { re, im }, Some(Pair::of_two_real_biases(&mut run.tape, &real, &imaginary).unwrap()))
        } else {
            (run.pair("w", &KERNEL), run.bias())
        };
        let y = conv2d(&mut run.tape, &x, &weight, bias.as_ref(), settings).unwrap();
        run.finish(&y, 1);
    });
}

#[test]
fn linear_layers() {
    each("linear_", |case| {
        let last = case.shape("in.x.re").len() - 1;
        let mut run = Run::of(case);
        let (x, weight, bias) = (run.activation("x", last), run.pair("w", &[1, 0]), run.bias());
        let y = linear(&mut run.tape, &x, &weight, bias.as_ref()).unwrap();
        run.finish(&y, last);
    });
}

#[test]
fn activations() {
    each("act_", |case| match case.name().trim_start_matches("act_").to_owned().as_str() {
        "edges" => edges(case),
        "modrelu" => {
            let channels = case.shape("in.x.re")[1];
            let places: usize = case.shape("in.x.re")[2..].iter().product();
            let thresholds = case.floats("in.b");
            let derivatives = numbers(case, "in.x").into_iter().enumerate();
            let derivatives: Vec<Wirtinger> =
                derivatives.map(|(index, z)| modrelu_derivatives(z, thresholds[index / places % channels])).collect();
            compare_derivatives(case, &derivatives);
            let mut run = Run::of(case);
            let (x, b) = (run.activation("x", 1), run.of_lane("b"));
            let y = modrelu(&mut run.tape, &x, &b).unwrap();
            run.finish(&y, 1);
        }
        name => {
            let activation = named(name);
            let derivatives: Vec<Wirtinger> =
                numbers(case, "in.x").into_iter().map(|z| activation.derivatives(z)).collect();
            compare_derivatives(case, &derivatives);
            let last = case.shape("in.x.re").len() - 1;
            let mut run = Run::of(case);
            let x = run.activation("x", last);
            let y = activate(&mut run.tape, &x, activation).unwrap();
            run.finish(&y, last);
        }
    });
}

/// By the name recipes use.
fn named(name: &str) -> ComplexActivation {
    serde_json::from_value(name.into()).unwrap_or_else(|error| panic!("golden complex/act_{name}: {error}"))
}

fn compare_derivatives(case: &mut Case, derivatives: &[Wirtinger]) {
    case.compare_pair("wirtinger.dz", &derivatives.iter().map(|derivative| derivative.dz).collect::<Vec<_>>());
    case.compare_pair("wirtinger.dzbar", &derivatives.iter().map(|derivative| derivative.dzbar).collect::<Vec<_>>());
}

/// Values and gradients where functions have kinks.
fn edges(case: &mut Case) {
    for name in ["crelu", "zrelu", "cardioid", "modrelu"] {
        let mut tape = Tape::default();
        let complex = |key: &str, case: &Case| {
            let [re, im] = ["re", "im"].map(|part| constant(case, &format!("{key}.{part}")).unsqueeze(0).unwrap());
            ComplexTensor::from_parts(&mut Tape::default(), &re, &im).unwrap()
        };
        let (x, cotangent) = (complex("in.x", case), complex("cot.y", case));
        tape.variable(x.stacked());
        let y = if name == "modrelu" {
            modrelu(&mut tape, &x, &constant(case, "in.b").unsqueeze(0).unwrap()).unwrap()
        } else {
            activate(&mut tape, &x, named(name)).unwrap()
        };
        case.compare_pair(&format!("out.{name}"), &y.to_numbers().unwrap());
        let gradient = tape.backward_from(y.stacked(), cotangent.stacked().clone()).unwrap().take(x.stacked()).unwrap();
        let gradient = ComplexTensor::from_stacked(gradient).unwrap().to_numbers().unwrap();
        case.compare_pair(&format!("grad.{name}"), &gradient);
    }
}

fn labels(case: &Case) -> Arc<Vec<u32>> {
    Arc::new(case.integers("in.target").iter().map(|&label| u32::try_from(label).unwrap()).collect())
}

#[test]
fn head_of_a_classifier() {
    each("head_", |case| {
        assert_eq!(case.text("reduction"), "mean");
        let labels = labels(case);
        let mut run = Run::of(case);
        let scores = run.activation("x", 1);
        let loss = cross_entropy_of_modulus(&mut run.tape, &scores, &labels).unwrap();
        let magnitudes = modulus(&mut Tape::default(), &scores).unwrap();
        // A lane an example: the loss of each label in turn.
        let (_, examples, classes) = magnitudes.dims3().unwrap();
        let rows = magnitudes.reshape((examples, 1, classes)).unwrap();
        let of_class =
            |class: usize| cross_entropy(&mut Tape::default(), &rows, &Arc::new(vec![class as u32])).unwrap();
        let losses: Vec<Tensor> = (0..classes).map(of_class).collect();
        let log_probabilities = Tensor::stack(&losses, 1).unwrap().neg().unwrap();
        run.finish_with(&[("mag", magnitudes), ("logp", log_probabilities), ("loss", loss)]);
    });
}

#[test]
fn batch_norms() {
    each("bn_", |case| {
        let (epsilon, momentum) = (case.number("eps"), case.number("momentum"));
        assert_eq!(case.text("reduce"), "all dims but 1");
        let mean: Vec<[f64; 2]> = numbers(case, "in.running_mean").into_iter().map(|z| [z.re, z.im]).collect();
        let covariance = case.floats("in.running_cov").as_chunks::<3>().0.to_vec();
        let running = Moments { mean, covariance };
        if case.param("init").is_string() {
            let initial = Moments::initial(1, running.mean.len());
            let pairs = initial.covariance.iter().flatten().zip(running.covariance.iter().flatten());
            assert!(initial.mean == running.mean && pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-7));
        }
        let mut run = Run::of(case);
        let x = run.activation("x", 1);
        let [rr, ii, ri] = ["rr", "ii", "ri"].map(|entry| run.of_lane(&format!("gamma.{entry}")));
        let params = Whitening { rr, ii, ri, beta: run.pair("beta", &[0]) };
        let y = if run.case.name().ends_with("_eval") {
            batch_norm_eval(&mut run.tape, &x, &params, &running, epsilon).unwrap()
        } else {
            let (y, batch, count) = batch_norm_train(&mut run.tape, &x, &params, epsilon).unwrap();
            compare_moments(run.case, "batch_mean", "batch_cov", &batch);
            for (name, rule) in [
                ("running_cov_new", RunningRule::Unbiased),
                ("running_cov_new_complexpytorch", RunningRule::UnbiasedWithEpsilon),
                ("running_cov_new_biased", RunningRule::BiasedWithEpsilon),
            ] {
                let mut running = running.clone();
                running.update(&batch, count, momentum, epsilon, rule).unwrap();
                compare_moments(run.case, "running_mean_new", name, &running);
            }
            y
        };
        run.finish(&y, 1);
    });
}

fn compare_moments(case: &mut Case, mean: &str, covariance: &str, moments: &Moments) {
    let means: Vec<Complex64> = moments.mean.iter().map(|&[re, im]| Complex64::new(re, im)).collect();
    case.compare_pair(&format!("out.{mean}"), &means);
    case.compare(&format!("out.{covariance}"), moments.covariance.as_flattened());
}

#[test]
fn average_poolings() {
    each("avgpool_", |case| {
        assert!(!case.flag("ceil_mode"));
        let border = Border { pixels: [case.size("padding"); 2], counted: case.flag("count_include_pad") };
        let window = window(case);
        let mut run = Run::of(case);
        let x = run.activation("x", 1);
        let y = average_pool2d(&mut run.tape, &x, window, border).unwrap();
        run.finish(&y, 1);
    });
}

#[test]
fn poolings_by_modulus() {
    each("maxpool_mag_", |case| {
        assert_eq!(case.size("padding"), 0);
        let window = window(case);
        let mut run = Run::of(case);
        let x = run.activation("x", 1);
        let y = max_pool2d(&mut run.tape, &x, window).unwrap();
        let op = pool::Pool::of(&x, window).unwrap();
        let (_, winners) = match run.case.precision() {
            Precision::F64 => pool::forward::<f64>(op, &x),
            Precision::F32 => pool::forward::<f32>(op, &x),
        }
        .unwrap();
        let mut shape = y.stacked().dims().to_vec();
        *shape.last_mut().unwrap() = y.channels();
        let winners = Tensor::from_vec(winners, shape, &Device::Cpu).unwrap().to_dtype(DType::I64).unwrap();
        let winners = channels_at(&mut Tape::default(), &winners, 1).flatten_all().unwrap().to_vec1::<i64>().unwrap();
        run.case.compare_integers("out.index", &winners);
        run.finish(&y, 1);
    });
}
