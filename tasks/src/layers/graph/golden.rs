//! The golden vectors of graph convolution, at both precisions: outputs, normalisation and every gradient.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::*;
use crate::layers::Activation;

/// One case at one precision. Every tensor that is no input must be compared.
struct Case {
    name: String,
    folder: &'static str,
    manifest: Value,
    bytes: Vec<u8>,
    seen: BTreeSet<String>,
}

impl Case {
    fn new(manifest: &Value, folder: &'static str) -> Self {
        let name = manifest["case"].as_str().unwrap().to_owned();
        let bytes = std::fs::read(root().join(format!("{folder}/{name}.safetensors"))).unwrap();
        Self { name, folder, manifest: manifest.clone(), bytes, seen: BTreeSet::new() }
    }

    fn dtype(&self) -> DType {
        if self.folder == "f64" { DType::F64 } else { DType::F32 }
    }

    fn read(&self, key: &str) -> (Vec<usize>, Vec<f64>) {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(key).unwrap_or_else(|error| panic!("{} {key}: {error}", self.name));
        let long = || view.data().as_chunks::<8>().0.iter();
        let values = match view.dtype() {
            Dtype::F64 => long().map(|word| f64::from_le_bytes(*word)).collect(),
            Dtype::I64 => long().map(|word| i64::from_le_bytes(*word) as f64).collect(),
            Dtype::F32 => view.data().as_chunks::<4>().0.iter().map(|w| f64::from(f32::from_le_bytes(*w))).collect(),
            other => panic!("{} {key} is {other:?}", self.name),
        };
        (view.shape().to_vec(), values)
    }

    /// An input, once for each of two lanes.
    fn twice(&self, key: &str) -> Tensor {
        let (shape, values) = self.read(key);
        let one = Tensor::from_vec(values, shape, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        Tensor::cat(&[&one, &one], 0).unwrap().to_dtype(self.dtype()).unwrap()
    }

    /// A weight `[out, in]`, as layers have it.
    fn weight(&self, key: &str) -> Tensor {
        self.twice(key).transpose(1, 2).unwrap().contiguous().unwrap()
    }

    /// Our numbers of both lanes against those of the file.
    fn compare(&mut self, key: &str, ours: &Tensor) {
        let tolerance = self.manifest["tensors"][key][format!("{}_atol", self.folder)].as_f64().unwrap();
        let theirs = self.read(key).1;
        for lane in 0..2 {
            let ours: Vec<f64> =
                ours.get(lane).unwrap().to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            assert_eq!(ours.len(), theirs.len(), "{} {key}", self.name);
            for (place, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                // Written so that NaN fails.
                let close = (ours - theirs).abs() <= tolerance;
                assert!(
                    close,
                    "{} {} {key}[{place}]: {ours}, not {theirs} within {tolerance:e}",
                    self.name, self.folder
                );
            }
        }
        self.seen.insert(key.to_owned());
    }

    fn finish(self) {
        let keys = self.manifest["tensors"].as_object().unwrap().keys();
        let left: Vec<_> = keys
            .filter(|key| !key.starts_with("in.") && !key.starts_with("cot.") && !self.seen.contains(*key))
            .collect();
        assert!(left.is_empty(), "{} {}: never compared: {left:?}", self.name, self.folder);
    }
}

fn root() -> PathBuf {
    match std::env::var_os("PACELINE_GOLDEN") {
        Some(golden) => PathBuf::from(golden).join("complex"),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/complex"),
    }
}

#[test]
fn graph_convolutions_are_the_golden_ones() {
    let manifest: Value =
        serde_json::from_str(&std::fs::read_to_string(root().join("manifest.json")).unwrap()).unwrap();
    let cases = manifest["cases"].as_array().unwrap().iter();
    let cases: Vec<_> = cases.filter(|case| case["case"].as_str().unwrap().starts_with("gcn_")).collect();
    assert!(cases.len() >= 3, "{cases:?}");
    for case in cases {
        for folder in ["f64", "f32"] {
            let mut case_at = Case::new(case, folder);
            match case["layer"].as_str().unwrap() {
                "gcn_phase_edges" => phase_edges(&mut case_at),
                "gcn_complete_graph" => complete_graph(&mut case_at),
                "gcn_edge_list" => edge_list(&mut case_at),
                other => panic!("no layer for {other}"),
            }
            case_at.finish();
        }
    }
}

/// Compares the gradients of `x`, `w` and `b`, and hands on the others.
fn compare_gradients(case: &mut Case, tape: Tape, y: &Tensor, [x, w, b]: [&Tensor; 3]) -> crate::layers::Gradients {
    case.compare("out.y", y);
    let mut gradients = tape.backward_from(y, case.twice("cot.y")).unwrap();
    case.compare("grad.x", &gradients.take(x).unwrap());
    case.compare("grad.w", &gradients.take(w).unwrap().transpose(1, 2).unwrap());
    case.compare("grad.b", &gradients.take(b).unwrap());
    gradients
}

fn phase_edges(case: &mut Case) {
    let [x, phi, w, b] = [case.twice("in.x"), case.twice("in.phi"), case.weight("in.w"), case.twice("in.b")];
    let mut tape = Tape::default();
    [&x, &phi, &w, &b].into_iter().for_each(|tensor| tape.variable(tensor));
    let distances = phase_distances(&mut tape, &phi, PhaseGraph::BatchMean).unwrap();
    case.compare("out.edge_weight", &distances);
    let normalised = dense_normalise(&mut tape, &distances).unwrap();
    case.compare("out.norm", &normalised);
    let y = dense_gcn(&mut tape, &x, &normalised, (&w, &b), Activation::Identity).unwrap();
    let mut gradients = compare_gradients(case, tape, &y, [&x, &w, &b]);
    case.compare("grad.phi", &gradients.take(&phi).unwrap());
}

fn complete_graph(case: &mut Case) {
    let [x, w, b] = [case.twice("in.x"), case.weight("in.w"), case.twice("in.b")];
    let nodes = x.dim(2).unwrap();
    let weights = (Tensor::ones((2, 1, nodes, nodes), case.dtype(), &Device::Cpu).unwrap()
        - Tensor::eye(nodes, case.dtype(), &Device::Cpu)
            .unwrap()
            .reshape((1, 1, nodes, nodes))
            .unwrap()
            .repeat((2, 1, 1, 1))
            .unwrap())
    .unwrap();
    let mut tape = Tape::default();
    [&x, &w, &b].into_iter().for_each(|tensor| tape.variable(tensor));
    let normalised = dense_normalise(&mut tape, &weights).unwrap();
    case.compare("out.norm", &normalised);
    let y = dense_gcn(&mut tape, &x, &normalised, (&w, &b), Activation::Identity).unwrap();
    compare_gradients(case, tape, &y, [&x, &w, &b]);
}

fn edge_list(case: &mut Case) {
    let [x, w, b] = [case.twice("in.x"), case.weight("in.w"), case.twice("in.b")];
    let nodes = x.dim(2).unwrap();
    let (_, index) = case.read("in.edge_index");
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

    let edge_weights = pick(&case.twice("in.edge_w"), from).unsqueeze(1).unwrap();
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
    case.compare("out.norm", &Tensor::stack(&matrices, 0).unwrap());
    let graphs = [Arc::clone(loops.graph())];
    let y = gcn(&mut tape, Nodes::Dense(&x), &graphs, Some(&normalised), (&w, &b), Activation::Identity).unwrap();
    let mut gradients = compare_gradients(case, tape, &y, [&x, &w, &b]);
    let of_edges = gradients.take(&edge_weights).unwrap();
    case.compare("grad.edge_w", &pick(&of_edges, to));
}
