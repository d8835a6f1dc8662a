//! noise/v1: the device's ε is the CPU's, to the bit.

use std::ops::Range;

use paceline_optimizer_core::params::{Layout, TensorSpec};
use paceline_optimizer_core::perturbation::{Antithetic, Noise, Part, Perturbation};
use paceline_optimizer_core::{Seed, Theta, noise};
use paceline_worker::cuda::ThetaJob;
use paceline_worker::cuda::thetas::trials;

use super::emulator::{Emulator, Launch, ORDERS, emulator, input, output, value};

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn normals_are_those_of_the_cpu_at_every_offset() {
    let Some(emulator) = emulator("cuda_noise") else { return };
    let table = noise::quantile_table().as_flattened();
    let carry = 4 * (u64::from(u32::MAX) - 3);
    for (seed, first, count, grid, threads) in [
        (0, 0, 1, 1, 32),
        (7, 0, 4096, 3, 64),
        (u64::MAX, 3, 1001, 2, 128),
        (0x1234_5678_9abc_def0, 1_000_002, 777, 1, 256),
        (9, carry + 1, 63, 2, 32),
        (9, 5, 0, 1, 32),
        (11, 2, 1, 1, 32),
    ] {
        let mut expected = vec![0.0; count];
        noise::normals(Seed::new(seed), first, &mut expected);
        let arguments = [input(table), value(seed), value(first), value(count as u64), output(&vec![f32::NAN; count])];
        let got = emulator.run_f32("normals", Launch::new([grid, 1], threads), &arguments);
        assert_eq!(bits(&got[0]), bits(&expected), "seed {seed}, from {first}");
    }
}

#[test]
fn many_normals_meet_every_octave_of_the_table() {
    let Some(emulator) = emulator("cuda_noise_octaves") else { return };
    let count = 1 << 20;
    let mut expected = vec![0.0; count];
    noise::normals(Seed::new(42), 0, &mut expected);
    // Two-sided tails down to 2^-18 occur in a million draws: eighteen of the table's octaves.
    assert!(expected.iter().any(|e| e.abs() > 4.5));
    let table = noise::quantile_table().as_flattened();
    let arguments = [input(table), value(42_u64), value(0_u64), value(count as u64), output(&vec![f32::NAN; count])];
    let got = emulator.run_f32("normals", Launch::new([4, 1], 256), &arguments);
    assert_eq!(bits(&got[0]), bits(&expected));
}

/// The thetas of some pairs, by the kernel.
fn made(emulator: &Emulator, lanes: &Antithetic, pairs: Range<usize>) -> Vec<f32> {
    emulator.thetas(&ThetaJob::new(lanes, pairs), ORDERS)
}

fn agree(emulator: &Emulator, lanes: &Antithetic, what: &str) {
    let (got, expected) = (made(emulator, lanes, 0..lanes.pairs().len()), lanes.made().unwrap());
    let apart = got.iter().zip(expected.values()).position(|(got, expected)| got.to_bits() != expected.to_bits());
    assert_eq!((got.len(), apart), (expected.values().len(), None), "{what}: length, first place that differs");
}

#[test]
fn thetas_of_lanes_are_those_of_the_cpu() {
    let Some(emulator) = emulator("cuda_thetas") else { return };
    for (noise, lanes) in trials() {
        agree(emulator, &lanes, &format!("{noise:?}"));
        // Parts of a lease are those of the whole.
        let size = lanes.theta().values().len();
        let (whole, last) = (made(emulator, &lanes, 0..3), made(emulator, &lanes, 2..3));
        assert_eq!(bits(&last), bits(&whole[4 * size..]), "{noise:?}");
    }
}

/// Lanes of `pairs` pairs around a theta of such tensors.
fn lanes(shapes: &[&[usize]], noise: Noise, pairs: u32, sigma: f32) -> Antithetic {
    let tensor = |(index, shape): (usize, &&[usize])| TensorSpec::new(format!("t{index}"), *shape);
    let layout = Layout::new(shapes.iter().enumerate().map(tensor).collect()).unwrap();
    let mut theta = Theta::zeros(&layout, 1);
    noise::normals(Seed::new(1), 0, theta.values_mut());
    let epsilon = |pair| Perturbation::new(Seed::new(u64::MAX), noise, &layout, 9, 4, pair).unwrap();
    Antithetic::new(&theta, (0..pairs).map(epsilon).collect(), sigma).unwrap()
}

#[test]
fn thetas_of_odd_sizes_are_those_of_the_cpu() {
    let Some(emulator) = emulator("cuda_thetas_sizes") else { return };
    for noise in [Noise::Dense, Noise::Orthogonal] {
        // A tile has 2048 values.
        for size in [1, 3, 197, 2047, 2048, 2049, 4097] {
            agree(
                emulator,
                &lanes(&[&[size]], noise, if size == 1 { 1 } else { 3 }, 0.01),
                &format!("{noise:?} {size}"),
            );
        }
    }
    for (rank, shapes) in [
        // Whole tiles of 32 by 64, and some that are not.
        (1, [[32, 64], [64, 128], [2, 3]]),
        (2, [[33, 65], [31, 63], [5, 300]]),
        (5, [[130, 7], [12, 11], [100, 64]]),
        (16, [[40, 70], [65, 33], [33, 129]]),
        (40, [[97, 83], [1, 2], [90, 100]]),
    ] {
        // Vectors between, so that parts begin anywhere in a block of four normals and of theta.
        let [a, b, c] = &shapes;
        let shapes: [&[usize]; 6] = [a, &[1], b, &[2, 2, 2], c, &[3]];
        let lanes = lanes(&shapes, Noise::LowRank { rank }, 2, 0.3);
        let factored = lanes.pairs()[0].parts().iter().filter(|part| matches!(part, Part::Factored(_))).count();
        assert!(factored >= 2, "rank {rank}: {factored} matrices are worth it");
        agree(emulator, &lanes, &format!("rank {rank}"));
    }
}

/// Signs of zero, denormal numbers, and what overflows.
#[test]
fn special_values_of_theta_are_those_of_the_cpu() {
    let Some(emulator) = emulator("cuda_thetas_special") else { return };
    for noise in [Noise::Dense, Noise::LowRank { rank: 1 }] {
        for sigma in [0.0, 1e-44, 3e38] {
            let plain = lanes(&[&[6], &[9, 10]], noise, 2, sigma);
            let mut theta = plain.theta().clone();
            let special = [0.0, -0.0, f32::MIN_POSITIVE / 3.0, f32::MAX, -1e-45];
            theta.values_mut().iter_mut().zip(special.into_iter().cycle()).for_each(|(value, other)| *value = other);
            let lanes = Antithetic::new(&theta, plain.pairs().to_vec(), sigma).unwrap();
            agree(emulator, &lanes, &format!("{noise:?}, sigma {sigma}"));
        }
    }
}
