//! Language models: from the tokens of a window to logits of what comes next.
//!
//! ```text
//!  recurrent     ids ─► embedding ─────────────────► cell, time after time ──► linear ─► logits of the vocabulary
//!  transformer   ids ─► embedding + position ─► block ─► … ─► norm ──────────► linear ─► logits of the vocabulary
//! ```
//!
//! Logits at a time depend on the tokens up to that time only.

use std::fmt::{self, Debug};
use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::blocks::{Norm, Tokens, drop, map, normalise, transformer_block};
use super::vit::add_position;
use crate::layers::{Cell, Nonlinearity, RecurrentWeights, embedding, recurrent};
use crate::problem::{Initial, Parameters, ParametersBuilder, Pass};

/// A model of what comes next in sequences of tokens.
pub(crate) trait TokenModel: Debug + Send + Sync {
    /// Its parameters, in the order in which [`TokenModel::logits`] reads them.
    fn parameters(&self) -> &Parameters;

    /// Logits `[lanes, batch, time, vocabulary]` of `ids` `[lanes | 1, batch, time]`, row by row, where `shape` is
    /// `[batch, time]`, with one hidden activation a lane.
    fn logits(
        &self,
        pass: &mut Pass<'_>,
        activations: &[Nonlinearity],
        ids: &Arc<Vec<u32>>,
        shape: [usize; 2],
    ) -> Result<Tensor>;
}

/// Sizes of a recurrent language model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RnnSizes {
    /// What happens at one time.
    pub(crate) cell: Cell,
    /// Rows of the embedding, and classes.
    pub(crate) vocabulary: usize,
    /// Channels of the embedding.
    pub(crate) embed: usize,
    /// Channels of the state.
    pub(crate) hidden: usize,
    /// An IRNN's recurrent matrix begins as the identity times this.
    pub(crate) identity_gain: f32,
}

/// A recurrent language model.
pub(crate) struct RnnModel {
    sizes: RnnSizes,
    parameters: Parameters,
}

impl RnnModel {
    /// Weights begin as Haiku's: the embedding as a truncated normal of deviation 1, matrices by their fan-in, where an
    /// LSTM's is that of input and state together, since it multiplies them by one matrix.
    pub(crate) fn new(sizes: RnnSizes) -> Self {
        let RnnSizes { cell, vocabulary, embed, hidden, identity_gain } = sizes;
        let together = Initial::TruncatedNormal { deviation: 1.0 / ((embed + hidden) as f32).sqrt() };
        let (of_input, of_hidden) = match cell {
            Cell::Vanilla | Cell::Gru => (Initial::FAN_IN, Initial::FAN_IN),
            Cell::Irnn => (Initial::FAN_IN, Initial::Identity { gain: identity_gain }),
            Cell::Lstm => (together.clone(), together),
        };
        let (mut parameters, columns) = (ParametersBuilder::default(), cell.gates() * hidden);
        parameters.tensor("embedding", [vocabulary, embed], Initial::TruncatedNormal { deviation: 1.0 });
        parameters.tensor("cell/input", [embed, columns], of_input);
        parameters.tensor("cell/hidden", [hidden, columns], of_hidden);
        parameters.tensor("cell/b", [columns], Initial::ZEROS);
        parameters.affine("head", [hidden, vocabulary]);
        Self { sizes, parameters: parameters.build() }
    }
}

impl Debug for RnnModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RnnSizes { cell, embed, hidden, .. } = self.sizes;
        write!(f, "{cell:?} rnn, hidden {hidden}, embedding {embed}")
    }
}

impl TokenModel for RnnModel {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn logits(
        &self,
        pass: &mut Pass<'_>,
        _: &[Nonlinearity],
        ids: &Arc<Vec<u32>>,
        shape: [usize; 2],
    ) -> Result<Tensor> {
        let table = pass.weight()?;
        let embedded = embedding(&mut pass.tape, table, ids, shape)?;
        let weights = RecurrentWeights { input: pass.weight()?, hidden: pass.weight()?, bias: pass.weight()? };
        let states = recurrent(&mut pass.tape, &embedded, weights, self.sizes.cell)?;
        map(pass, &states)
    }
}

/// A decoder-only transformer.
pub(crate) struct DecoderModel {
    layers: usize,
    tokens: Tokens,
    parameters: Parameters,
}

impl DecoderModel {
    /// Of windows of `time` tokens; `tokens` has a causal mask. Embedding and positions begin as in GPT-2, small.
    pub(crate) fn new(vocabulary: usize, time: usize, layers: usize, tokens: Tokens) -> Self {
        let mut parameters = ParametersBuilder::default();
        parameters.tensor("embedding", [vocabulary, tokens.width], Initial::Normal { deviation: 0.02 });
        parameters.tensor("position", [time, tokens.width], Initial::Normal { deviation: 0.02 });
        for layer in 0..layers {
            tokens.list(&format!("block_{layer}"), &mut parameters);
        }
        parameters.norm("norm", tokens.width);
        parameters.affine("head", [tokens.width, vocabulary]);
        Self { layers, tokens, parameters: parameters.build() }
    }
}

impl Debug for DecoderModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tokens { heads, width, hidden, dropout, .. } = self.tokens;
        write!(f, "transformer {} layers, {heads} heads, width {width}, mlp {hidden}", self.layers)?;
        if dropout > 0.0 { write!(f, ", dropout {dropout:.2}") } else { Ok(()) }
    }
}

impl TokenModel for DecoderModel {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn logits(
        &self,
        pass: &mut Pass<'_>,
        activations: &[Nonlinearity],
        ids: &Arc<Vec<u32>>,
        shape: [usize; 2],
    ) -> Result<Tensor> {
        let table = pass.weight()?;
        let embedded = embedding(&mut pass.tape, table, ids, shape)?;
        let placed = add_position(pass, &embedded)?;
        let mut states = drop(pass, self.tokens.dropout, &placed)?;
        for _ in 0..self.layers {
            states = transformer_block(pass, activations, &self.tokens, &states)?;
        }
        let states = normalise(pass, Norm::Layer, &states)?;
        map(pass, &states)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use paceline_optimizer_core::Seed;

    use super::*;
    use crate::layers::Mask;
    use crate::problem::Mode;

    /// Logits of one lane with these ids, weights as they begin.
    fn logits(model: &dyn TokenModel, ids: &[u32]) -> Vec<Vec<f32>> {
        let layout = model.parameters().layout();
        let weights: Vec<Tensor> = (0..layout.len())
            .map(|index| {
                let shape = layout.tensors()[index].shape();
                let mut values = vec![0.0; shape.iter().product()];
                model.parameters().initial(index).write(Seed::new(3), index, shape, &mut values);
                Tensor::from_vec(values, [&[1], shape].concat(), &Device::Cpu).unwrap()
            })
            .collect();
        let (seeds, mut state) = ([Seed::new(1)], vec![]);
        let mut pass = Pass::new(Mode::Evaluate, &seeds, &weights, &mut state);
        let shape = [1, ids.len()];
        let logits = model.logits(&mut pass, &[Nonlinearity::Gelu], &Arc::new(ids.to_vec()), shape).unwrap();
        pass.finish().unwrap();
        logits.squeeze(0).unwrap().squeeze(0).unwrap().to_vec2().unwrap()
    }

    fn rnn(cell: Cell) -> RnnModel {
        RnnModel::new(RnnSizes { cell, vocabulary: 7, embed: 4, hidden: 5, identity_gain: 0.5 })
    }

    #[test]
    fn logits_know_the_past_and_not_the_future() {
        let tokens = Tokens { heads: 2, width: 6, hidden: 8, mask: Mask::Causal, dropout: 0.0 };
        let decoder = DecoderModel::new(7, 5, 2, tokens);
        let rnns = [Cell::Vanilla, Cell::Irnn, Cell::Gru, Cell::Lstm].map(rnn);
        let models: Vec<&dyn TokenModel> =
            rnns.iter().map(|model| model as &dyn TokenModel).chain([&decoder as &dyn TokenModel]).collect();
        for model in models {
            let (base, other) = (logits(model, &[1, 2, 3, 4, 5]), logits(model, &[1, 2, 6, 4, 5]));
            for time in 0..5 {
                assert_eq!(base[time] == other[time], time < 2, "{model:?} at time {time}");
            }
        }
    }

    #[test]
    fn every_cell_is_a_model_of_its_own() {
        let cells = [Cell::Vanilla, Cell::Irnn, Cell::Gru, Cell::Lstm];
        let last: Vec<Vec<f32>> = cells.iter().map(|&cell| logits(&rnn(cell), &[1, 2, 3])[2].clone()).collect();
        for (index, one) in last.iter().enumerate() {
            assert!(last[..index].iter().all(|other| other != one), "{:?}", cells[index]);
        }
        let sizes: Vec<usize> = cells.iter().map(|&cell| rnn(cell).parameters.layout().size()).collect();
        // 28 + 42 of embedding and head, 20 + 25 + 5 a gate.
        assert_eq!(sizes, [120, 120, 220, 270]);
        let mut start = vec![0.0; 25];
        rnn(Cell::Irnn).parameters.initial(2).write(Seed::new(1), 2, &[5, 5], &mut start);
        assert!(start.iter().enumerate().all(|(i, &value)| value == if i % 6 == 0 { 0.5 } else { 0.0 }));
    }
}
