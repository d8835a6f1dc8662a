//! `sampled_text_transformer`: decoder-only language models of random shapes (the reference's `sample_lm_transformer`).

use std::path::Path;

use super::{DATA_SEEDS, Dice, SCALES, activations, initialisers, unchecked, within};
use crate::families::text_transformer::TextTransformer;
use crate::problem::Normaliser;
use crate::text::corpus::{TextSettings, TextSource, Tokens};

sampler! {
    /// Settings of `sampled_text_transformer`. Ranges are inclusive.
    SampledTextTransformer draws TextTransformer as "sampled_text_transformer",
        "decoder transformers on text, of random depth, heads, widths, vocabulary, window and batch";
    settings {
        /// Where the text comes from.
        data: TextSource = TextSource::default(), unchecked;
        /// Name of the file in `<data folder>/text`.
        file: String = TextSettings::default().file, unchecked;
        /// Transformer blocks, log-uniform.
        layers: [u32; 2] = [1, 8], within([1, 16]);
        /// Attention heads, log-uniform.
        // The reference's [8, 128] each, from 8 heads of 8 channels on, is beyond a core: see `max_flop`.
        heads: [u32; 2] = [1, 128], within([1, 128]);
        /// Channels of a head, log-uniform.
        head_width: [u32; 2] = [8, 128], within([1, 256]);
        /// Tokens of a window, log-uniform.
        sequence: [u32; 2] = [4, 512], within([1, 4096]);
        /// Word pieces of the vocabulary, log-uniform.
        vocab: [u32; 2] = [100, 10_000], within([60, 30_000]);
        /// Windows in a batch, log-uniform.
        batch_size: [u32; 2] = [4, 512], within([1, 512]);
    }
    impl {
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

        fn resolve(self, data_dir: Option<&Path>) -> Self {
            Self { data: self.data.resolve(&self.file, data_dir), ..self }
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
}
