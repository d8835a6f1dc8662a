//! Perturbations of every kind: pinned bits, any part, the right distribution, and sums that are what they say.

use std::sync::{Arc, Mutex};
use std::thread;

use paceline_optimizer_core::perturbation::{Noise, Perturbation, Term, weighted_sum};
use paceline_optimizer_core::schedule::perturbation_seed;
use paceline_optimizer_core::work::{Executor, Piece, Sequential};
use paceline_optimizer_core::{Error, Layout, Seed, TensorSpec, noise};
use proptest::prelude::*;

const RUN: Seed = Seed::new(77);

const KINDS: [Noise; 5] = [
    Noise::Dense,
    Noise::Orthogonal,
    Noise::LowRank { rank: 1 },
    Noise::LowRank { rank: 2 },
    Noise::LowRank { rank: 5 },
];

fn layout(tensors: &[(&str, &[usize])]) -> Arc<Layout> {
    Layout::new(tensors.iter().map(|&(name, shape)| TensorSpec::new(name, shape)).collect()).unwrap()
}

/// Matrices between vectors, one of them too thin to be factored; more than a block of the sums.
fn mixed() -> Arc<Layout> {
    layout(&[
        ("a", &[7]),
        ("b", &[40, 31]),
        ("c", &[2, 2]),
        ("d", &[]),
        ("e", &[3, 2, 5]),
        ("f", &[13, 90]),
        ("g", &[9]),
    ])
}

fn epsilon(noise: Noise, layout: &Arc<Layout>, outer_step: u64, slot: u32, pair: u32) -> Perturbation {
    Perturbation::new(RUN, noise, layout, outer_step, slot, pair).unwrap()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[test]
fn perturbations_are_the_pinned_bits() {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("../perturbation_v1.json")).unwrap();
    assert_eq!(vectors["version"], noise::VERSION);
    let tensors = vectors["layout"].as_array().unwrap().iter().map(|tensor| {
        let shape: Vec<usize> = serde_json::from_value(tensor["shape"].clone()).unwrap();
        TensorSpec::new(tensor["name"].as_str().unwrap(), shape)
    });
    let layout = Layout::new(tensors.collect()).unwrap();
    let run = Seed::new(u64::from_str_radix(vectors["run"].as_str().unwrap(), 16).unwrap());
    let cases = vectors["perturbations"].as_array().unwrap();
    for case in cases {
        let noise: Noise = serde_json::from_value(case["noise"].clone()).unwrap();
        let number = |key: &str| case[key].as_u64().unwrap();
        let (slot, pair) = (number("slot") as u32, number("pair") as u32);
        let epsilon = Perturbation::new(run, noise, &layout, number("outer_step"), slot, pair).unwrap();
        let bits: Vec<String> = epsilon.whole().iter().map(|value| format!("{:08x}", value.to_bits())).collect();
        assert_eq!(serde_json::to_value(bits).unwrap(), case["bits"], "{noise:?}");
    }
    assert_eq!(cases.len(), 10);
}

#[test]
fn dense_is_the_stream_itself() {
    let layout = mixed();
    let mut expected = vec![0.0; layout.size()];
    noise::normals(perturbation_seed(RUN, 4, 2, 1), 0, &mut expected);
    assert_eq!(epsilon(Noise::Dense, &layout, 4, 2, 1).whole(), expected);
}

#[test]
fn any_part_is_the_part_of_the_whole() {
    let layout = mixed();
    for noise in KINDS {
        let epsilon = epsilon(noise, &layout, 3, 1, 2);
        let whole = epsilon.whole();
        for first in [0, 1, 6, 7, 8, 37, 38, 700, 1246, 1247, 1250, 1300, layout.size() - 1] {
            for length in [0, 1, 2, 30, 31, 32, 63, 1023, 1025, 2000] {
                let end = layout.size().min(first + length);
                let mut part = vec![f32::NAN; end - first];
                epsilon.values(first, &mut part);
                assert_eq!(part, whole[first..end], "{noise:?} {first} + {length}");
            }
        }
        for index in 0..layout.len() {
            let start = layout.offset(index);
            assert_eq!(epsilon.tensor(index), whole[start..start + layout.tensors()[index].size()]);
        }
    }
}

#[test]
fn factors_multiply_to_the_matrix_and_cost_what_is_said() {
    let layout = mixed();
    for rank in [1, 2, 5] {
        let epsilon = epsilon(Noise::LowRank { rank }, &layout, 3, 1, 2);
        let rank = rank as usize;
        let mut saved = 0;
        for (index, tensor) in layout.tensors().iter().enumerate() {
            let Some(factors) = epsilon.factors(index) else {
                assert!(!["b", "f"].contains(&tensor.name()));
                continue;
            };
            let &[rows, columns] = tensor.shape() else { panic!("only matrices are factored") };
            assert_eq!((factors.a.len(), factors.b.len()), (rank * rows, rank * columns));
            for (place, entry) in epsilon.tensor(index).into_iter().enumerate() {
                let (i, j) = (place / columns, place % columns);
                let term = |k: usize| f64::from(factors.a[k * rows + i]) * f64::from(factors.b[k * columns + j]);
                let expected = (0..rank).map(term).sum::<f64>() * factors.scale();
                assert_eq!(entry, expected as f32);
            }
            saved += rows * columns - rank * (rows + columns);
        }
        assert_eq!(epsilon.normals(), (layout.size() - saved) as u64);
        assert_eq!(Noise::LowRank { rank: rank as u32 }.normals(&layout), epsilon.normals());
    }
    assert_eq!(epsilon(Noise::Orthogonal, &layout, 3, 1, 2).normals(), 3 * layout.size() as u64);
}

#[test]
fn what_cannot_be_drawn_is_refused() {
    let layout = layout(&[("x", &[3])]);
    let field = |noise, pair| match Perturbation::new(RUN, noise, &layout, 0, 0, pair) {
        Err(Error::Setting { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(Noise::Orthogonal, 3), "outer.pairs_per_slot");
    assert_eq!(field(Noise::LowRank { rank: 0 }, 0), "estimator.noise.rank");
    assert!(Perturbation::new(RUN, Noise::Orthogonal, &layout, 0, 0, 2).is_ok());
}

/// Means and correlations of the entries of ε over many slots.
#[test]
fn entries_are_standard_and_uncorrelated() {
    let layout = layout(&[("v", &[2]), ("m", &[4, 5]), ("w", &[1])]);
    let (size, draws) = (layout.size(), 40_000_u32);
    for noise in KINDS {
        let mut means = vec![0.0; size];
        let mut products = vec![0.0; size * size];
        for slot in 0..draws {
            // With orthogonal noise the last of three pairs, which was projected.
            let whole: Vec<f64> = epsilon(noise, &layout, 0, slot, 2).whole().into_iter().map(f64::from).collect();
            for i in 0..size {
                means[i] += whole[i];
                for j in 0..=i {
                    products[i * size + j] += whole[i] * whole[j];
                }
            }
        }
        let n = f64::from(draws);
        for i in 0..size {
            assert!((means[i] / n).abs() < 5.0 / n.sqrt(), "{noise:?}: mean {i}");
            for j in 0..=i {
                // A product of two entries has a variance of at most 8, the square of one entry of rank 1:
                // E a⁴b⁴ − 1. Off the diagonal it is at most 3, of two entries in one row of rank 1.
                let (expected, variance) = if i == j { (1.0, 8.0) } else { (0.0, 3.0) };
                let got = products[i * size + j] / n;
                assert!((got - expected).abs() < 5.0 * f64::sqrt(variance / n), "{noise:?}: {i} {j} is {got}");
            }
        }
    }
}

#[test]
fn directions_of_a_slot_are_orthogonal_and_keep_their_length() {
    let layout = mixed();
    for pairs in [2, 7, 16] {
        let all: Vec<Vec<f32>> =
            (0..pairs).map(|pair| epsilon(Noise::Orthogonal, &layout, 1, 9, pair).whole()).collect();
        for i in 0..all.len() {
            let raw = epsilon(Noise::Dense, &layout, 1, 9, i as u32).whole();
            let square = dot(&all[i], &all[i]);
            assert!((square / dot(&raw, &raw) - 1.0).abs() < 1e-6, "length of pair {i}");
            for j in 0..i {
                let cosine = dot(&all[i], &all[j]) / (square * dot(&all[j], &all[j])).sqrt();
                assert!(cosine.abs() < 1e-6, "pairs {i} and {j}: {cosine:e}");
            }
        }
        // Directions of other slots and steps are independent, not orthogonal.
        assert!(dot(&all[1], &epsilon(Noise::Orthogonal, &layout, 1, 8, 0).whole()).abs() > 1e-3);
        assert_eq!(all[0], epsilon(Noise::Dense, &layout, 1, 9, 0).whole());
    }
}

/// `Φ` by its series, good to 1e-7 for |z| < 5.
fn normal_cdf(z: f64) -> f64 {
    let (mut term, mut sum) = (z, z);
    for k in 1..120 {
        term *= z * z / f64::from(2 * k + 1);
        sum += term;
    }
    0.5 + f64::exp(-z * z / 2.0) / f64::sqrt(2.0 * std::f64::consts::PI) * sum
}

#[test]
fn an_orthogonal_direction_by_itself_is_distributed_as_a_dense_one() {
    // The last of as many pairs as values: the most that projections could spoil.
    let layout = layout(&[("x", &[3])]);
    let slots = 30_000;
    let mut entries: Vec<f64> =
        (0..slots).map(|slot| f64::from(epsilon(Noise::Orthogonal, &layout, 0, slot, 2).whole()[1])).collect();
    entries.sort_by(f64::total_cmp);
    let n = f64::from(slots);
    let distance = entries.iter().enumerate().fold(0.0_f64, |worst, (i, &z)| {
        let cumulative = normal_cdf(z.clamp(-5.0, 5.0));
        worst.max((cumulative - i as f64 / n).abs()).max((cumulative - (i + 1) as f64 / n).abs())
    });
    // Kolmogorov–Smirnov: below 1.95 / √n with probability 0.999.
    assert!(distance < 1.95 / n.sqrt(), "Kolmogorov–Smirnov distance {distance}");
}

/// On a linear loss c · theta a pair estimates (c · ε) ε. Orthogonal directions are a whole basis after D pairs, so what is
/// left of the error is that of their lengths.
#[test]
fn as_many_orthogonal_pairs_as_values_recover_a_linear_gradient() {
    let size = 24;
    let layout = layout(&[("x", &[size])]);
    let c: Vec<f32> = (0..size).map(|i| i as f32 - 9.5).collect();
    let square = dot(&c, &c);
    let error = |noise, slot| {
        let mut estimate = vec![0.0; size];
        let mut unweighed = vec![0.0; size];
        for pair in 0..size as u32 {
            let e = epsilon(noise, &layout, 0, slot, pair).whole();
            let projection = dot(&c, &e);
            for i in 0..size {
                estimate[i] += projection * f64::from(e[i]) / size as f64;
                unweighed[i] += projection * f64::from(e[i]) / dot(&e, &e);
            }
        }
        let distance = |x: &[f64]| x.iter().zip(&c).map(|(x, c)| (x - f64::from(*c)).powi(2)).sum::<f64>() / square;
        (distance(&estimate), distance(&unweighed))
    };
    let slots = 200;
    let (mut orthogonal, mut dense) = (0.0, 0.0);
    for slot in 0..slots {
        let (estimate, directions) = error(Noise::Orthogonal, slot);
        assert!(directions.sqrt() < 1e-6, "the directions are a basis: {directions:e}");
        orthogonal += estimate / f64::from(slots);
        dense += error(Noise::Dense, slot).0 / f64::from(slots);
    }
    // (D + 1)/D with dense noise, 2/D with orthogonal.
    let d = size as f64;
    assert!((dense / ((d + 1.0) / d) - 1.0).abs() < 0.15, "dense: {dense}");
    assert!((orthogonal / (2.0 / d) - 1.0).abs() < 0.15, "orthogonal: {orthogonal}");
}

/// Threads that take pieces from the end.
struct Backwards(usize);

impl Executor for Backwards {
    fn run(&self, pieces: Vec<Piece<'_>>) {
        let pieces = Mutex::new(pieces);
        thread::scope(|scope| {
            for _ in 0..self.0 {
                scope.spawn(|| {
                    loop {
                        let Some(piece) = pieces.lock().unwrap().pop() else { break };
                        piece();
                    }
                });
            }
        });
    }
}

fn terms(count: u32) -> Vec<Term> {
    let weight = |i: u32| (f64::from(i) * 0.7).sin() * 10_f64.powi(i as i32 % 5 - 2);
    (0..count)
        .map(|i| Term { outer_step: u64::from(i / 24), slot: i / 8 % 3, pair: i % 8, weight: weight(i) })
        .collect()
}

/// What a fold must be, to the rounding of ε to f32 and, where it is factored, of weights to 29 bits. The products of one
/// entry may cancel; each is at most 6.4², the square of the largest normal.
fn assert_sums_up(noise: Noise, layout: &Arc<Layout>, terms: &[Term]) {
    let mut got = vec![0.25; layout.size()];
    weighted_sum(noise, layout, RUN, terms, &mut got, &Sequential);
    let mut expected = vec![0.25; layout.size()];
    let mut bound = vec![1e-12; layout.size()];
    let products = match noise {
        Noise::Dense | Noise::Orthogonal => 0.0,
        Noise::LowRank { rank } => f64::from(rank).sqrt() * 6.4 * 6.4,
    };
    for term in terms {
        let whole = epsilon(noise, layout, term.outer_step, term.slot, term.pair).whole();
        for ((expected, bound), e) in expected.iter_mut().zip(&mut bound).zip(whole) {
            *expected += term.weight * f64::from(e);
            *bound += term.weight.abs() * (f64::from(e).abs() * 2f64.powi(-23) + products * 2f64.powi(-29));
        }
    }
    for (i, ((got, expected), bound)) in got.iter().zip(&expected).zip(&bound).enumerate() {
        assert!((got - expected).abs() <= *bound, "{noise:?} entry {i}: {got} is not {expected} ± {bound:e}");
    }
}

#[test]
fn a_weighted_sum_is_the_sum_of_the_perturbations() {
    for noise in KINDS {
        for count in [0, 1, 2, 3, 24, 70] {
            assert_sums_up(noise, &mixed(), &terms(count));
        }
    }
    // More columns than one product takes, and matrices of more rows than one piece.
    let layout = layout(&[("m", &[300, 3]), ("v", &[5]), ("w", &[2, 257])]);
    assert_sums_up(Noise::LowRank { rank: 2 }, &layout, &terms(600));
}

#[test]
fn neither_threads_nor_their_order_show_in_a_sum() {
    let layout = layout(&[("a", &[70_000]), ("b", &[300, 70]), ("c", &[2, 300])]);
    for noise in KINDS {
        let sum = |executor: &dyn Executor| {
            let mut sum = vec![0.0; layout.size()];
            weighted_sum(noise, &layout, RUN, &terms(40), &mut sum, executor);
            sum
        };
        let alone = sum(&Sequential);
        for threads in [1, 2, 3] {
            assert_eq!(sum(&Backwards(threads)), alone, "{noise:?} on {threads} threads");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn sums_of_any_layout_and_rank_agree(
        shapes in prop::collection::vec(prop::collection::vec(1_usize..9, 0..4), 1..6),
        rank in 1_u32..5,
        count in 0_u32..40,
    ) {
        let specs = shapes.into_iter().enumerate().map(|(i, shape)| TensorSpec::new(format!("t{i}"), shape));
        let layout = Layout::new(specs.collect()).unwrap();
        for noise in [Noise::Dense, Noise::LowRank { rank }] {
            assert_sums_up(noise, &layout, &terms(count));
        }
        if layout.size() >= 8 {
            assert_sums_up(Noise::Orthogonal, &layout, &terms(count));
        }
    }
}
