//! `text_transformer`: a decoder-only transformer as a language model, the reference's transformer LMs.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Family;
use super::choices::{Choices, Initialiser, OneOf, Scale};
use super::language::LanguageModel;
use super::settings::{FamilySettings, check_choices, check_dropout, check_tokens, family, text};
use crate::Error;
use crate::layers::{Mask, Nonlinearity};
use crate::models::{DecoderModel, Tokens as Block};
use crate::problem::Normaliser;
use crate::text::corpus::{TextSettings, TextSource, Tokens};

/// Settings of `text_transformer`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TextTransformer {
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
    /// Transformer blocks.
    pub(super) layers: usize,
    /// Attention heads; divides the width.
    pub(super) heads: usize,
    /// Channels of a token.
    pub(super) width: usize,
    /// Hidden units of a block's MLP.
    pub(super) mlp: usize,
    /// Share of values dropped while training.
    pub(super) dropout: f64,
    /// Tokens of a window.
    pub(super) sequence: usize,
    /// Hidden activation: one, or several of which each task draws one.
    pub(super) activation: OneOf<Nonlinearity>,
    /// Initial weights: one law, or several of which each task draws one.
    pub(super) initialiser: OneOf<Initialiser>,
    /// Factor of the initial weights, or a range from which each task draws one.
    pub(super) initial_scale: Scale,
    /// Windows in a batch.
    pub(super) batch_size: usize,
    /// How losses are normalised.
    pub(super) normaliser: Normaliser,
}

impl Default for TextTransformer {
    fn default() -> Self {
        let TextSettings { source: data, file, tokens, vocab, data_seed } = TextSettings::default();
        Self {
            data,
            data_seed,
            file,
            tokens,
            vocab,
            layers: 1,
            heads: 2,
            width: 16,
            mlp: 32,
            dropout: 0.0,
            sequence: 16,
            activation: OneOf::One(Nonlinearity::Gelu),
            initialiser: OneOf::One(Initialiser::Default),
            initial_scale: Scale::Fixed(1.0),
            batch_size: 16,
            normaliser: Normaliser::FixedCrossEntropy,
        }
    }
}

impl FamilySettings for TextTransformer {
    const NAME: &'static str = "text_transformer";
    const SUMMARY: &'static str = "model text with a decoder-only transformer";

    fn resolve(self, data_dir: Option<&Path>) -> Self {
        Self { data: self.data.resolve(&self.file, data_dir), ..self }
    }

    fn build(self, data_dir: Option<&Path>) -> Result<Arc<dyn Family>, Error> {
        let Self { heads, width, mlp: hidden, dropout, .. } = self;
        let block = Block { heads, width, hidden, mask: Mask::Causal, dropout };
        check_tokens::<Self>(self.layers, &block)?;
        check_dropout::<Self>(self.dropout)?;
        let choices = Choices { activation: self.activation, initialiser: self.initialiser, scale: self.initial_scale };
        check_choices::<Self>(&choices)?;
        let Self { data: source, file, tokens, vocab, data_seed, .. } = self;
        let settings = TextSettings { source, file, tokens, vocab, data_seed };
        let windows = text::<Self>(&settings, self.sequence, self.batch_size, data_dir)?;
        let vocabulary = windows.corpus().vocabulary().size();
        let model = Box::new(DecoderModel::new(vocabulary, windows.length(), self.layers, block));
        let Self { batch_size, normaliser, .. } = self;
        family::<Self>("width", LanguageModel { name: Self::NAME, model, windows, choices, batch_size, normaliser })
    }
}
