//! `sampled_text_rnn`: recurrent language models of random shapes (the reference's `sample_lm_rnn`, all of whose cells are
//! LSTMs; here a cell is what it is called).

use std::path::Path;

use super::{DATA_SEEDS, Dice, SCALES, initialisers, unchecked, within};
use crate::families::text_rnn::TextRnn;
use crate::layers::Cell;
use crate::problem::Normaliser;
use crate::text::corpus::{TextSettings, TextSource, Tokens};

sampler! {
    /// Settings of `sampled_text_rnn`. Ranges are inclusive.
    SampledTextRnn draws TextRnn as "sampled_text_rnn",
        "recurrent language models of random cell, widths, vocabulary, window and batch";
    settings {
        /// Where the text comes from.
        data: TextSource = TextSource::default(), unchecked;
        /// Name of the file in `<data folder>/text`.
        file: String = TextSettings::default().file, unchecked;
        /// Channels of the state, log-uniform.
        hidden: [u32; 2] = [8, 256], within([1, 4096]);
        /// Channels of the embedding, log-uniform.
        embed: [u32; 2] = [8, 256], within([1, 4096]);
        /// Tokens of a window, log-uniform.
        sequence: [u32; 2] = [4, 512], within([1, 4096]);
        /// Word pieces of the vocabulary, log-uniform.
        vocab: [u32; 2] = [100, 10_000], within([60, 30_000]);
        /// Windows in a batch, log-uniform.
        batch_size: [u32; 2] = [4, 512], within([1, 512]);
    }
    impl {
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

        fn resolve(self, data_dir: Option<&Path>) -> Self {
            Self { data: self.data.resolve(&self.file, data_dir), ..self }
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
}
