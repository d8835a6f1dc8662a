//! Fused steps against their definition, and bit for bit against themselves.

use super::super::accumulators::{Decays, TensorPlan, new_tensor_slots};
use super::super::channels::{CLIPPED, Guards, InputRows, PLAIN};
use super::super::network::{Activation, Layer, Network};
use super::oracle::State;
use super::{Moved, Said, Step};
use crate::optimizer::Slot;
use crate::simd::tests::with_instructions;
use crate::simd::{InstructionSet, Simd};
use crate::{Seed, TensorSpec, noise};

/// The first output takes the place of the parameters.
struct First;

impl<const E: usize> Moved<E, 2> for First {
    fn moved<S: Simd>(&self, _: S, said: &Said<'_, S, E, 2>) -> S::Vector {
        said.outputs[0]
    }
}

/// A network's own copy of its layers.
struct Weights(Vec<(Vec<f32>, Vec<f32>)>, Activation);

impl Weights {
    fn new(inputs: usize, units: usize, hidden_layers: usize, outputs: usize, activation: Activation) -> Self {
        let layer = |layer: usize| {
            let fan_in = if layer == 0 { inputs } else { units };
            let fan_out = if layer == hidden_layers { outputs } else { units };
            let mut w = normals(90 + layer as u64, fan_in * fan_out);
            w.iter_mut().for_each(|w| *w /= (fan_in as f32).sqrt());
            (w, normals(80 + layer as u64, fan_out))
        };
        Self((0..=hidden_layers).map(layer).collect(), activation)
    }

    fn network(&self) -> Network<'_> {
        let layers: Vec<Layer<'_>> = self.0.iter().map(|(w, b)| Layer { w, b }).collect();
        Network { activation: self.1, ..Network::new(layers[0], &layers[1..]) }
    }
}

fn normals(seed: u64, size: usize) -> Vec<f32> {
    let mut values = vec![0.0; size];
    noise::normals(Seed::new(seed), 0, &mut values);
    values
}

/// Channels in the order of the inputs, then rows and columns.
fn rows<const E: usize>() -> InputRows<E> {
    InputRows {
        element: std::array::from_fn(Some),
        row: Some(E),
        col: Some(E + 3),
        rsqrt_row: Some(E + 6),
        rsqrt_col: Some(E + 9),
    }
}

const DECAYS: [[f32; 3]; 2] = [[0.9, 0.99, 0.999], [0.5, 0.95, 0.999]];

const SHAPES: [&[usize]; 26] = [
    &[],
    &[1],
    &[2],
    &[15],
    &[16],
    &[17],
    &[33],
    &[513],
    &[0],
    &[0, 3],
    &[1, 1],
    &[5, 1],
    &[1, 7],
    &[2, 3],
    &[10, 32],
    &[33, 17],
    &[16, 16],
    &[17, 33],
    &[100, 3],
    &[3, 200],
    &[3, 3, 5, 4],
    &[3, 3, 1, 8],
    &[2, 20, 17],
    &[15, 10, 3],
    &[2, 3, 1, 1],
    &[600, 2],
];

/// What differs between optimizers.
#[derive(Clone, Copy, Debug)]
struct Variant {
    units: usize,
    hidden_layers: usize,
    activation: Activation,
    by_matrices: bool,
    corrected: bool,
    guards: Guards,
}

const VARIANTS: [Variant; 5] = [
    Variant {
        units: 4,
        hidden_layers: 2,
        activation: Activation::Relu,
        by_matrices: false,
        corrected: false,
        guards: Guards { q: 1e-6, fac_m: 1e-6, normaliser: Some(1e-5) },
    },
    Variant {
        units: 8,
        hidden_layers: 2,
        activation: Activation::Relu,
        by_matrices: true,
        corrected: false,
        guards: Guards { q: 1e-8, fac_m: 0.0, normaliser: Some(1e-9) },
    },
    Variant {
        units: 5,
        hidden_layers: 1,
        activation: Activation::Tanh,
        by_matrices: true,
        corrected: true,
        guards: Guards { q: 1e-8, fac_m: 1e-6, normaliser: Some(1e-9) },
    },
    Variant {
        units: 4,
        hidden_layers: 3,
        activation: Activation::Tanh,
        by_matrices: false,
        corrected: true,
        guards: Guards { q: 1e-4, fac_m: 1e-4, normaliser: None },
    },
    Variant {
        units: 33,
        hidden_layers: 2,
        activation: Activation::Relu,
        by_matrices: false,
        corrected: false,
        guards: Guards { q: 1e-6, fac_m: 1e-6, normaliser: Some(1e-5) },
    },
];

/// Some steps; what is called with each: its parameters, gradient, result, and the slots after it.
fn steps<const E: usize>(
    variant: Variant,
    shape: &[usize],
    gradient: impl Fn(u64, usize) -> Vec<f32>,
    mut done: impl FnMut(&Step<'_, E>, &[f32], &[f32], &[f32], &[Slot]),
) {
    let weights = Weights::new(E + 12, variant.units, variant.hidden_layers, 3, variant.activation);
    let network = weights.network();
    let (decays, rows) = (Decays::new(DECAYS[0], 0.99, DECAYS[1]), rows::<E>());
    let tensor = TensorSpec::new("w", shape);
    let mut slots = new_tensor_slots(&tensor, 1);
    let plan = TensorPlan::new(&tensor, &mut 0);
    for count in 1..=3 {
        let step = Step {
            decays: &decays,
            rows: &rows,
            guards: variant.guards,
            network: &network,
            corrected: variant.corrected.then_some(count),
            by_matrices: variant.by_matrices,
        };
        let (p, g) = (normals(7 + u64::from(count), tensor.size()), gradient(u64::from(count), tensor.size()));
        let mut moved = p.clone();
        step.take(&mut moved, &g, plan.accumulators(&mut slots, 0), |_| First);
        done(&step, &p, &g, &moved, &slots);
    }
}

/// Normal values of very different sizes, some beyond the clip.
fn uneven(seed: u64, size: usize) -> Vec<f32> {
    let scales = normals(1000 + seed, size);
    normals(seed, size).into_iter().zip(scales).map(|(g, scale)| g * (2.0 * scale).exp()).collect()
}

fn assert_as_defined<const E: usize>(variant: Variant, shape: &[usize], gradient: impl Fn(u64, usize) -> Vec<f32>) {
    let mut oracle = State::new(shape);
    steps::<E>(variant, shape, gradient, |step, p, g, moved, slots| {
        let said = oracle.step(step, shape, p, g, 1);
        let largest = said.iter().fold(1.0, |largest: f64, said| largest.max(said[0].abs()));
        for (i, (said, &moved)) in said.iter().zip(moved).enumerate() {
            let error = (said[0] - f64::from(moved)).abs();
            assert!(error <= 1e-5 * largest, "{variant:?} {shape:?} element {i}: {moved} is no {}", said[0]);
        }
        if p.is_empty() {
            return;
        }
        let tables = oracle.second.iter().flatten().flatten();
        let exact = oracle.m.iter().flatten().chain(&oracle.rms).chain(tables);
        let got = slots.iter().flat_map(|slot| &slot.values);
        let size = g.iter().fold(0.0, |size: f64, &g| size.max(f64::from(g).abs().min(1e3)));
        assert_eq!(exact.clone().count(), got.clone().count());
        for (exact, &got) in exact.zip(got) {
            assert!(
                (exact - f64::from(got)).abs() <= 1e-6 * (exact.abs() + 0.1 * size),
                "{shape:?}: {got} is no {exact}"
            );
        }
    });
}

#[test]
fn every_shape_moves_as_defined() {
    for variant in VARIANTS {
        for shape in SHAPES {
            assert_as_defined::<PLAIN>(variant, shape, uneven);
            assert_as_defined::<CLIPPED>(variant, shape, uneven);
        }
    }
}

#[test]
fn a_tensor_without_a_gradient_moves_as_defined() {
    for variant in [VARIANTS[0], VARIANTS[4]] {
        for shape in [&[17][..], &[10, 32], &[3, 3, 5, 4]] {
            assert_as_defined::<PLAIN>(variant, shape, |_, size| vec![0.0; size]);
            assert_as_defined::<CLIPPED>(variant, shape, |_, size| vec![0.0; size]);
        }
    }
}

/// Bits of all results and slots.
fn bits(variant: Variant, shape: &[usize]) -> Vec<u32> {
    let mut bits = Vec::new();
    let note = |bits: &mut Vec<u32>, moved: &[f32], slots: &[Slot]| {
        let all = slots.iter().flat_map(|slot| &slot.values).chain(moved);
        bits.extend(all.map(|value| value.to_bits()));
    };
    steps::<PLAIN>(variant, shape, uneven, |_, _, _, moved, slots| note(&mut bits, moved, slots));
    steps::<CLIPPED>(variant, shape, uneven, |_, _, _, moved, slots| note(&mut bits, moved, slots));
    bits
}

#[test]
fn all_instructions_give_the_same_bits() {
    let sets = InstructionSet::available();
    for variant in VARIANTS {
        for shape in [&[17][..], &[33, 17], &[16, 48], &[3, 3, 5, 4], &[15, 10, 3], &[2, 600]] {
            let of_sets: Vec<_> = sets.iter().map(|&set| with_instructions(set, || bits(variant, shape))).collect();
            for (set, other) in sets.iter().zip(&of_sets) {
                assert!(*other == of_sets[0], "{set:?} differs for {variant:?} {shape:?}");
            }
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let (one, two) = (pool(1), pool(2));
    for variant in VARIANTS {
        for shape in [&[300, 257][..], &[70_000], &[2, 40_000], &[3, 9000, 3], &[2, 200, 190]] {
            let alone = bits(variant, shape);
            assert!(one.install(|| bits(variant, shape)) == alone, "{variant:?} {shape:?}");
            assert!(two.install(|| bits(variant, shape)) == alone, "{variant:?} {shape:?}");
        }
    }
}

#[test]
fn nothing_is_left_of_the_tensor_before() {
    let fresh = |shape: &'static [usize]| std::thread::spawn(move || bits(VARIANTS[0], shape)).join().unwrap();
    for pair in SHAPES.windows(2) {
        bits(VARIANTS[4], pair[0]);
        assert!(bits(VARIANTS[0], pair[1]) == fresh(pair[1]), "{:?} after {:?}", pair[1], pair[0]);
    }
}

#[test]
fn what_is_not_finite_stays_visible() {
    for bad in [f32::NAN, f32::INFINITY] {
        for shape in [&[17][..], &[33, 17], &[3, 3, 5, 4]] {
            let gradient = |count: u64, size: usize| {
                let mut g = uneven(count, size);
                g[size / 2] = bad;
                g
            };
            steps::<PLAIN>(VARIANTS[0], shape, gradient, |_, p, _, moved, slots| {
                assert!(moved[p.len() / 2].is_nan(), "{shape:?} {bad}");
                let m = &slots[0].values[..p.len()];
                assert_eq!(m.iter().filter(|m| !m.is_finite()).count(), 1, "momenta are their element's own");
            });
        }
    }
}
