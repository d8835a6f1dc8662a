//! Backward passes against differences, forward passes against dense adjacency matrices, and lanes that never meet.

use std::ops::Index;

use candle_core::{DType, Device};

use super::*;
use crate::layers::Activation;
use crate::layers::gradcheck::{check, values};

const NODES: usize = 5;

/// Directed, with a self loop; nothing reaches node 4.
fn graph() -> Arc<Graph> {
    let edges = [(0, 1, 0.5), (2, 1, 1.5), (1, 2, 0.25), (3, 2, 2.0), (1, 0, 1.25), (3, 3, 0.75), (4, 0, 0.5)];
    Arc::new(Graph::weighted(NODES, &edges).unwrap())
}

/// Fewer edges than [`graph`].
fn other_graph() -> Arc<Graph> {
    Arc::new(Graph::weighted(NODES, &[(0, 4, 0.5), (4, 3, 1.5), (3, 4, 0.25)]).unwrap())
}

/// Edge weights for which no degree is near 0.
fn positive(shape: &[usize], salt: usize) -> Tensor {
    values(shape, salt).affine(1.0, 2.0).unwrap()
}

fn features() -> Arc<Features> {
    let mut features = Features::empty(6);
    for row in [&[0_u32, 3][..], &[1, 2, 5], &[], &[3], &[0, 1, 2, 3, 5]] {
        features.push_constant(row, 0.5);
    }
    Arc::new(features)
}

fn members() -> Arc<Membership> {
    Arc::new(Membership::new(3, vec![Some(2), None, Some(0), Some(2), Some(2)]).unwrap())
}

/// Values by index.
struct View {
    dims: Vec<usize>,
    values: Vec<f64>,
}

impl View {
    fn of(tensor: &Tensor) -> Self {
        let values = tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        Self { dims: tensor.dims().to_vec(), values }
    }
}

impl<const N: usize> Index<[usize; N]> for View {
    type Output = f64;
    fn index(&self, index: [usize; N]) -> &f64 {
        assert_eq!(N, self.dims.len());
        // A shared axis has length 1.
        let place =
            index.iter().zip(&self.dims).fold(0, |place, (&i, &dim)| place * dim + if dim == 1 { 0 } else { i });
        &self.values[place]
    }
}

/// The weight of the edge from `source` to `target`, 0 where there is none.
fn adjacency(graph: &Graph) -> [[f64; NODES]; NODES] {
    let mut matrix = [[0.0; NODES]; NODES];
    for edge in 0..graph.edges() {
        matrix[graph.targets()[edge] as usize][graph.sources()[edge] as usize] = f64::from(graph.weight(edge));
    }
    matrix
}

/// That a result is `expected(lane, example, node, feature)`.
fn agrees(name: &str, got: &Tensor, expected: impl Fn(usize, usize, usize, usize) -> f64) {
    let view = View::of(got);
    let (lanes, batch, nodes, features) = got.dims4().unwrap();
    for (l, b) in (0..lanes * batch).map(|i| (i / batch, i % batch)) {
        for (n, f) in (0..nodes * features).map(|i| (i / features, i % features)) {
            let (got, expected) = (view[[l, b, n, f]], expected(l, b, n, f));
            assert!((got - expected).abs() <= 1e-12, "{name} [{l}, {b}, {n}, {f}]: {got}, not {expected}");
        }
    }
}

fn untracked<R>(layer: impl FnOnce(&mut Tape) -> Result<R>) -> R {
    layer(&mut Tape::default()).unwrap()
}

#[test]
fn sums_over_edges_are_products_with_the_adjacency_matrix() {
    let (x, w) = (values(&[2, 3, NODES, 4], 0), values(&[2, 1, 7, 2], 1));
    let view = View::of(&x);
    let matrix = adjacency(&graph());
    let got = untracked(|tape| aggregate(tape, &x, &[graph()], None));
    agrees("own weights", &got, |l, b, n, f| (0..NODES).map(|s| matrix[n][s] * view[[l, b, s, f]]).sum());

    let got = untracked(|tape| aggregate(tape, &x, &[graph()], Some(&w)));
    let (w, graph) = (View::of(&w), graph());
    agrees("a weight a head", &got, |l, b, n, f| {
        graph.incoming(n).map(|e| w[[l, b, e, f / 2]] * view[[l, b, graph.sources()[e] as usize, f]]).sum()
    });
}

#[test]
fn lanes_may_have_graphs_of_their_own() {
    let x = values(&[1, 2, NODES, 4], 0);
    let (view, matrices) = (View::of(&x), [adjacency(&graph()), adjacency(&other_graph())]);
    let got = untracked(|tape| aggregate(tape, &x, &[graph(), other_graph()], None));
    agrees("graphs of lanes", &got, |l, b, n, f| (0..NODES).map(|s| matrices[l][n][s] * view[[0, b, s, f]]).sum());

    // Beyond the edges of a graph nothing is read, and the gradient is 0.
    let w = values(&[2, 1, 7], 1);
    let mut tape = Tape::default();
    tape.variable(&w);
    let y = aggregate(&mut tape, &x, &[graph(), other_graph()], Some(&w)).unwrap();
    let gradient = View::of(&tape.backward(&y).unwrap().take(&w).unwrap());
    assert!((0..7).all(|e| (gradient[[1, 0, e]] == 0.0) == (e >= 3)) && (0..7).all(|e| gradient[[0, 0, e]] != 0.0));
}

#[test]
fn gradients_of_aggregation_are_those_of_differences() {
    let x = values(&[2, 3, NODES, 4], 0);
    let both = [graph(), other_graph()];
    check("own weights", std::slice::from_ref(&x), |tape, a| aggregate(tape, &a[0], &[graph()], None));
    check("graphs of lanes", std::slice::from_ref(&x), |tape, a| aggregate(tape, &a[0], &both, None));
    for shape in [&[2, 3, 7][..], &[2, 1, 7], &[2, 3, 7, 2], &[2, 1, 7, 4]] {
        let name = format!("weights {shape:?}");
        check(&name, &[x.clone(), values(shape, 1)], |tape, a| aggregate(tape, &a[0], &[graph()], Some(&a[1])));
    }
    check("weights of data", &[values(&[2, 3, 7], 1)], |tape, a| {
        aggregate(tape, &values(&[1, 3, NODES, 4], 0), &[graph()], Some(&a[0]))
    });
    check("one example's nodes", &[values(&[2, 1, NODES, 2], 0), values(&[2, 3, 7], 1)], |tape, a| {
        aggregate(tape, &a[0], &[graph()], Some(&a[1]))
    });
}

#[test]
fn normalisation_is_that_of_the_dense_matrix_and_differentiable() {
    let loops = Arc::new(SelfLoops::new(&graph()));
    let weights = positive(&[2, 3, 7], 1);
    let got = View::of(&untracked(|tape| gcn_weights(tape, &loops, &weights)));
    let (weights_of, before) = (View::of(&weights), graph());
    for (l, b) in (0..6).map(|i| (i / 3, i % 3)) {
        let mut dense = [[0.0; NODES]; NODES];
        (0..NODES).for_each(|n| dense[n][n] = 1.0);
        for e in 0..7 {
            dense[before.targets()[e] as usize][before.sources()[e] as usize] += weights_of[[l, b, e]];
        }
        let degree = |n: usize| dense[n].iter().sum::<f64>();
        let looped = loops.graph();
        assert_eq!(looped.edges(), 7 + NODES - 1, "node 3 has its loop already");
        for e in 0..looped.edges() {
            let (s, t) = (looped.sources()[e] as usize, looped.targets()[e] as usize);
            let expected = dense[t][s] / (degree(t) * degree(s)).sqrt();
            assert!((got[[l, b, e]] - expected).abs() < 1e-12, "edge {s} → {t}");
        }
    }
    check("gcn weights", &[weights], |tape, a| gcn_weights(tape, &loops, &a[0]));
    check("dense normalisation", &[positive(&[2, 3, 4, 4], 2)], |tape, a| dense_normalise(tape, &a[0]));

    // A degree of 1 − 1 = 0 or less: nothing passes, and no gradient comes back.
    let cut = Arc::new(SelfLoops::new(&Graph::new(2, &[(0, 1)]).unwrap()));
    let negative = Tensor::new(&[[[-1.0_f64]], [[-3.0]]], &Device::Cpu).unwrap();
    let mut tape = Tape::default();
    tape.variable(&negative);
    let y = gcn_weights(&mut tape, &cut, &negative).unwrap();
    assert_eq!(y.flatten_all().unwrap().to_vec1::<f64>().unwrap(), [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    let gradient = tape.backward(&y).unwrap().take(&negative).unwrap();
    assert_eq!(gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap(), [0.0, 0.0]);
}

#[test]
fn a_gcn_layer_is_two_matrix_products() {
    let loops = Arc::new(SelfLoops::new(&graph()));
    let graphs = [Arc::clone(loops.graph())];
    // Both orders of the products.
    for (inputs, outputs) in [(4, 3), (3, 4)] {
        let x = values(&[2, 3, NODES, inputs], 0);
        let (w, b, e) = (values(&[2, inputs, outputs], 1), values(&[2, outputs], 2), positive(&[2, 3, 7], 4));
        let layer = |tape: &mut Tape, a: &[Tensor]| {
            let normalised = gcn_weights(tape, &loops, &a[3])?;
            gcn(tape, Nodes::Dense(&a[0]), &graphs, Some(&normalised), (&a[1], &a[2]), Activation::Relu)
        };
        let arguments = [x, w, b, e];
        check(&format!("gcn {inputs} → {outputs}"), &arguments, layer);

        let own = [Arc::new(graph().gcn_normalised())];
        let got = untracked(|tape| {
            gcn(tape, Nodes::Dense(&arguments[0]), &own, None, (&arguments[1], &arguments[2]), Activation::Relu)
        });
        let matrix = adjacency(&own[0]);
        let [x, w, b, _] = arguments.each_ref().map(View::of);
        agrees("gcn", &got, |l, e, n, o| {
            let product = |s: usize| (0..inputs).map(|i| x[[l, e, s, i]] * w[[l, i, o]]).sum::<f64>();
            ((0..NODES).map(|s| matrix[n][s] * product(s)).sum::<f64>() + b[[l, o]]).max(0.0)
        });
    }
}

#[test]
fn attention_is_a_softmax_over_incoming_edges() {
    let looped = [Arc::new(graph().with_self_loops())];
    let (heads, width, inputs) = (2, 3, 4);
    let arguments = [
        values(&[2, 2, NODES, inputs], 0),
        values(&[2, inputs, heads * width], 1).affine(0.4, 0.0).unwrap(),
        values(&[2, heads, width], 2).affine(0.5, 0.0).unwrap(),
        values(&[2, heads, width], 4).affine(0.5, 0.0).unwrap(),
    ];
    for (join, outputs) in [(Heads::Concat, heads * width), (Heads::Mean, width)] {
        let mut arguments = arguments.to_vec();
        arguments.push(values(&[2, outputs], 5));
        let layer = |graphs: &[Arc<Graph>], tape: &mut Tape, a: &[Tensor]| {
            let weights = Attention { weight: &a[1], source: &a[2], target: &a[3], bias: &a[4] };
            gat(tape, Nodes::Dense(&a[0]), graphs, weights, join, Activation::Identity)
        };
        check(&format!("gat {join:?}"), &arguments, |tape, a| layer(&looped, tape, a));
        let ragged = [graph(), other_graph()];
        check(&format!("gat {join:?}, graphs of lanes"), &arguments, |tape, a| layer(&ragged, tape, a));

        // Without self loops, so that node 4 attends to nothing and keeps the bias.
        for graphs in [&looped[..], &[graph()]] {
            let got = untracked(|tape| layer(graphs, tape, &arguments));
            let [x, w, source, target, bias] = std::array::from_fn(|i| View::of(&arguments[i]));
            let edges = adjacency(&graphs[0]);
            let h = |l: usize, b: usize, n: usize, o: usize| -> f64 {
                (0..inputs).map(|i| x[[l, b, n, i]] * w[[l, i, o]]).sum()
            };
            let attend = |l: usize, b: usize, n: usize, head: usize, f: usize| {
                let score = |s: usize| {
                    let part = |a: &View, n: usize| -> f64 {
                        (0..width).map(|k| a[[l, head, k]] * h(l, b, n, head * width + k)).sum()
                    };
                    let sum = part(&source, s) + part(&target, n);
                    if sum < 0.0 { 0.2 * sum } else { sum }
                };
                let neighbours = || (0..NODES).filter(|&s| edges[n][s] != 0.0);
                let total: f64 = neighbours().map(|s| score(s).exp()).sum();
                neighbours().map(|s| score(s).exp() / total * h(l, b, s, head * width + f)).sum::<f64>()
            };
            agrees("gat", &got, |l, b, n, o| {
                let sum = match join {
                    Heads::Concat => attend(l, b, n, o / width, o % width),
                    Heads::Mean => (0..heads).map(|head| attend(l, b, n, head, o)).sum::<f64>() / heads as f64,
                };
                sum + bias[[l, o]]
            });
        }
    }
}

#[test]
fn the_parts_of_attention_have_gradients_of_their_own() {
    let (nodes, scores) = (values(&[2, 2, NODES, 6], 0), values(&[2, 2, NODES, 3], 1));
    check("head scores", &[nodes.clone(), values(&[2, 3, 2], 2)], |tape, a| head_scores(tape, &a[0], &a[1]));
    check("edge scores", &[scores, values(&[2, 2, NODES, 3], 2)], |tape, a| {
        edge_scores(tape, &a[0], &a[1], &[graph()], 0.2)
    });
    check("segment softmax", &[values(&[2, 2, 7, 3], 2)], |tape, a| segment_softmax(tape, &a[0], &[graph()]));
    check("mean of heads", &[nodes], |tape, a| mean_heads(tape, &a[0], 3));

    // Scores beyond exp's range, and one that is not a number.
    let scores = Tensor::new(&[1e4_f64, 1e4 + 1.0, 5.0, -1e4, -1e4, f64::NAN, 2.0], &Device::Cpu).unwrap();
    let shares = untracked(|tape| segment_softmax(tape, &scores.reshape((1, 1, 7, 1)).unwrap(), &[graph()]));
    let shares: Vec<f64> = shares.flatten_all().unwrap().to_vec1().unwrap();
    // Edges into node 0: 0 and 1; into 1: 2 and 3; into 2: 4 and 5; into 3: 6.
    let e = std::f64::consts::E;
    assert!((shares[0] - 1.0 / (1.0 + e)).abs() < 1e-12 && (shares[1] - e / (1.0 + e)).abs() < 1e-12, "{shares:?}");
    assert_eq!(shares[2..4], [1.0, 0.0]);
    assert!(shares[4].is_nan() && shares[5].is_nan(), "{shares:?}");
    assert_eq!(shares[6..], [1.0]);
}

#[test]
fn sage_adds_the_mean_of_neighbours() {
    let graphs = [graph(), other_graph()];
    let mean = mean_weights(&graphs, DType::F64).unwrap();
    for (inputs, outputs) in [(4, 3), (3, 4)] {
        let arguments = [
            values(&[2, 3, NODES, inputs], 0),
            values(&[2, inputs, outputs], 1),
            values(&[2, inputs, outputs], 2),
            values(&[2, outputs], 4),
        ];
        let layer = |tape: &mut Tape, a: &[Tensor]| {
            let weights = Sage { own: &a[1], neighbour: &a[2], bias: &a[3] };
            sage(tape, Nodes::Dense(&a[0]), &graphs, &mean, weights, Activation::Relu)
        };
        check("sage", &arguments, layer);
        let got = untracked(|tape| layer(tape, &arguments));
        let [x, own, neighbour, bias] = arguments.each_ref().map(View::of);
        let edges = graphs.each_ref().map(|graph| adjacency(graph));
        agrees("sage", &got, |l, b, n, o| {
            let through = |w: &View, s: usize| (0..inputs).map(|i| x[[l, b, s, i]] * w[[l, i, o]]).sum::<f64>();
            let neighbours: Vec<usize> = (0..NODES).filter(|&s| edges[l][n][s] != 0.0).collect();
            let sum: f64 = neighbours.iter().map(|&s| through(&neighbour, s)).sum();
            (through(&own, n) + sum / neighbours.len().max(1) as f64 + bias[[l, o]]).max(0.0)
        });
    }
}

#[test]
fn messages_see_the_features_of_edges() {
    let arguments = [
        values(&[2, 2, NODES, 3], 0),
        values(&[2, 2, 7, 2], 1),
        values(&[2, 3, 4], 2),
        values(&[2, 2, 4], 4),
        values(&[2, 4], 5),
        values(&[2, 4, 3], 6),
        values(&[2, 3, 3], 7),
        values(&[2, 3], 8),
    ];
    let layer = |tape: &mut Tape, a: &[Tensor]| {
        let weights = MessagePassing { source: &a[2], edge: (&a[3], &a[4]), message: &a[5], own: &a[6], bias: &a[7] };
        message_passing(tape, Nodes::Dense(&a[0]), &a[1], &[graph()], weights, Activation::Identity)
    };
    check("message passing", &arguments, layer);
    let got = untracked(|tape| layer(tape, &arguments));
    let [x, edge, source, of_edge, edge_bias, message, own, bias] = arguments.each_ref().map(View::of);
    let edges_of = graph();
    agrees("message passing", &got, |l, b, n, o| {
        let passed = |e: usize, m: usize| {
            let s = edges_of.sources()[e] as usize;
            let from_node: f64 = (0..3).map(|i| x[[l, b, s, i]] * source[[l, i, m]]).sum();
            let from_edge: f64 = (0..2).map(|i| edge[[l, b, e, i]] * of_edge[[l, i, m]]).sum();
            (from_node + from_edge + edge_bias[[l, m]]).max(0.0)
        };
        let sums = (0..4).map(|m| edges_of.incoming(n).map(|e| passed(e, m)).sum::<f64>() * message[[l, m, o]]);
        sums.sum::<f64>() + (0..3).map(|i| x[[l, b, n, i]] * own[[l, i, o]]).sum::<f64>() + bias[[l, o]]
    });
    check("edge messages", &[values(&[2, 1, NODES, 3], 0), values(&[2, 2, 7, 3], 1)], |tape, a| {
        edge_messages(tape, &a[0], &a[1], &[graph()])
    });
}

#[test]
fn readouts_see_their_own_graph_and_no_padding() {
    let x = values(&[2, 2, NODES, 3], 0);
    for kind in [Readout::Sum, Readout::Mean, Readout::Max] {
        check(&format!("{kind:?}"), std::slice::from_ref(&x), |tape, a| readout(tape, &a[0], &[members()], kind));
        let got = untracked(|tape| readout(tape, &x, &[members()], kind));
        let view = View::of(&x);
        agrees(&format!("{kind:?}"), &got, |l, b, g, f| {
            let of = [vec![2], vec![], vec![0, 3, 4]];
            let values = of[g].iter().map(|&n| view[[l, b, n, f]]);
            match kind {
                Readout::Sum => values.sum(),
                Readout::Mean => values.sum::<f64>() / of[g].len().max(1) as f64,
                Readout::Max => values.reduce(f64::max).unwrap_or(0.0),
            }
        });
    }
    let other = Arc::new(Membership::new(3, vec![Some(0), Some(1), Some(1), None, Some(2)]).unwrap());
    let both = [members(), Arc::clone(&other)];
    check("memberships of lanes", std::slice::from_ref(&x), |tape, a| readout(tape, &a[0], &both, Readout::Max));
    assert_eq!(
        Membership::padded(2, &[1.0, 0.0, 1.0, 1.0]).unwrap(),
        Membership::new(2, vec![Some(0), None, Some(1), Some(1)]).unwrap()
    );

    let ties = Tensor::new(&[1.0_f32, 7.0, 1.0, f32::NAN, 1.0], &Device::Cpu).unwrap().reshape((1, 1, 5, 1)).unwrap();
    let members = Arc::new(Membership::new(2, vec![Some(0), None, Some(0), Some(1), Some(1)]).unwrap());
    let mut tape = Tape::default();
    tape.variable(&ties);
    let y = readout(&mut tape, &ties, &[members], Readout::Max).unwrap();
    let largest: Vec<f32> = y.flatten_all().unwrap().to_vec1().unwrap();
    assert!(largest[0] == 1.0 && largest[1].is_nan(), "{largest:?}");
    let gradient = tape.backward(&y).unwrap().take(&ties).unwrap();
    assert_eq!(gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [1.0, 0.0, 0.0, 1.0, 0.0]);
}

#[test]
fn sparse_features_are_dense_ones_with_zeros() {
    let weight = values(&[2, 6, 3], 0);
    check("sparse linear", std::slice::from_ref(&weight), |tape, a| sparse_linear(tape, &[features()], &a[0]));
    let dense: Vec<f64> = features().to_dense().into_iter().map(f64::from).collect();
    let dense = Tensor::from_vec(dense, (1, 1, NODES, 6), &Device::Cpu).unwrap();
    let (sparse, expected) = (
        untracked(|tape| project(tape, Nodes::Sparse(&[features()]), &weight)),
        View::of(&untracked(|tape| project(tape, Nodes::Dense(&dense), &weight))),
    );
    agrees("sparse linear", &sparse, |l, b, n, o| expected[[l, b, n, o]]);

    // A whole layer on them, one set for both lanes and one a lane.
    let graphs = [Arc::new(graph().gcn_normalised())];
    for list in [vec![features()], vec![features(), features()]] {
        check("gcn on sparse features", &[weight.clone(), values(&[2, 3], 1)], |tape, a| {
            gcn(tape, Nodes::Sparse(&list), &graphs, None, (&a[0], &a[1]), Activation::Relu)
        });
    }
}

#[test]
fn dense_graphs_are_complete_sparse_ones() {
    let weights = positive(&[2, 3, 4, 4], 0);
    for (inputs, outputs) in [(4, 3), (2, 3)] {
        let arguments = [
            values(&[2, 3, 4, inputs], 1),
            weights.clone(),
            values(&[2, inputs, outputs], 2),
            values(&[2, outputs], 4),
        ];
        let layer = |tape: &mut Tape, a: &[Tensor]| {
            let normalised = dense_normalise(tape, &a[1])?;
            dense_gcn(tape, &a[0], &normalised, (&a[2], &a[3]), Activation::Relu)
        };
        check("dense gcn", &arguments, layer);
        let got = untracked(|tape| layer(tape, &arguments));

        let ends: Vec<(u32, u32)> = (0..16).map(|place| (place % 4, place / 4)).collect();
        let loops = Arc::new(SelfLoops::new(&Graph::new(4, &ends).unwrap()));
        let normalised = untracked(|tape| gcn_weights(tape, &loops, &weights.reshape((2, 3, 16)).unwrap()));
        let graphs = [Arc::clone(loops.graph())];
        let parameters = (&arguments[2], &arguments[3]);
        let expected = View::of(&untracked(|tape| {
            gcn(tape, Nodes::Dense(&arguments[0]), &graphs, Some(&normalised), parameters, Activation::Relu)
        }));
        agrees("dense gcn", &got, |l, b, n, o| expected[[l, b, n, o]]);
    }
    check("one matrix a batch", &[values(&[2, 3, 4, 2], 1), values(&[2, 1, 4, 4], 2)], |tape, a| {
        dense_aggregate(tape, &a[0], &a[1])
    });
    check("matrices of lanes on data", &[values(&[2, 3, 4, 4], 2)], |tape, a| {
        dense_aggregate(tape, &values(&[1, 3, 4, 2], 1), &a[0])
    });
}

#[test]
fn phases_are_compared_an_example_or_a_batch_at_a_time() {
    let phases = values(&[2, 3, 4, 5], 0);
    let view = View::of(&phases);
    for graph in [PhaseGraph::BatchMean, PhaseGraph::PerSample] {
        check(&format!("{graph:?}"), std::slice::from_ref(&phases), |tape, a| phase_distances(tape, &a[0], graph));
        let got = untracked(|tape| phase_distances(tape, &phases, graph));
        agrees(&format!("{graph:?}"), &got, |l, b, i, j| {
            let phi = |n: usize, f: usize| match graph {
                PhaseGraph::PerSample => view[[l, b, n, f]],
                PhaseGraph::BatchMean => (0..3).map(|b| view[[l, b, n, f]]).sum::<f64>() / 3.0,
            };
            (0..5).map(|f| (phi(i, f) - phi(j, f)).abs()).sum::<f64>() / 5.0
        });
    }
}

/// That output and gradients of each lane are, bit for bit, those of the lane alone.
fn never_meet(name: &str, arguments: &[Tensor], layer: impl Fn(&mut Tape, &[Tensor]) -> Result<Tensor>) {
    let arguments: Vec<Tensor> = arguments.iter().map(|argument| argument.to_dtype(DType::F32).unwrap()).collect();
    let run = |arguments: &[Tensor], cotangent: Option<&Tensor>| {
        let mut tape = Tape::default();
        arguments.iter().for_each(|argument| tape.variable(argument));
        let y = layer(&mut tape, arguments).unwrap();
        let cotangent = match cotangent {
            Some(cotangent) => cotangent.clone(),
            None => values(y.dims(), 9).to_dtype(DType::F32).unwrap(),
        };
        let mut gradients = tape.backward_from(&y, cotangent.clone()).unwrap();
        let mut all = vec![y];
        all.extend(arguments.iter().map(|argument| gradients.take(argument).unwrap()));
        (all, cotangent)
    };
    let bits = |tensor: &Tensor| -> Vec<u32> {
        tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    };
    let (together, cotangent) = run(&arguments, None);
    for lane in 0..together[0].dim(0).unwrap() {
        let of_lane = |tensor: &Tensor| tensor.narrow(0, lane, 1).unwrap().contiguous().unwrap();
        let alone = run(&arguments.iter().map(of_lane).collect::<Vec<_>>(), Some(&of_lane(&cotangent))).0;
        for (index, (together, alone)) in together.iter().zip(&alone).enumerate() {
            assert_eq!(bits(&of_lane(together)), bits(alone), "{name}: lane {lane}, tensor {index}");
        }
    }
}

#[test]
fn a_lane_is_the_same_alone() {
    let loops = Arc::new(SelfLoops::new(&graph()));
    let looped = [Arc::clone(loops.graph())];
    let x = values(&[3, 2, NODES, 4], 0);
    never_meet("gcn", &[x.clone(), values(&[3, 4, 3], 1), values(&[3, 3], 2), positive(&[3, 2, 7], 4)], |tape, a| {
        let normalised = gcn_weights(tape, &loops, &a[3])?;
        gcn(tape, Nodes::Dense(&a[0]), &looped, Some(&normalised), (&a[1], &a[2]), Activation::Relu)
    });
    let attention = [values(&[3, 2, 3], 2), values(&[3, 2, 3], 4), values(&[3, 3], 5)];
    let arguments: Vec<Tensor> = [x.clone(), values(&[3, 4, 6], 1)].into_iter().chain(attention).collect();
    never_meet("gat", &arguments, |tape, a| {
        let weights = Attention { weight: &a[1], source: &a[2], target: &a[3], bias: &a[4] };
        gat(tape, Nodes::Dense(&a[0]), &looped, weights, Heads::Mean, Activation::Relu)
    });
    let mean = mean_weights(&looped, DType::F32).unwrap();
    let weights = [x.clone(), values(&[3, 4, 5], 1), values(&[3, 4, 5], 2), values(&[3, 5], 4)];
    never_meet("sage", &weights, |tape, a| {
        let weights = Sage { own: &a[1], neighbour: &a[2], bias: &a[3] };
        sage(tape, Nodes::Dense(&a[0]), &looped, &mean, weights, Activation::Relu)
    });
    never_meet("edge messages", &[x.clone(), values(&[3, 2, 7, 4], 1)], |tape, a| {
        edge_messages(tape, &a[0], &a[1], &[graph()])
    });
    for kind in [Readout::Sum, Readout::Mean, Readout::Max] {
        never_meet("readout", std::slice::from_ref(&x), |tape, a| readout(tape, &a[0], &[members()], kind));
    }
    never_meet("sparse linear", &[values(&[3, 6, 4], 1)], |tape, a| sparse_linear(tape, &[features()], &a[0]));
    let arguments = [x, values(&[3, 2, NODES, 7], 1), values(&[3, 4, 3], 2), values(&[3, 3], 4)];
    never_meet("phase graph", &arguments, |tape, a| {
        let distances = phase_distances(tape, &a[1], PhaseGraph::BatchMean)?;
        let normalised = dense_normalise(tape, &distances)?;
        dense_gcn(tape, &a[0], &normalised, (&a[2], &a[3]), Activation::Identity)
    });
}

#[test]
fn nan_reaches_what_it_is_sent_to_and_nothing_else() {
    let mut x = values(&[1, 1, NODES, 1], 0).flatten_all().unwrap().to_vec1::<f64>().unwrap();
    x[2] = f64::NAN;
    let x = Tensor::from_vec(x, (1, 1, NODES, 1), &Device::Cpu).unwrap();
    let edges = values(&[1, 1, 7, 1], 1);
    let one = Tensor::ones((1, 1, 1), DType::F64, &Device::Cpu).unwrap();
    let bias = Tensor::zeros((1, 1), DType::F64, &Device::Cpu).unwrap();
    let relu = Activation::Relu;
    let attention = Attention { weight: &one, source: &one, target: &one, bias: &bias };
    let attended = untracked(|tape| gat(tape, Nodes::Dense(&x), &[graph()], attention, Heads::Concat, relu));
    let results = [
        ("gcn", untracked(|tape| gcn(tape, Nodes::Dense(&x), &[graph()], None, (&one, &bias), relu)), &[1][..]),
        ("messages", untracked(|tape| edge_messages(tape, &x, &edges, &[graph()])), &[1]),
        // Node 2 has edges, and scores them by its own NaN.
        ("gat", attended, &[1, 2]),
    ];
    for (name, result, expected) in results {
        let values: Vec<f64> = result.flatten_all().unwrap().to_vec1().unwrap();
        let reached: Vec<usize> = (0..NODES).filter(|&node| values[node].is_nan()).collect();
        assert_eq!(reached, expected, "{name}");
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let ones = |shape: &[usize]| Tensor::ones(shape, DType::F64, &Device::Cpu).unwrap();
    let single = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();
    let tape = &mut Tape::default();
    let shared = ones(&[1, 2, NODES, 4]);
    tape.variable(&shared);
    let x = ones(&[2, 2, NODES, 4]);
    let loops = Arc::new(SelfLoops::new(&graph()));
    let cases = [
        ("must be data", aggregate(tape, &shared, &[graph()], Some(&ones(&[2, 1, 7])))),
        ("must be data", aggregate(tape, &shared, &[graph(), other_graph()], None)),
        ("lanes", aggregate(tape, &x, &[graph(), graph(), graph()], None)),
        ("examples", aggregate(tape, &x, &[graph()], Some(&ones(&[2, 3, 7])))),
        ("got none", aggregate(tape, &x, &[], None)),
        ("got none", readout(tape, &x, &[], Readout::Sum)),
        ("0 sets", sparse_linear(tape, &[], &ones(&[0, 6, 3]))),
        ("a graph of 5", aggregate(tape, &ones(&[2, 2, 4, 4]), &[graph()], None)),
        ("7 edges expected", aggregate(tape, &x, &[graph()], Some(&ones(&[2, 1, 6])))),
        ("3 heads", aggregate(tape, &x, &[graph()], Some(&ones(&[2, 1, 7, 3])))),
        ("F64", aggregate(tape, &x, &[graph()], Some(&single(&[2, 1, 7])))),
        ("7 edges expected", gcn_weights(tape, &loops, &ones(&[2, 1, 11]))),
        ("bias", gcn(tape, Nodes::Dense(&x), &[graph()], None, (&ones(&[2, 4, 3]), &ones(&[2, 4])), Activation::Relu)),
        ("projection", project(tape, Nodes::Dense(&x), &ones(&[2, 3, 3]))),
        ("head scores", head_scores(tape, &x, &ones(&[2, 3, 2]))),
        ("segment softmax", segment_softmax(tape, &ones(&[2, 2, 6, 1]), &[graph()])),
        ("among 3 heads", mean_heads(tape, &x, 3)),
        ("7 edges of 4 features", edge_messages(tape, &x, &ones(&[2, 2, 7, 3]), &[graph()])),
        ("5 rows of 5 features, got 5 of 6", sparse_linear(tape, &[features()], &ones(&[2, 5, 3]))),
        ("3 sets", sparse_linear(tape, &[features(), features(), features()], &ones(&[2, 6, 3]))),
        ("those of 5 among 3", readout(tape, &ones(&[2, 2, 4, 4]), &[members()], Readout::Max)),
        ("square", dense_normalise(tape, &ones(&[2, 2, 3, 4]))),
        ("5 × 5", dense_aggregate(tape, &x, &ones(&[2, 2, 4, 4]))),
        ("no phases", phase_distances(tape, &ones(&[2, 0, 3, 4]), PhaseGraph::BatchMean)),
        ("f32 and f64", aggregate(tape, &x.to_dtype(DType::F16).unwrap(), &[graph()], None)),
    ];
    for (expected, result) in cases {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} should name {expected:?}");
    }
    assert!(Membership::new(2, vec![Some(2)]).unwrap_err().to_string().contains("graph 2 among 2"));
    assert!(Membership::padded(2, &[1.0]).unwrap_err().to_string().contains("a mask of 1 nodes"));
}
