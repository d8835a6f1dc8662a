//! The golden vectors of graph convolution, at both precisions: outputs, normalisation and every gradient.

use candle_core::{DType, Device, Tensor};

use super::*;
use crate::golden::{Case, Precision, each};
use crate::layers::Activation;

fn dtype(case: &Case) -> DType {
    match case.precision() {
        Precision::F64 => DType::F64,
        Precision::F32 => DType::F32,
    }
}

/// An input, once for each of two lanes.
fn twice(case: &Case, key: &str) -> Tensor {
    let one = Tensor::from_vec(case.floats(key).to_vec(), case.shape(key), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    Tensor::cat(&[&one, &one], 0).unwrap().to_dtype(dtype(case)).unwrap()
}

/// A weight `[out, in]`, as layers have it.
fn weight(case: &Case, key: &str) -> Tensor {
    twice(case, key).transpose(1, 2).unwrap().contiguous().unwrap()
}

/// Our numbers of both lanes against those of the file.
fn compare(case: &mut Case, key: &str, ours: &Tensor) {
    for lane in 0..2 {
        let ours = ours.get(lane).unwrap().to_dtype(DType::F64).unwrap().flatten_all().unwrap();
        case.compare(key, &ours.to_vec1::<f64>().unwrap());
    }
}

#[test]
fn graph_convolutions_are_the_golden_ones() {
    let mut cases = 0;
    each("gcn_", |case| {
        cases += 1;
        match case.layer() {
            "gcn_phase_edges" => phase_edges(case),
            "gcn_complete_graph" => complete_graph(case),
            "gcn_edge_list" => edge_list(case),
            other => panic!("no layer for {other}"),
        }
    });
    assert!(cases >= 6, "{cases} of three layers at two precisions");
}

/// Compares the gradients of `x`, `w` and `b`, and hands on the others.
fn compare_gradients(case: &mut Case, tape: Tape, y: &Tensor, [x, w, b]: [&Tensor; 3]) -> crate::layers::Gradients {
    compare(case, "out.y", y);
    let mut gradients = tape.backward_from(y, twice(case, "cot.y")).unwrap();
    compare(case, "grad.x", &gradients.take(x).unwrap());
    compare(case, "grad.w", &gradients.take(w).unwrap().transpose(1, 2).unwrap());
    compare(case, "grad.b", &gradients.take(b).unwrap());
    gradients
}

fn phase_edges(case: &mut Case) {
    let [x, phi, w, b] = [twice(case, "in.x"), twice(case, "in.phi"), weight(case, "in.w"), twice(case, "in.b")];
    let mut tape = Tape::default();
    [&x, &phi, &w, &b].into_iter().for_each(|tensor| tape.variable(tensor));
    let distances = phase_distances(&mut tape, &phi, PhaseGraph::BatchMean).unwrap();
    compare(case, "out.edge_weight", &distances);
    let normalised = dense_normalise(&mut tape, &distances).unwrap();
    compare(case, "out.norm", &normalised);
    let y = dense_gcn(&mut tape, &x, &normalised, (&w, &b), Activation::Identity).unwrap();
    let mut gradients = compare_gradients(case, tape, &y, [&x, &w, &b]);
    compare(case, "grad.phi", &gradients.take(&phi).unwrap());
}

fn complete_graph(case: &mut Case) {
    let [x, w, b] = [twice(case, "in.x"), weight(case, "in.w"), twice(case, "in.b")];
    let nodes = x.dim(2).unwrap();
    let weights = (Tensor::ones((2, 1, nodes, nodes), dtype(case), &Device::Cpu).unwrap()
        - Tensor::eye(nodes, dtype(case), &Device::Cpu)
            .unwrap()
            .reshape((1, 1, nodes, nodes))
            .unwrap()
            .repeat((2, 1, 1, 1))
            .unwrap())
    .unwrap();
    let mut tape = Tape::default();
    [&x, &w, &b].into_iter().for_each(|tensor| tape.variable(tensor));
    let normalised = dense_normalise(&mut tape, &weights).unwrap();
    compare(case, "out.norm", &normalised);
    let y = dense_gcn(&mut tape, &x, &normalised, (&w, &b), Activation::Identity).unwrap();
    compare_gradients(case, tape, &y, [&x, &w, &b]);
}

fn edge_list(case: &mut Case) {
    let [x, w, b] = [twice(case, "in.x"), weight(case, "in.w"), twice(case, "in.b")];
    let nodes = x.dim(2).unwrap();
    let index = case.integers("in.edge_index");
    let (sources, targets) = index.split_at(index.len() / 2);
    let ends: Vec<(u32, u32)> = sources.iter().zip(targets).map(|(&s, &t)| (s as u32, t as u32)).collect();
    let graph = Graph::new(nodes, &ends).unwrap();
    // Where the graph has the edges of the list, and back.
    let place = |&(source, target): &(u32, u32)| {
        graph.incoming(target as usize).find(|&edge| graph.sources()[edge] == source).unwrap() as u32
    };
    let to: Vec<u32> = ends.iter().map(place).collect();
    let mut from = vec![0_u32; to.len()];
    to.iter().enumerate().for_each(|(listed, &edge)| from[edge as usize] = listed as u32);
    let pick = |tensor: &Tensor, places: Vec<u32>| {
        let count = places.len();
        tensor.index_select(&Tensor::from_vec(places, count, &Device::Cpu).unwrap(), tensor.rank() - 1).unwrap()
    };

    let edge_weights = pick(&twice(case, "in.edge_w"), from).unsqueeze(1).unwrap();
    let loops = Arc::new(SelfLoops::new(&graph));
    let mut tape = Tape::default();
    [&x, &w, &b, &edge_weights].into_iter().for_each(|tensor| tape.variable(tensor));
    let normalised = gcn_weights(&mut tape, &loops, &edge_weights).unwrap();
    let matrices: Vec<Tensor> = (0..2)
        .map(|lane| {
            let of_edges: Vec<f64> =
                normalised.get(lane).unwrap().to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let mut matrix = vec![0.0; nodes * nodes];
            let ends = loops.graph().sources().iter().zip(loops.graph().targets());
            ends.zip(of_edges).for_each(|((&s, &t), weight)| matrix[t as usize * nodes + s as usize] = weight);
            Tensor::from_vec(matrix, (nodes, nodes), &Device::Cpu).unwrap()
        })
        .collect();
    compare(case, "out.norm", &Tensor::stack(&matrices, 0).unwrap());
    let graphs = [Arc::clone(loops.graph())];
    let y = gcn(&mut tape, Nodes::Dense(&x), &graphs, Some(&normalised), (&w, &b), Activation::Identity).unwrap();
    let mut gradients = compare_gradients(case, tape, &y, [&x, &w, &b]);
    let of_edges = gradients.take(&edge_weights).unwrap();
    compare(case, "grad.edge_w", &pick(&of_edges, to));
}
