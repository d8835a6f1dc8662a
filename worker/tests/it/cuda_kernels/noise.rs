//! noise/v1: the device's ε is the CPU's, to the bit.

use paceline_optimizer_core::params::{Layout, TensorSpec};
use paceline_optimizer_core::{Seed, Theta, noise};

use super::emulator::{Launch, emulator, input, output, value};

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

#[test]
fn perturbed_thetas_are_those_of_the_cpu() {
    let Some(emulator) = emulator("cuda_antithetic") else { return };
    let size = 197;
    let layout = Layout::new(vec![TensorSpec::new("theta", [size])]).unwrap();
    let mut theta = Theta::zeros(&layout, 1);
    noise::normals(Seed::new(1), 0, theta.tensor_mut(0, 0));
    let (seeds, sigma) = ([5_u64, 6, u64::MAX], 0.01_f32);
    let expected: Vec<f32> = seeds
        .iter()
        .flat_map(|seed| {
            let mut epsilon = vec![0.0; size];
            noise::normals(Seed::new(*seed), 0, &mut epsilon);
            let lanes = theta.antithetic(sigma, &epsilon).unwrap();
            [lanes.tensor(0, 0).to_vec(), lanes.tensor(1, 0).to_vec()].concat()
        })
        .collect();
    let arguments = [
        input(noise::quantile_table().as_flattened()),
        input(theta.tensor(0, 0)),
        value(size as u32),
        input(&seeds),
        value(sigma),
        output(&vec![f32::NAN; 6 * size]),
    ];
    let got = emulator.run_f32("antithetic", Launch::new([2, 3], 32), &arguments);
    assert_eq!(bits(&got[0]), bits(&expected));
}
