//! The small networks, with two steps of gradient descent with momentum: on complex images, and on what a layer of graph
//! convolution makes of real ones.

use std::collections::BTreeMap;

use super::*;
use crate::layers::Activation;
use crate::layers::graph::{PhaseGraph, dense_gcn, dense_normalise, phase_distances};

const LAYERS: &str = "conv k2 - CReLU - maxpool|z| 2 - BN(train) - conv k2 - CReLU - maxpool|z| 2 - flatten(C,H,W) \
                      - fc - CReLU - fc - |.| - log_softmax - NLL(mean)";

/// The network's only epsilon; the manifest does not name it.
const EPSILON: f64 = 1e-5;

/// Tensors by name, in the layout of the files.
type Params = BTreeMap<String, Tensor>;

/// Makes what goes into the first convolution.
type Input<'a> = &'a dyn Fn(&mut Tape, &Params) -> ComplexTensor;

fn names_of_params() -> Vec<String> {
    let layers = ["conv1", "conv2", "fc1", "fc2"];
    let pairs = layers.iter().flat_map(|layer| ["w.re", "w.im", "b.re", "b.im"].map(|part| format!("{layer}.{part}")));
    let norm = ["gamma.rr", "gamma.ii", "gamma.ri", "beta.re", "beta.im"].map(|part| format!("bn.{part}"));
    pairs.chain(norm).collect()
}

fn pair(tape: &mut Tape, params: &Params, name: &str, axes: &[usize]) -> Pair {
    let [re, im] = ["re", "im"].map(|part| parameter(tape, &params[&format!("{name}.{part}")], axes));
    Pair { re, im }
}

/// The weights of a linear layer after flattening: the files order inputs by channel, height, width, we by height,
/// width, channel.
fn after_flattening(tape: &mut Tape, weight: &Tensor, images: &ComplexTensor) -> Tensor {
    let (_, _, height, width, _) = images.stacked().dims5().unwrap();
    let (outputs, inputs) = weight.dims2().unwrap();
    let split = reshape(tape, weight, &[outputs, images.channels(), height, width]).unwrap();
    let moved = permute(tape, &split, &[2, 3, 1, 0]).unwrap();
    reshape(tape, &moved, &[1, inputs, outputs]).unwrap()
}

/// Moduli of the scores, and the loss.
fn network(tape: &mut Tape, params: &Params, input: Input<'_>, labels: &Arc<Vec<u32>>) -> (Tensor, Tensor) {
    let window = Window { size: [2, 2], stride: [2, 2] };
    let block = |tape: &mut Tape, name: &str, z: &ComplexTensor| {
        let (weight, bias) =
            (pair(tape, params, &format!("{name}.w"), &KERNEL), pair(tape, params, &format!("{name}.b"), &[0]));
        let z = conv2d(tape, z, &weight, Some(&bias), ComplexConv2d::default()).unwrap();
        let z = activate(tape, &z, ComplexActivation::Crelu).unwrap();
        max_pool2d(tape, &z, window).unwrap()
    };
    let z = input(tape, params);
    let z = block(tape, "conv1", &z);
    let [rr, ii, ri] = ["rr", "ii", "ri"].map(|entry| lane(tape, &params[&format!("bn.gamma.{entry}")]));
    let whitening = Whitening { rr, ii, ri, beta: pair(tape, params, "bn.beta", &[0]) };
    let (z, _, _) = batch_norm_train(tape, &z, &whitening, EPSILON).unwrap();
    let z = block(tape, "conv2", &z);

    let [re, im] = ["re", "im"].map(|part| after_flattening(tape, &params[&format!("fc1.w.{part}")], &z));
    let flat = z.flatten(tape).unwrap();
    let bias = pair(tape, params, "fc1.b", &[0]);
    let hidden = linear(tape, &flat, &Pair { re, im }, Some(&bias)).unwrap();
    let hidden = activate(tape, &hidden, ComplexActivation::Crelu).unwrap();
    let (weight, bias) = (pair(tape, params, "fc2.w", &[1, 0]), pair(tape, params, "fc2.b", &[0]));
    let scores = linear(tape, &hidden, &weight, Some(&bias)).unwrap();
    let logits = modulus(tape, &scores).unwrap();
    let loss = cross_entropy(tape, &logits, labels).unwrap();
    (logits, loss)
}

#[test]
fn a_small_network() {
    each("net_complex_tiny", |case| {
        assert_eq!(case.text("layers"), LAYERS);
        let mut run = Run::of(case);
        let x = run.activation("x", 1);
        compare(run, &names_of_params(), &|_, _| x.clone());
    });
}

#[test]
fn a_small_network_behind_a_graph() {
    each("net_graph_tiny", |case| {
        assert_eq!(case.text("layers"), format!("gcn -> {LAYERS}"));
        let names = [names_of_params(), vec!["gcn.w".into(), "gcn.b".into()]].concat();
        let mut run = Run::of(case);
        let (x, phases) = (run.leaf("x.re"), run.of_lane("phi"));
        let graph = |tape: &mut Tape, params: &Params| {
            let distances = phase_distances(tape, &phases, PhaseGraph::BatchMean).unwrap();
            let normalised = dense_normalise(tape, &distances).unwrap();
            let weight = parameter(tape, &params["gcn.w"], &[1, 0]);
            let bias = lane(tape, &params["gcn.b"]);
            let nodes = reshape(tape, &x, phases.dims()).unwrap();
            let nodes = dense_gcn(tape, &nodes, &normalised, (&weight, &bias), Activation::Identity).unwrap();
            let images = reshape(tape, &nodes, &[phases.dims(), &[1]].concat()).unwrap();
            ComplexTensor::from_real(tape, &images).unwrap()
        };
        compare(run, &names, &graph);
    });
}

/// Scores, loss, gradients, and what two steps make of the parameters.
fn compare(mut run: Run<'_>, names: &[String], input: Input<'_>) {
    let labels = labels(run.case);
    let params: Params = names.iter().map(|name| (name.clone(), run.leaf(name))).collect();
    two_steps(run.case, params.clone(), input, &labels);
    let (logits, loss) = network(&mut run.tape, &params, input, &labels);
    run.finish_with(&[("logits", logits), ("loss", loss)]);
}

/// `v ← momentum · v + g; p ← p − lr · v` on each part.
fn two_steps(case: &mut Case, mut params: Params, input: Input<'_>, labels: &Arc<Vec<u32>>) {
    let sgd = case.param("sgd").clone();
    let [rate, momentum] = ["lr", "momentum"].map(|name| sgd[name].as_f64().unwrap());
    assert_eq!(sgd["steps"], 2);
    let mut velocities: Params =
        params.iter().map(|(name, tensor)| (name.clone(), tensor.zeros_like().unwrap())).collect();
    let mut losses = Vec::new();
    for _ in 0..2 {
        let mut tape = Tape::default();
        params.values().for_each(|tensor| tape.variable(tensor));
        let (_, loss) = network(&mut tape, &params, input, labels);
        losses.extend(floats(&loss));
        let mut gradients = tape.backward(&loss).unwrap();
        for (name, param) in &mut params {
            let gradient = gradients.take(param).unwrap_or_else(|| panic!("no gradient of {name}"));
            let velocity = velocities.get_mut(name).unwrap();
            *velocity = ((&*velocity * momentum).unwrap() + gradient).unwrap();
            *param = (&*param - (&*velocity * rate).unwrap()).unwrap();
        }
    }
    losses.extend(floats(&network(&mut Tape::default(), &params, input, labels).1));
    case.compare("sgd2.losses", &losses);
    for (name, param) in &params {
        case.compare(&format!("sgd2.{name}"), &floats(param));
    }
}
