//! The bank of K per-parameter networks and their combination.
//!
//! In theta each array of the network exists K times, `[K, …]`. Here the K networks lie one after the other, so that the
//! network of a tensor is one product `control [K] · bank [K, weights]`, times `100/K`.

use super::HyperV2Config;
use crate::Theta;
use crate::learned::channels::{CLIPPED, InputRows};
use crate::learned::dense::affine;
use crate::learned::network::{Layer, Network};

/// Channels of each input group `w0__i`: g, clip(g), p, m, rms, m·q, q, fac_g, g·q, row, col, 1/√row, 1/√col, fac_m.
pub(super) const INPUT_GROUPS: [usize; 14] = [1, 1, 1, 3, 1, 3, 1, 3, 1, 3, 3, 3, 3, 3];

/// All channels.
pub(super) const INPUTS: usize = 30;

/// Direction, magnitude and an output that nothing reads.
pub(super) const OUTPUTS: usize = 3;

/// Where each channel stands among the inputs.
pub(super) const ROWS: InputRows<CLIPPED> = InputRows {
    element: [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 27, 28, 29, 1, 14],
    row: 15,
    col: 18,
    rsqrt_row: 21,
    rsqrt_col: 24,
};

/// The networks of one theta lane.
#[derive(Debug)]
pub(super) struct Bank {
    /// `[K, weights]`.
    values: Vec<f32>,
    banks: usize,
    /// Units of the hidden layers.
    units: usize,
    /// Layers after the first.
    layers: usize,
}

impl Bank {
    /// Gathers the networks of one lane of theta.
    pub(super) fn gather(config: &HyperV2Config, theta: &Theta, lane: usize) -> Self {
        let banks = config.param_inits;
        let tensor = |name: String| {
            let index = theta.layout().index_of(&name).expect("the layout was made from these names");
            theta.tensor(lane, index)
        };
        let first = (0..INPUT_GROUPS.len()).map(|group| format!("w0__{group}")).chain(["b0".to_owned()]);
        let rest = (1..=config.ff_hidden_layers).flat_map(|layer| [format!("w{layer}"), format!("b{layer}")]);
        let arrays: Vec<&[f32]> = first.chain(rest).map(|name| tensor(format!("ff_mod_stack/~/{name}"))).collect();
        let values = (0..banks)
            .flat_map(|bank| {
                arrays.iter().flat_map(move |array| {
                    let size = array.len() / banks;
                    &array[bank * size..(bank + 1) * size]
                })
            })
            .copied()
            .collect();
        Self { values, banks, units: config.ff_hidden_size, layers: config.ff_hidden_layers }
    }

    /// The weights of each tensor's network, `[tensors, weights]`, for controls `[tensors, K]`.
    pub(super) fn combine(&self, control: &[f32]) -> Vec<f32> {
        let nothing = vec![0.0; self.values.len() / self.banks];
        let factor = 100.0 / self.banks as f32;
        let mut weights = affine(control, &self.values, &nothing);
        for weight in &mut weights {
            *weight *= factor;
        }
        weights
    }

    /// The network whose weights lie in one row of [`Bank::combine`].
    pub(super) fn network<'a>(&self, mut weights: &'a [f32]) -> Network<'a> {
        let mut layer = |inputs: usize, outputs: usize| {
            let (w, rest) = weights.split_at(inputs * outputs);
            let (b, rest) = rest.split_at(outputs);
            weights = rest;
            Layer { w, b }
        };
        let first = layer(INPUTS, self.units);
        let hidden = (1..self.layers).map(|_| layer(self.units, self.units)).collect();
        Network { first, hidden, last: layer(self.units, OUTPUTS) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_row_is_used_once() {
        let mut rows: Vec<usize> = ROWS.element.to_vec();
        for first in [ROWS.row, ROWS.col, ROWS.rsqrt_row, ROWS.rsqrt_col] {
            rows.extend(first..first + 3);
        }
        rows.sort_unstable();
        assert_eq!(rows, (0..INPUTS).collect::<Vec<_>>());
        assert_eq!(INPUT_GROUPS.iter().sum::<usize>(), INPUTS);
    }
}
