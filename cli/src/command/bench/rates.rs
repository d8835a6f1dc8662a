//! The two rates that bound a fold, on one thread of this machine.

use std::time::Instant;

use paceline_optimizer_core::perturbation::add_outer_products;
use paceline_optimizer_core::{Seed, noise};

/// What one thread does at best.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    /// Normals drawn a second.
    pub(crate) normals: f64,
    /// Multiply-adds a second inside a product of columns, in f64.
    pub(crate) products: f64,
}

impl Rates {
    /// Measures both; the best of several rounds, for other work on the machine only ever slows them down.
    pub(crate) fn measure() -> Self {
        const NORMALS: usize = 1 << 20;
        let mut normals = vec![0.0; NORMALS];
        let mut seed = 0;
        let drawn = best(|| {
            seed += 1;
            noise::normals(Seed::new(seed), 0, &mut normals);
        });
        // The rows that a fold multiplies at once, of VeLO's largest matrix.
        let (rows, columns, inner) = (128, 2048, 512);
        let (left, right) = (vec![1.0; inner * rows], vec![0.5; inner * columns]);
        let mut sum = vec![0.0; rows * columns];
        let multiplied = best(|| add_outer_products(&left, &right, inner, 0..rows, &mut sum));
        Self { normals: NORMALS as f64 / drawn, products: (rows * columns * inner) as f64 / multiplied }
    }
}

/// Seconds of the best of some rounds.
fn best(mut round: impl FnMut()) -> f64 {
    let seconds = (0..20).map(|_| {
        let begun = Instant::now();
        round();
        begun.elapsed().as_secs_f64()
    });
    seconds.fold(f64::INFINITY, f64::min)
}
