//! The laws of Celo2's learned rule, and its options.

use paceline_optimizer_core::Params;
use paceline_optimizer_core::learned::{Activation, Celo2, Celo2Base, Celo2Config, Celo2Rule};
use proptest::prelude::*;

use super::formula::Formula;
use super::{SHAPES, build, layout, random, rms, run, theta};

/// The matrices (or the vector) of a tensor over which Celo2 normalises.
fn matrices<'a>(shape: &[usize], values: &'a [f32]) -> std::slice::ChunksExact<'a, f32> {
    values.chunks_exact(shape[shape.len().saturating_sub(2)..].iter().product())
}

#[test]
fn a_step_of_celo2_has_the_learning_rate_as_its_rms_and_never_rests() {
    let layout = layout(&SHAPES);
    let rate = 2.0_f32.powi(-7);
    for config in [
        Celo2Config::Base(Celo2Base { step_mult: rate, ..Celo2Base::default() }),
        Celo2Config::Base(Celo2Base { step_mult: rate, orthogonalize: true, ..Celo2Base::default() }),
        Celo2Config::Shipped(Celo2::base(rate)),
        Celo2Config::Shipped(Celo2 { orthogonalize: true, ..Celo2::base(rate) }),
    ] {
        let optimizer = build(config);
        let bound = optimizer.bind(theta(optimizer.as_ref())).unwrap();
        // Small parameters, so that a step loses little when it is added to them.
        let states = run(bound.as_ref(), random(&layout, 1, 1e-3), 9, 5);
        for (step, pair) in states.windows(2).enumerate() {
            for (index, tensor) in layout.tensors().iter().enumerate() {
                let (before, after) = (pair[0].params.tensor(index), pair[1].params.tensor(index));
                for (before, after) in matrices(tensor.shape(), before).zip(matrices(tensor.shape(), after)) {
                    let moved = before.iter().zip(after).map(|(p, q)| f64::from(*q) - f64::from(*p));
                    let ratio = rms(moved) / f64::from(rate);
                    // The third gradient is zero, and yet everything moves.
                    assert!((ratio - 1.0).abs() < 1e-5, "{optimizer:?} step {step} {}: {ratio}", tensor.name());
                }
            }
        }
    }
}

#[test]
fn celo2_on_a_transposed_matrix_is_transposed() {
    let transposed = |values: &[f32], rows: usize, columns: usize| -> Vec<f32> {
        (0..rows * columns).map(|i| values[i % rows * columns + i / rows]).collect()
    };
    for orthogonalize in [false, true] {
        let optimizer = build(Celo2Config::Base(Celo2Base { orthogonalize, step_mult: 0.01, ..Celo2Base::default() }));
        let bound = optimizer.bind(theta(optimizer.as_ref())).unwrap();
        // Not square: which of two equal axes counts as the larger depends on the layout.
        let (rows, columns) = (20, 33);
        let (straight, turned) = (layout(&[("w", &[rows, columns])]), layout(&[("w", &[columns, rows])]));
        let turn = |params: &Params| {
            Params::from_tensors(&turned, 1, vec![transposed(params.tensor(0), rows, columns)]).unwrap()
        };
        let params = random(&straight, 1, 0.1);
        let mut a = bound.init(params.clone(), &[9]).unwrap();
        let mut b = bound.init(turn(&params), &[9]).unwrap();
        for step in 0..4 {
            let grads = random(&straight, 60 + step, 0.3);
            a = bound.update(a, &grads, &[1.0]).unwrap();
            b = bound.update(b, &turn(&grads), &[1.0]).unwrap();
        }
        for (a, b) in turn(&a.params).tensor(0).iter().zip(b.params.tensor(0)) {
            assert!((a - b).abs() < 2e-6, "orthogonalize {orthogonalize}: {a} for {b}");
        }
    }
}

/// How far a matrix is from rows that are orthogonal and of equal length: ‖G − I‖² for its scaled Gram matrix.
fn distance_from_orthogonal(matrix: &[f32], columns: usize) -> f64 {
    let rows: Vec<&[f32]> = matrix.chunks_exact(columns).collect();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let length = dot(matrix, matrix) / rows.len() as f64;
    let entries = rows.iter().enumerate().flat_map(|(i, a)| {
        rows.iter().enumerate().map(move |(j, b)| dot(a, b) / length - if i == j { 1.0 } else { 0.0 })
    });
    entries.map(|entry| entry * entry).sum()
}

#[test]
fn the_matrices_of_a_convolution_are_orthogonalised_one_by_one() {
    let layout = layout(&[("conv", &[2, 3, 6, 40])]);
    let [plain, orthogonal] = [false, true].map(|orthogonalize| {
        let optimizer = build(Celo2Config::Base(Celo2Base { orthogonalize, step_mult: 1.0, ..Celo2Base::default() }));
        let bound = optimizer.bind(theta(optimizer.as_ref())).unwrap();
        run(bound.as_ref(), Params::zeros(&layout, 1), 9, 1).remove(1).params
    });
    for (plain, orthogonal) in matrices(&[6, 40], plain.tensor(0)).zip(matrices(&[6, 40], orthogonal.tensor(0))) {
        let [plain, orthogonal] = [plain, orthogonal].map(|matrix| distance_from_orthogonal(matrix, 40));
        // Six singular values, whose squares lie between 0.46 and 1.3.
        assert!(orthogonal < 2.0 && plain > 4.0, "{orthogonal} from {plain}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Every option of the learned rule, in any combination, against the published formulas in f64.
    #[test]
    fn every_option_of_celo2_does_what_the_formulas_say(
        flags in prop::array::uniform8(any::<bool>()),
        shape in prop::sample::select(vec![vec![7, 5], vec![4, 6], vec![9], vec![], vec![2, 3, 4], vec![5, 2, 3]]),
        seed in 0_u64..1000,
    ) {
        let [bias_correction, normalize_input, aggregate_mag, param_scale_mult, normalize_output, precondition, tanh, orthogonalize] = flags;
        let rule = Celo2Rule {
            mlp_activation: if tanh { Activation::Tanh } else { Activation::Relu },
            initial_momentum_decays: [0.5, 0.75, 0.875],
            initial_rms_decays: [0.75],
            initial_adafactor_decays: [0.5, 0.875, 0.75],
            bias_correction,
            normalize_input,
            // Without normalisation magnitudes run into thousands.
            exp_mult: if normalize_input { 0.25 } else { 1e-4 },
            aggregate_mag,
            param_scale_mult,
            ns_coeffs: [3.0, -3.5, 1.5],
            ns_iters: 3,
            ns_eps: 1e-3,
            normalize_output,
            rmsmult: 0.5,
            precondition_output: precondition,
            ..Celo2Rule::default()
        };
        let config = Celo2Base { step_mult: 0.125, weight_decay: 0.25, orthogonalize, rule: rule.clone() };
        let optimizer = build(Celo2Config::Base(config));
        let theta = theta(optimizer.as_ref());
        let layout = layout(&[("x", &shape)]);
        let bound = optimizer.bind(theta.clone()).unwrap();
        let mut formula = Formula::new(&rule, orthogonalize, &theta, &shape);
        let mut state = bound.init(random(&layout, seed, 0.5), &[9]).unwrap();
        for step in 0..3 {
            let grads = random(&layout, 1000 + 7 * seed + step, 0.3);
            // Each step anew from our parameters: only what one step does is compared.
            let p: Vec<f64> = state.params.tensor(0).iter().map(|&p| p.into()).collect();
            let g: Vec<f64> = grads.tensor(0).iter().map(|&g| g.into()).collect();
            let direction = formula.direction(&p, &g);
            state = bound.update(state, &grads, &[1.0]).unwrap();
            let scale = direction.iter().fold(1.0_f64, |largest, s| largest.max(s.abs()));
            for ((got, p), s) in state.params.tensor(0).iter().zip(&p).zip(&direction) {
                let expected = p - 0.125 * s - 0.25 * p * 0.125;
                let error = (f64::from(*got) - expected).abs();
                // Beside the rounding of the parameter, which grows large where nothing is normalised.
                let rounding = 2e-7 * p.abs().max(expected.abs());
                prop_assert!(error < 3e-5 * scale + rounding, "step {}: {} for {}", step, got, expected);
            }
        }
    }
}
