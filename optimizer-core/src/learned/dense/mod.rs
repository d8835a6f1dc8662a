//! Affine layers over a few rows (one a tensor), with weights too large for a cache.
//!
//! Weights come as they lie in theta ([`product`]) or, where many steps use them, in the order of reading ([`Matrix`]);
//! the bits are the same.

mod matrix;
mod tile;

pub(super) use matrix::Matrix;
use tile::{Product, Weights};

use crate::simd::dispatch;

/// `y = x W + b`: `x` is `[rows, inputs]`, `w` is `[inputs, outputs]`, `b` is `[outputs]`; returns `[rows, outputs]`.
pub(super) fn affine(x: &[f32], w: &[f32], b: &[f32]) -> Vec<f32> {
    let mut y = product(x, w, b.len());
    add_bias(&mut y, b);
    y
}

/// `x W`, as in [`affine`]. A row's result depends on that row alone, to the bit.
pub(super) fn product(x: &[f32], w: &[f32], outputs: usize) -> Vec<f32> {
    let inputs = w.len() / outputs;
    let mut y = vec![0.0; x.len() / inputs * outputs];
    dispatch(Product { x, inputs, w: Weights::Rows(w), y: &mut y, outputs });
    y
}

/// Adds a bias `[outputs]` to every row.
pub(super) fn add_bias(y: &mut [f32], b: &[f32]) {
    for y in y.chunks_exact_mut(b.len()) {
        y.iter_mut().zip(b).for_each(|(y, b)| *y += b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::InstructionSet;

    #[test]
    fn every_input_counts_once() {
        for inputs in 1..=9 {
            let x: Vec<f32> = (0..2 * inputs).map(|i| i as f32).collect();
            let w: Vec<f32> = (0..3 * inputs).map(|i| (i % 5) as f32 - 2.0).collect();
            let b = [0.5, -1.0, 2.0];
            let y = affine(&x, &w, &b);
            for row in 0..2 {
                for output in 0..3 {
                    let sum: f32 = (0..inputs).map(|i| x[row * inputs + i] * w[i * 3 + output]).sum();
                    assert_eq!(y[row * 3 + output], sum + b[output], "{inputs} inputs");
                }
            }
        }
    }

    /// For any instruction set, any rows beside it and either order of the weights.
    #[test]
    fn a_row_has_the_same_bits_however_it_is_computed() {
        let mut seed = 0_u64;
        let mut values = |count| {
            let mut values = vec![0.0; count];
            seed += 1;
            crate::noise::normals(crate::Seed::new(seed), 0, &mut values);
            values
        };
        for (inputs, outputs) in [(1, 1), (5, 16), (33, 17), (40, 31), (64, 32), (70, 33), (29, 155)] {
            let w = values(inputs * outputs);
            let matrix = Matrix::new(&w, outputs);
            for rows in [1, 2, 3, 4, 6, 7, 11, 12, 13, 25] {
                let x = values(rows * inputs);
                let mut y = vec![f32::NAN; rows * outputs];
                matrix.product(&x, &mut y);
                assert_eq!(product(&x, &w, outputs), y);
                for set in InstructionSet::available() {
                    let mut again = vec![f32::NAN; rows * outputs];
                    let w = Weights::Rows(&w);
                    set.run(Product { x: &x, inputs, w, y: &mut again, outputs });
                    assert_eq!(again, y, "{set:?}");
                }
                for (x, y) in x.chunks(inputs).zip(y.chunks(outputs)) {
                    for (output, &y) in y.iter().enumerate() {
                        let sum = (0..inputs).fold(0.0, |sum, i| x[i].mul_add(w[i * outputs + output], sum));
                        assert_eq!(y, sum, "{rows} rows of {inputs} by {outputs}");
                    }
                }
            }
        }
    }

    /// `cargo test --release -p paceline-optimizer-core -- --ignored product_speed --nocapture`
    #[test]
    #[ignore = "prints how fast products are"]
    fn product_speed() {
        for (inputs, outputs) in [(1024, 2048), (512, 256), (256, 512), (256, 155)] {
            let w = vec![0.5; inputs * outputs];
            let matrix = Matrix::new(&w, outputs);
            for rows in [1, 4, 8, 16, 32, 64, 128] {
                let (x, mut y) = (vec![0.25; rows * inputs], vec![0.0; rows * outputs]);
                let mut least = f64::INFINITY;
                for _ in 0..(400_000_000 / (rows * inputs * outputs)).clamp(5, 2000) {
                    let start = std::time::Instant::now();
                    matrix.product(&x, &mut y);
                    least = least.min(start.elapsed().as_secs_f64());
                }
                let rate = 2e-9 * (rows * inputs * outputs) as f64 / least;
                println!("{inputs:5} x {outputs:5}, {rows:4} rows: {:9.1} us, {rate:6.1} GFLOP/s", 1e6 * least);
            }
        }
    }
}
