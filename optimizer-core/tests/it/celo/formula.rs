//! The learned rule of Celo2 as `Celo2Transformation` of `amoudgl/celo` @ 66d9761 has it, written down once more in f64:
//! whole arrays, one channel after another, no tables and no blocks.

use paceline_optimizer_core::Theta;
use paceline_optimizer_core::learned::{Activation, Celo2Rule};

/// One tensor's accumulators and the network.
pub(crate) struct Formula<'a> {
    rule: &'a Celo2Rule,
    orthogonalize: bool,
    theta: &'a Theta,
    shape: Vec<usize>,
    count: i32,
    m: [Vec<f64>; 3],
    rms: Vec<f64>,
    /// Second moments: `v_row` and `v_col` spread out over the elements, or twice `v_diag`.
    row: [Vec<f64>; 3],
    col: [Vec<f64>; 3],
}

/// The two largest axes, the second largest first; of equal ones the later counts as larger.
fn factored_axes(shape: &[usize]) -> Option<(usize, usize)> {
    let mut axes: Vec<usize> = (0..shape.len()).collect();
    axes.sort_by_key(|&axis| shape[axis]);
    let &[.., d1, d0] = &axes[..] else { return None };
    Some((d1, d0))
}

/// Mean over one axis, kept in place: every element gets the mean of those that differ from it along the axis only.
fn mean_along(shape: &[usize], axis: usize, values: &[f64]) -> Vec<f64> {
    let after: usize = shape[axis + 1..].iter().product();
    let along = shape[axis];
    (0..values.len())
        .map(|i| {
            let first = i - i / after % along * after;
            (0..along).map(|k| values[first + k * after]).sum::<f64>() / along as f64
        })
        .collect()
}

fn zip(a: &[f64], b: &[f64], f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect()
}

fn map(a: &[f64], f: impl Fn(f64) -> f64) -> Vec<f64> {
    a.iter().map(|&a| f(a)).collect()
}

fn roll(average: &mut [f64], decay: f64, new: &[f64]) {
    for (average, new) in average.iter_mut().zip(new) {
        *average = decay * *average + (1.0 - decay) * new;
    }
}

fn rsqrt(x: f64) -> f64 {
    1.0 / x.sqrt()
}

fn safe_rsqrt(x: f64) -> f64 {
    rsqrt(x.max(1e-9))
}

impl<'a> Formula<'a> {
    pub(crate) fn new(rule: &'a Celo2Rule, orthogonalize: bool, theta: &'a Theta, shape: &[usize]) -> Self {
        let zeros = || vec![0.0; shape.iter().product()];
        let three = || [zeros(), zeros(), zeros()];
        let shape = shape.to_vec();
        Self { rule, orthogonalize, theta, shape, count: 0, m: three(), rms: zeros(), row: three(), col: three() }
    }

    fn weights(&self, name: &str) -> Vec<f64> {
        let index = self.theta.layout().index_of(&format!("ff_mod_stack/~/{name}")).unwrap();
        self.theta.tensor(0, index).iter().map(|&w| w.into()).collect()
    }

    /// `x` over its root mean square, matrix by matrix.
    fn normalised(&self, x: &[f64]) -> Vec<f64> {
        let matrix = self.shape[self.shape.len().saturating_sub(2)..].iter().product();
        let norm = |x: &[f64]| rsqrt(1e-9 + x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64);
        x.chunks(matrix).flat_map(|x| map(x, |value| value * norm(x))).collect()
    }

    /// One gradient enters; the direction at parameters `p`.
    pub(crate) fn direction(&mut self, p: &[f64], g: &[f64]) -> Vec<f64> {
        let g = map(g, |g| g.clamp(-1000.0, 1000.0));
        let axes = factored_axes(&self.shape);
        let padded = map(&g, |g| g * g + 1e-30);
        let (row_means, col_means) = match axes {
            Some((d1, d0)) => (mean_along(&self.shape, d0, &padded), mean_along(&self.shape, d1, &padded)),
            None => (padded.clone(), padded.clone()),
        };
        self.count += 1;
        for a in 0..3 {
            roll(&mut self.m[a], self.rule.initial_momentum_decays[a].into(), &g);
            roll(&mut self.row[a], self.rule.initial_adafactor_decays[a].into(), &row_means);
            roll(&mut self.col[a], self.rule.initial_adafactor_decays[a].into(), &col_means);
        }
        roll(&mut self.rms, self.rule.initial_rms_decays[0].into(), &map(&g, |g| g * g));

        // What divides a value: from row and column moments, or from the full ones.
        let factor = |row: &[f64], col: &[f64]| match axes {
            Some((d1, _)) => {
                let means = mean_along(&self.shape, d1, row);
                let row = zip(row, &means, |row, mean| safe_rsqrt(row / (mean + 1e-9)));
                zip(&row, col, |row, col| row * safe_rsqrt(col))
            }
            None => map(row, |v| safe_rsqrt(v + 1e-9)),
        };
        let corrected = |values: &[f64], decay: f32| match self.rule.bias_correction {
            true => map(values, |value| value / (1.0 - f64::from(decay).powi(self.count))),
            false => values.to_vec(),
        };
        let each = |values: &[Vec<f64>; 3], decays: [f32; 3]| -> [Vec<f64>; 3] {
            std::array::from_fn(|a| corrected(&values[a], decays[a]))
        };
        let m = each(&self.m, self.rule.initial_momentum_decays);
        let rms = corrected(&self.rms, self.rule.initial_rms_decays[0]);
        let row = each(&self.row, self.rule.initial_adafactor_decays);
        let col = each(&self.col, self.rule.initial_adafactor_decays);
        let q = map(&rms, |rms| rsqrt(rms + 1e-8));
        let times = |a: &[f64], b: &[f64]| zip(a, b, |a, b| a * b);

        let mut channels = vec![g.clone(), map(&g, |g| g.clamp(-0.1, 0.1)), p.to_vec()];
        channels.extend(m.iter().cloned());
        channels.push(rms.clone());
        channels.extend(m.iter().map(|m| times(m, &q)));
        channels.push(q.clone());
        channels.extend((0..3).map(|a| times(&g, &factor(&self.row[a], &self.col[a]))));
        channels.push(times(&g, &q));
        if axes.is_some() {
            channels.extend(row.iter().cloned());
            channels.extend(col.iter().cloned());
            channels.extend(row.iter().map(|v| map(v, |v| rsqrt(v + 1e-8))));
            channels.extend(col.iter().map(|v| map(v, |v| rsqrt(v + 1e-8))));
            channels.extend((0..3).map(|a| times(&m[a], &factor(&row[a], &col[a]))));
        }
        if self.rule.normalize_input {
            channels = channels.iter().map(|x| self.normalised(x)).collect();
        }
        self.network(p, channels, &rms)
    }

    fn network(&self, p: &[f64], channels: Vec<Vec<f64>>, rms: &[f64]) -> Vec<f64> {
        let first: Vec<f64> = (0..14).flat_map(|group| self.weights(&format!("w0__{group}"))).collect();
        let layer = |x: &[f64], w: &[f64], b: &[f64]| -> Vec<f64> {
            let unit = |j: usize| x.iter().enumerate().map(|(i, x)| x * w[i * b.len() + j]).sum::<f64>() + b[j];
            (0..b.len()).map(unit).collect()
        };
        let activate = |x: f64| match self.rule.mlp_activation {
            Activation::Relu => x.max(0.0),
            Activation::Tanh => x.tanh(),
        };
        let outputs = (0..p.len()).map(|i| {
            let x: Vec<f64> = channels.iter().map(|channel| channel[i]).collect();
            let z = map(&layer(&x, &first, &self.weights("b0")), activate);
            let z = map(&layer(&z, &self.weights("w1"), &self.weights("b1")), activate);
            let o = layer(&z, &self.weights("w2"), &self.weights("b2"));
            (o[0], o[1])
        });
        let (direction, mut magnitude): (Vec<f64>, Vec<f64>) = outputs.unzip();
        if self.rule.aggregate_mag {
            magnitude = vec![magnitude.iter().sum::<f64>() / magnitude.len() as f64; magnitude.len()];
        }
        let mean_square = p.iter().map(|p| p * p).sum::<f64>() / p.len() as f64;
        let scale = if self.rule.param_scale_mult { (mean_square + 1e-9).sqrt() } else { 1.0 };
        let mut s = zip(&direction, &magnitude, |s, o| s * scale * (f64::from(self.rule.exp_mult) * o).exp());
        if let ([.., rows, columns], true) = (&self.shape[..], self.orthogonalize) {
            s = s.chunks(rows * columns).flat_map(|s| self.newton_schulz(s, *rows, *columns)).collect();
        }
        if self.rule.normalize_output {
            s = self.normalised(&s);
        }
        s = map(&s, |s| s * f64::from(self.rule.rmsmult));
        if self.rule.precondition_output {
            s = zip(&s, rms, |s, rms| s * rsqrt(rms + 1e-6));
        }
        s
    }

    fn newton_schulz(&self, x: &[f64], rows: usize, columns: usize) -> Vec<f64> {
        let [a, b, c] = self.rule.ns_coeffs.map(f64::from);
        let product = |left: &[f64], right: &[f64], rows: usize, inner: usize, columns: usize| -> Vec<f64> {
            let entry = |i: usize, j: usize| (0..inner).map(|k| left[i * inner + k] * right[k * columns + j]).sum();
            (0..rows * columns).map(|at| entry(at / columns, at % columns)).collect()
        };
        let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt() + f64::from(self.rule.ns_eps);
        let mut x = map(x, |x| x / norm);
        for _ in 0..self.rule.ns_iters {
            let turned: Vec<f64> = (0..x.len()).map(|i| x[i % rows * columns + i / rows]).collect();
            let gram = product(&x, &turned, rows, columns, rows);
            let factor = zip(&gram, &product(&gram, &gram, rows, rows, rows), |gram, square| b * gram + c * square);
            x = zip(&x, &product(&factor, &x, rows, rows, columns), |x, moved| a * x + moved);
        }
        x
    }
}
