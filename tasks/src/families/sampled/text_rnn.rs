//! `sampled_text_rnn`: recurrent language models of random shapes (the reference's `sample_lm_rnn`, all of whose cells are
//! LSTMs; here a cell is what it is called).

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Caps, DATA_SEEDS, Dice, SCALES, Sampler, initialisers, range_fault};
use crate::families::text_rnn::TextRnn;
use crate::layers::Cell;
use crate::problem::Normaliser;
use crate::text::corpus::{TextSettings, TextSource, Tokens};

/// Settings of `sampled_text_rnn`. Ranges are inclusive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SampledTextRnn {
    /// Where the text comes from.
    data: TextSource,
    /// Name of the file in `<data folder>/text`.
    file: String,
    /// Channels of the state, log-uniform.
    hidden: [u32; 2],
    /// Channels of the embedding, log-uniform.
    embed: [u32; 2],
    /// Tokens of a window, log-uniform.
    sequence: [u32; 2],
    /// Word pieces of the vocabulary, log-uniform.
    vocab: [u32; 2],
    /// Windows in a batch, log-uniform.
    batch_size: [u32; 2],
    /// Most operations of a member, a lane and inner step; dearer ones are drawn again.
    max_flop: f64,
    /// Most bytes of a member, a lane.
    max_bytes: f64,
}

impl Default for SampledTextRnn {
    fn default() -> Self {
        let Caps { max_flop, max_bytes } = Caps::default();
        Self {
            data: TextSource::default(),
            file: TextSettings::default().file,
            hidden: [8, 256],
            embed: [8, 256],
            sequence: [4, 512],
            vocab: [100, 10_000],
            batch_size: [4, 512],
            max_flop,
            max_bytes,
        }
    }
}

impl Sampler for SampledTextRnn {
    type Base = TextRnn;
    const NAME: &'static str = "sampled_text_rnn";
    const SUMMARY: &'static str = "recurrent language models of random cell, widths, vocabulary, window and batch";

    fn resolve(self, data_dir: Option<&Path>) -> Self {
        Self { data: self.data.resolve(&self.file, data_dir), ..self }
    }

    fn fault(&self) -> Option<String> {
        let ranges = [
            range_fault("hidden", self.hidden, [1, 4096]),
            range_fault("embed", self.embed, [1, 4096]),
            range_fault("sequence", self.sequence, [1, 4096]),
            range_fault("vocab", self.vocab, [60, 30_000]),
            range_fault("batch_size", self.batch_size, [1, 512]),
        ];
        ranges.into_iter().flatten().next()
    }

    fn caps(&self) -> Caps {
        Caps { max_flop: self.max_flop, max_bytes: self.max_bytes }
    }

    fn draw(&self, dice: &mut Dice) -> TextRnn {
        TextRnn {
            data: self.data,
            file: self.file.clone(),
            data_seed: dice.int([0, DATA_SEEDS - 1]) as u64,
            tokens: Tokens::Pieces,
            vocab: Some(dice.log_int(self.vocab) as u32),
            sequence: dice.log_int(self.sequence),
            batch_size: dice.log_int(self.batch_size),
            initialiser: initialisers(),
            initial_scale: SCALES,
            normaliser: Normaliser::Parametric,
            cell: *dice.pick(&[Cell::Vanilla, Cell::Gru, Cell::Lstm]),
            hidden: dice.log_int(self.hidden),
            embed: dice.log_int(self.embed),
            ..TextRnn::default()
        }
    }

    /// A token meets one row of the embedding.
    fn examples(_: &TextRnn) -> usize {
        1
    }

    fn least_flop(base: &TextRnn) -> f64 {
        let (hidden, embed, gates) = (base.hidden as f64, base.embed as f64, base.cell.gates() as f64);
        let head = hidden * f64::from(base.vocab.unwrap_or(0));
        6.0 * (base.batch_size * base.sequence) as f64 * (head + gates * hidden * (hidden + embed))
    }

    /// Text is shared by all members that read it alike, and small.
    fn blank(base: TextRnn) -> TextRnn {
        base
    }
}
