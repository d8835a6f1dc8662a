//! The same step from its definition: element by element, in f64, with every channel written out.
//!
//! ```text
//!  g ─► accumulators ─► channels [size, inputs] ─► over their root mean square ─► network ─► outputs [size, O]
//! ```

use super::super::accumulators::TIMESCALES;
use super::super::channels::CLIPPED;
use super::super::network::{Activation, Layer};
use super::Step;

/// Accumulators of one tensor, in f64.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) m: Vec<Vec<f64>>,
    pub(super) rms: Vec<f64>,
    /// Rank ≥ 2: rows, columns. Below: the full second moments.
    pub(super) second: Vec<Vec<Vec<f64>>>,
    /// Of each row value: the number of its group along d1.
    groups: Vec<usize>,
}

/// Where an element stands: its row, its column, its matrix of the last two axes.
struct Place {
    row: usize,
    col: usize,
    matrix: usize,
    /// Which mean over d1 of the rows is that of its row.
    group: usize,
}

/// Flat index without some axes.
fn flatten(index: &[usize], shape: &[usize], skip: &[usize]) -> usize {
    (0..shape.len()).filter(|axis| !skip.contains(axis)).fold(0, |flat, axis| flat * shape[axis] + index[axis])
}

fn places(shape: &[usize]) -> Vec<Place> {
    let mut axes: Vec<usize> = (0..shape.len()).collect();
    axes.sort_by_key(|&axis| shape[axis]);
    let (d0, d1) = (axes[shape.len() - 1], axes[shape.len() - 2]);
    let last = [shape.len() - 2, shape.len() - 1];
    (0..shape.iter().product())
        .map(|mut flat| {
            let mut index = vec![0; shape.len()];
            for axis in (0..shape.len()).rev() {
                index[axis] = flat % shape[axis];
                flat /= shape[axis];
            }
            Place {
                row: flatten(&index, shape, &[d0]),
                col: flatten(&index, shape, &[d1]),
                matrix: flatten(&index, shape, &last),
                group: flatten(&index, shape, &[d0, d1]),
            }
        })
        .collect()
}

impl State {
    pub(super) fn new(shape: &[usize]) -> Self {
        let size = shape.iter().product();
        let mut groups = Vec::new();
        let second = if shape.len() < 2 {
            vec![vec![vec![0.0; size]; TIMESCALES]]
        } else {
            let places = places(shape);
            groups.resize(places.iter().map(|place| place.row + 1).max().unwrap_or(0), 0);
            places.iter().for_each(|place| groups[place.row] = place.group);
            let count = |of: fn(&Place) -> usize| places.iter().map(of).max().map_or(0, |last| last + 1);
            [count(|place| place.row), count(|place| place.col)].map(|n| vec![vec![0.0; n]; TIMESCALES]).to_vec()
        };
        Self { m: vec![vec![0.0; size]; TIMESCALES], rms: vec![0.0; size], second, groups }
    }

    /// A gradient enters; gives the first outputs of the network for each element.
    pub(super) fn step<const E: usize>(
        &mut self,
        step: &Step<'_, E>,
        shape: &[usize],
        p: &[f32],
        g: &[f32],
        outputs: usize,
    ) -> Vec<Vec<f64>> {
        let bound = if E == CLIPPED { 1000.0 } else { f64::INFINITY };
        let g: Vec<f64> = g.iter().map(|&g| f64::from(g).clamp(-bound, bound)).collect();
        let places = if shape.len() < 2 { Vec::new() } else { places(shape) };
        self.accumulate(step, &places, &g);
        let channels: Vec<[Vec<f64>; 5]> =
            (0..g.len()).map(|i| self.channels(step, places.get(i), i, f64::from(p[i]), g[i])).collect();
        let matrix = |i: usize| if step.by_matrices { places.get(i).map_or(0, |place| place.matrix) } else { 0 };
        let kinds = [E, 3, 3, 3, 3];
        (0..g.len())
            .map(|i| {
                let mut inputs = vec![0.0; step.network.first.w.len() / step.network.first.outputs()];
                for (kind, &width) in kinds.iter().enumerate() {
                    for (k, row) in (0..width).map(|k| (k, input_row(step, kind, k))) {
                        let Some(row) = row else { continue };
                        let alike = (0..g.len()).filter(|&j| matrix(j) == matrix(i));
                        let (count, sum) = alike.fold((0.0, 0.0), |(count, sum): (f64, f64), j| {
                            (count + 1.0, sum + channels[j][kind][k].powi(2))
                        });
                        let norm = step.guards.normaliser.map_or(1.0, |guard| (f64::from(guard) + sum / count).sqrt());
                        inputs[row] = channels[i][kind][k] / norm;
                    }
                }
                network(step, &inputs)[..outputs].to_vec()
            })
            .collect()
    }

    fn accumulate<const E: usize>(&mut self, step: &Step<'_, E>, places: &[Place], g: &[f64]) {
        let mix = |value: &mut f64, decay: crate::optimizer::Decay, new: f64| {
            *value = f64::from(decay.keep) * *value + f64::from(decay.take) * new;
        };
        for (m, decay) in self.m.iter_mut().zip(step.decays.momentum) {
            m.iter_mut().zip(g).for_each(|(m, &g)| mix(m, decay, g));
        }
        self.rms.iter_mut().zip(g).for_each(|(rms, &g)| mix(rms, step.decays.rms, g * g));
        if places.is_empty() {
            for (v, decay) in self.second[0].iter_mut().zip(step.decays.second) {
                v.iter_mut().zip(g).for_each(|(v, &g)| mix(v, decay, g * g + 1e-30));
            }
            return;
        }
        for (table, of) in self.second.iter_mut().zip([|place: &Place| place.row, |place: &Place| place.col]) {
            let mut means = vec![(0.0, 0.0); table[0].len()];
            for (place, g) in places.iter().zip(g) {
                let mean: &mut (f64, f64) = &mut means[of(place)];
                *mean = (mean.0 + g * g + 1e-30, mean.1 + 1.0);
            }
            for (v, decay) in table.iter_mut().zip(step.decays.second) {
                v.iter_mut().zip(&means).for_each(|(v, (sum, count))| mix(v, decay, sum / count));
            }
        }
    }

    /// Element channels, then `row`, `col`, `1/√row`, `1/√col`.
    fn channels<const E: usize>(
        &self,
        step: &Step<'_, E>,
        place: Option<&Place>,
        i: usize,
        p: f64,
        g: f64,
    ) -> [Vec<f64>; 5] {
        let collected = |decay: crate::optimizer::Decay| step.corrected.map_or(1.0, |n| decay.collected(n).into());
        let safe = |x: f64| 1.0 / x.max(1e-9).sqrt();
        let momenta = self.m.iter().zip(step.decays.momentum);
        let m: Vec<f64> = momenta.map(|(m, decay)| m[i] / collected(decay)).collect();
        let rms = self.rms[i] / collected(step.decays.rms);
        let q = 1.0 / (rms + f64::from(step.guards.q)).sqrt();
        let mut x = vec![g, p, m[0], m[1], m[2], rms, m[0] * q, m[1] * q, m[2] * q, q];
        let (mut of_gradient, mut of_momenta) = (vec![], vec![]);
        let (mut rows, mut cols) = (vec![], vec![]);
        for (a, m) in m.into_iter().enumerate() {
            if let Some(place) = place {
                let factor = |collected: f64| {
                    let (row, col) = (&self.second[0][a], &self.second[1][a]);
                    let mean = self.mean_of_group(a, place) / collected;
                    safe(row[place.row] / collected / (mean + 1e-9)) * safe(col[place.col] / collected)
                };
                let collected = collected(step.decays.second[a]);
                of_gradient.push(g * factor(1.0));
                of_momenta.push(m * factor(collected));
                rows.push(self.second[0][a][place.row] / collected);
                cols.push(self.second[1][a][place.col] / collected);
            } else {
                let v = self.second[0][a][i];
                of_gradient.push(g * safe(v + 1e-9));
                of_momenta.push(m / (v + f64::from(step.guards.fac_m)).sqrt());
                rows.push(v);
                cols.push(v);
            }
        }
        x.extend(of_gradient);
        x.extend(of_momenta);
        if E == CLIPPED {
            x.extend([g.clamp(-0.1, 0.1), g * q]);
        }
        let roots = |v: &[f64]| v.iter().map(|v| 1.0 / (v + 1e-8).sqrt()).collect();
        let (row_roots, col_roots) = (roots(&rows), roots(&cols));
        [x, rows, cols, row_roots, col_roots]
    }

    /// Mean of the rows that differ from an element's only along d1.
    fn mean_of_group(&self, a: usize, place: &Place) -> f64 {
        let rows = &self.second[0][a];
        let of_group: Vec<f64> =
            self.groups.iter().zip(rows).filter(|(g, _)| **g == place.group).map(|(_, v)| *v).collect();
        of_group.iter().sum::<f64>() / of_group.len() as f64
    }
}

/// The input row of a channel.
fn input_row<const E: usize>(step: &Step<'_, E>, kind: usize, k: usize) -> Option<usize> {
    let rows = step.rows;
    match kind {
        0 => rows.element[k],
        1 => rows.row.map(|first| first + k),
        2 => rows.col.map(|first| first + k),
        3 => rows.rsqrt_row.map(|first| first + k),
        _ => rows.rsqrt_col.map(|first| first + k),
    }
}

fn network<const E: usize>(step: &Step<'_, E>, inputs: &[f64]) -> Vec<f64> {
    let affine = |layer: &Layer<'_>, x: &[f64]| -> Vec<f64> {
        let unit = |u: usize| {
            let products = x.iter().enumerate().map(|(i, x)| x * f64::from(layer.w[i * layer.outputs() + u]));
            f64::from(layer.b[u]) + products.sum::<f64>()
        };
        (0..layer.outputs()).map(unit).collect()
    };
    let activated = |z: Vec<f64>| -> Vec<f64> {
        let activation = |z: f64| match step.network.activation {
            Activation::Relu => z.max(0.0),
            Activation::Tanh => z.tanh(),
        };
        z.into_iter().map(activation).collect()
    };
    let mut z = activated(affine(&step.network.first, inputs));
    for layer in &step.network.hidden {
        z = activated(affine(layer, &z));
    }
    affine(&step.network.last, &z)
}
