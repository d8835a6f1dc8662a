//! `sampled_text_transformer`: decoder-only language models of random shapes (the reference's `sample_lm_transformer`).

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Caps, DATA_SEEDS, Dice, SCALES, Sampler, activations, initialisers, range_fault};
use crate::families::text_transformer::TextTransformer;
use crate::problem::Normaliser;
use crate::text::corpus::{TextSettings, TextSource, Tokens};

/// Settings of `sampled_text_transformer`. Ranges are inclusive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SampledTextTransformer {
    /// Where the text comes from.
    data: TextSource,
    /// Name of the file in `<data folder>/text`.
    file: String,
    /// Transformer blocks, log-uniform.
    layers: [u32; 2],
    /// Attention heads, log-uniform.
    heads: [u32; 2],
    /// Channels of a head, log-uniform.
    head_width: [u32; 2],
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

impl Default for SampledTextTransformer {
    fn default() -> Self {
        let Caps { max_flop, max_bytes } = Caps::default();
        Self {
            data: TextSource::default(),
            file: TextSettings::default().file,
            layers: [1, 8],
            // The reference's [8, 128] each, from 8 heads of 8 channels on, is beyond a core: see `max_flop`.
            heads: [1, 128],
            head_width: [8, 128],
            sequence: [4, 512],
            vocab: [100, 10_000],
            batch_size: [4, 512],
            max_flop,
            max_bytes,
        }
    }
}

impl Sampler for SampledTextTransformer {
    type Base = TextTransformer;
    const NAME: &'static str = "sampled_text_transformer";
    const SUMMARY: &'static str =
        "decoder transformers on text, of random depth, heads, widths, vocabulary, window and batch";

    fn resolve(self, data_dir: Option<&Path>) -> Self {
        Self { data: self.data.resolve(&self.file, data_dir), ..self }
    }

    fn fault(&self) -> Option<String> {
        let ranges = [
            range_fault("layers", self.layers, [1, 16]),
            range_fault("heads", self.heads, [1, 128]),
            range_fault("head_width", self.head_width, [1, 256]),
            range_fault("sequence", self.sequence, [1, 4096]),
            range_fault("vocab", self.vocab, [60, 30_000]),
            range_fault("batch_size", self.batch_size, [1, 512]),
        ];
        ranges.into_iter().flatten().next()
    }

    fn caps(&self) -> Caps {
        Caps { max_flop: self.max_flop, max_bytes: self.max_bytes }
    }

    fn draw(&self, dice: &mut Dice) -> TextTransformer {
        let heads = dice.log_int(self.heads);
        let width = heads * dice.log_int(self.head_width);
        TextTransformer {
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
            activation: activations(),
            layers: dice.log_int(self.layers),
            heads,
            width,
            // The usual proportion (Vaswani et al., arXiv 1706.03762).
            mlp: 4 * width,
            ..TextTransformer::default()
        }
    }

    /// A token meets one row of the embedding.
    fn examples(_: &TextTransformer) -> usize {
        1
    }

    fn least_flop(base: &TextTransformer) -> f64 {
        let (width, layers) = (base.width as f64, base.layers as f64);
        let head = width * f64::from(base.vocab.unwrap_or(0));
        6.0 * (base.batch_size * base.sequence) as f64 * (head + layers * 12.0 * width * width)
    }

    /// Text is shared by all members that read it alike, and small.
    fn blank(base: TextTransformer) -> TextTransformer {
        base
    }
}
