//! `text_rnn`: a recurrent language model, the reference's RNN LMs. There all names of cells mean an LSTM; here each is
//! its own cell.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Family;
use super::choices::{Choices, Initialiser, OneOf, Scale};
use super::language::LanguageModel;
use super::settings::{FamilySettings, check_choices, check_widths, family, refuse, text};
use crate::Error;
use crate::layers::{Cell, Nonlinearity};
use crate::models::{RnnModel, RnnSizes};
use crate::problem::Normaliser;
use crate::text::corpus::{TextSettings, TextSource, Tokens};

/// Settings of `text_rnn`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TextRnn {
    /// Where the text comes from.
    pub(super) data: TextSource,
    /// Seed of procedural text.
    pub(super) data_seed: u64,
    /// Name of the file in `<data folder>/text`.
    pub(super) file: String,
    /// What a number stands for: `characters` or `pieces`.
    pub(super) tokens: Tokens,
    /// Size of the vocabulary with padding; all characters if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) vocab: Option<u32>,
    /// What happens at one time: `vanilla`, `irnn`, `gru` or `lstm`.
    pub(super) cell: Cell,
    /// The recurrent matrix of an `irnn` begins as the identity times this.
    pub(super) identity_gain: f32,
    /// Channels of the state.
    pub(super) hidden: usize,
    /// Channels of the embedding.
    pub(super) embed: usize,
    /// Tokens of a window.
    pub(super) sequence: usize,
    /// Initial weights: one law, or several of which each task draws one.
    pub(super) initialiser: OneOf<Initialiser>,
    /// Factor of the initial weights, or a range from which each task draws one.
    pub(super) initial_scale: Scale,
    /// Windows in a batch.
    pub(super) batch_size: usize,
    /// How losses are normalised.
    pub(super) normaliser: Normaliser,
}

impl Default for TextRnn {
    fn default() -> Self {
        let TextSettings { source: data, file, tokens, vocab, data_seed } = TextSettings::default();
        Self {
            data,
            data_seed,
            file,
            tokens,
            vocab,
            cell: Cell::Lstm,
            identity_gain: 1.0,
            hidden: 32,
            embed: 16,
            sequence: 16,
            initialiser: OneOf::One(Initialiser::Default),
            initial_scale: Scale::Fixed(1.0),
            batch_size: 16,
            normaliser: Normaliser::FixedCrossEntropy,
        }
    }
}

impl FamilySettings for TextRnn {
    const NAME: &'static str = "text_rnn";
    const SUMMARY: &'static str = "model text with a recurrent network";

    fn resolve(self, data_dir: Option<&Path>) -> Self {
        Self { data: self.data.resolve(&self.file, data_dir), ..self }
    }

    fn build(self, data_dir: Option<&Path>) -> Result<Arc<dyn Family>, Error> {
        check_widths::<Self>("hidden, embed", &[self.hidden, self.embed])?;
        let Self { data: source, file, tokens, vocab, data_seed, cell, identity_gain, hidden, embed, .. } = self;
        if !identity_gain.is_finite() {
            return Err(refuse::<Self>(format!("identity_gain must be a number (got {identity_gain})")));
        }
        // The cells bring their own nonlinearities.
        let activation = OneOf::One(Nonlinearity::Identity);
        let choices = Choices { activation, initialiser: self.initialiser, scale: self.initial_scale };
        check_choices::<Self>(&choices)?;
        let settings = TextSettings { source, file, tokens, vocab, data_seed };
        let windows = text::<Self>(&settings, self.sequence, self.batch_size, data_dir)?;
        let vocabulary = windows.corpus().vocabulary().size();
        let model = Box::new(RnnModel::new(RnnSizes { cell, vocabulary, embed, hidden, identity_gain }));
        let Self { batch_size, normaliser, .. } = self;
        family::<Self>("hidden", LanguageModel { name: Self::NAME, model, windows, choices, batch_size, normaliser })
    }
}
