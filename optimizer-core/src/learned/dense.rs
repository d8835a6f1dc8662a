//! Affine layers over a few rows (one a tensor), with weights too large for a cache.

/// `y = x W + b`: `x` is `[rows, inputs]`, `w` is `[inputs, outputs]`, `b` is `[outputs]`; returns `[rows, outputs]`.
pub(super) fn affine(x: &[f32], w: &[f32], b: &[f32]) -> Vec<f32> {
    let mut y = product(x, w, b.len());
    add_bias(&mut y, b);
    y
}

/// `x W`, as in [`affine`].
///
/// The weights are read once, four input rows at a time, and used for all rows of `x` while they are in cache. A row's
/// result depends on that row alone, to the bit.
pub(super) fn product(x: &[f32], w: &[f32], outputs: usize) -> Vec<f32> {
    let inputs = w.len() / outputs;
    let rows = x.len() / inputs;
    let mut y = vec![0.0; rows * outputs];
    let whole = inputs - inputs % 4;
    for first in (0..whole).step_by(4) {
        let [w0, w1, w2, w3] = std::array::from_fn(|k| &w[(first + k) * outputs..(first + k + 1) * outputs]);
        for (x, y) in x.chunks_exact(inputs).zip(y.chunks_exact_mut(outputs)) {
            let [x0, x1, x2, x3] = std::array::from_fn(|k| x[first + k]);
            for ((((y, w0), w1), w2), w3) in y.iter_mut().zip(w0).zip(w1).zip(w2).zip(w3) {
                *y += (x0 * w0 + x1 * w1) + (x2 * w2 + x3 * w3);
            }
        }
    }
    for input in whole..inputs {
        let w = &w[input * outputs..(input + 1) * outputs];
        for (x, y) in x.chunks_exact(inputs).zip(y.chunks_exact_mut(outputs)) {
            for (y, w) in y.iter_mut().zip(w) {
                *y += x[input] * w;
            }
        }
    }
    y
}

/// Adds a bias `[outputs]` to every row.
pub(super) fn add_bias(y: &mut [f32], b: &[f32]) {
    for y in y.chunks_exact_mut(b.len()) {
        for (y, b) in y.iter_mut().zip(b) {
            *y += b;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
