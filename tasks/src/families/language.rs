//! Language modelling: a model that says what comes next, and a text.
//!
//! ```text
//!  task seed ─┬─ init  ─► initial weights
//!             └─ batch ─► windows of (split, batch number) ─► model ─► mean cross-entropy of the tokens that count
//! ```
//!
//! The accuracy is the share of those tokens that the model says right. The reference leaves the losses of its fixed
//! language models as they are; they have the rule of its other fixed cross-entropies here, so that a diverged task
//! has a finite loss.

use std::fmt;
use std::sync::Arc;

use candle_core::{Result, Tensor};
use paceline_optimizer_core::Seed;
use paceline_optimizer_core::task::Split;

use super::choices::{Choice, Choices};
use crate::layers::{Nonlinearity, token_cross_entropy};
use crate::models::TokenModel;
use crate::problem::{Classified, Initial, Normaliser, Parameters, Pass, Problem, Scores};
use crate::sample::Panel;
use crate::text::vocab::PADDING;
use crate::text::windows::Windows;

/// The cross-entropy of a model on windows of a text.
pub(crate) struct LanguageModel {
    pub(crate) name: &'static str,
    pub(crate) model: Box<dyn TokenModel>,
    /// Of as many tokens as the model is made for, all in its vocabulary.
    pub(crate) windows: Windows,
    pub(crate) choices: Choices,
    /// Windows in a batch.
    pub(crate) batch_size: usize,
    pub(crate) normaliser: Normaliser,
}

impl fmt::Debug for LanguageModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, windows, choices, batch_size, .. } = self;
        let (parameters, length) = (self.parameters().layout().size(), windows.length());
        write!(f, "{model:?}, {choices}, {parameters} parameters, batch {batch_size} of {length} tokens, ")?;
        write!(f, "data {:?}", windows.corpus())
    }
}

/// What is read and what comes next, `[lanes | 1, batch, time]` each, row by row.
pub(crate) struct Passages {
    read: Arc<Vec<u32>>,
    next: Arc<Vec<u32>>,
    size: usize,
}

impl Problem for LanguageModel {
    type Instance = Choice;
    type Batch = Passages;

    fn name(&self) -> &'static str {
        self.name
    }

    fn parameters(&self) -> &Parameters {
        self.model.parameters()
    }

    fn instance(&self, seed: Seed) -> Choice {
        self.choices.draw(seed)
    }

    fn initial(&self, choice: &Choice, index: usize) -> Initial {
        choice.initial(self.parameters(), index)
    }

    fn batch_size(&self) -> usize {
        self.batch_size
    }

    fn batch(&self, tasks: &[(Seed, Choice)], split: Split, number: u64, size: usize) -> Result<Passages> {
        let (mut read, mut next) = (Vec::new(), Vec::new());
        for &(seed, _) in tasks {
            let (one, other) = self.windows.batch(seed, split, number, size);
            read.extend(one);
            next.extend(other);
        }
        Ok(Passages { read: Arc::new(read), next: Arc::new(next), size })
    }

    fn tensors(_: &Passages) -> Vec<&Tensor> {
        vec![]
    }

    fn losses(&self, pass: &mut Pass<'_>, tasks: &[(Seed, Choice)], batch: &Passages) -> Result<Scores> {
        let activations: Vec<Nonlinearity> = tasks.iter().map(|(_, choice)| choice.activation).collect();
        let shape = [batch.size, self.windows.length()];
        let logits = self.model.logits(pass, &activations, &batch.read, shape)?;
        let losses = token_cross_entropy(&mut pass.tape, &logits, &batch.next, Some(PADDING))?;
        let classified = Classified { logits, labels: Arc::clone(&batch.next), padding: Some(PADDING) };
        Ok(Scores { losses, classified: Some(classified) })
    }

    fn normalise(&self, loss: f64) -> f64 {
        self.normaliser.apply(loss, self.windows.corpus().vocabulary().size())
    }

    fn panels(&self, seed: Seed) -> Vec<Panel> {
        let (read, _) = self.windows.batch(seed, Split::Train, 0, 4);
        let vocabulary = self.windows.corpus().vocabulary();
        let panel = |(index, window)| Panel::Text {
            title: format!("window {index}, {} tokens", self.windows.length()),
            text: vocabulary.decode(window),
        };
        read.chunks(self.windows.length()).enumerate().map(panel).collect()
    }
}
