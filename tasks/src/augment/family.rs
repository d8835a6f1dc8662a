//! An augmented family: which augmentations a member gets, and the chain of wrappers they make.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use paceline_optimizer_core::noise::Draws;
use paceline_optimizer_core::task::{Cost, TaskFamily, TaskLanes};
use paceline_optimizer_core::{Layout, Result, Seed};

use super::change::{Changed, member_seed};
use super::settings::{Drawn, Entry, Numbers};
use crate::problem::TestSplit;
use crate::sample::Panel;
use crate::{Error, Family};

/// The family inside, and how to build it with another batch.
pub(crate) struct Base {
    /// The family as its settings say.
    pub(crate) family: Arc<dyn Family>,
    /// Its `batch_size`, where it has one.
    pub(crate) batch_size: Option<usize>,
    /// Builds it with another `batch_size`.
    pub(crate) with_batch: Box<WithBatch>,
}

/// From a `batch_size` to a family.
type WithBatch = dyn Fn(usize) -> Result<Arc<dyn Family>, Error> + Send + Sync;

/// The family `base` under `entries`, the first innermost.
///
/// # Errors
/// As building the base.
pub(crate) fn augmented(base: Base, entries: Vec<Entry>) -> Result<Arc<dyn Family>, Error> {
    let seldom = |entry: &Entry| entry.probability < 0.5;
    let mut typical = Member::default();
    for (place, entry) in entries.iter().enumerate().filter(|(_, entry)| !seldom(entry)) {
        typical.take(entry.drawn(place as u64, Numbers::Typical));
    }
    let batch = typical.batch_size(&base);
    let inner = match batch {
        Some(batch) => (base.with_batch)(batch)?,
        None => Arc::clone(&base.family),
    };
    let drawn = entries.iter().any(Entry::is_drawn);
    let reduced = Mutex::new(batch.map(|batch| (batch, Arc::clone(&inner))).into_iter().collect());
    Ok(Arc::new(Augmented { typical: typical.around(Arc::clone(&inner) as _), inner, base, entries, drawn, reduced }))
}

/// What one member is changed by.
#[derive(Default)]
struct Member {
    changes: Vec<Box<dyn super::change::Change>>,
    fraction: Option<f64>,
}

impl Member {
    fn take(&mut self, drawn: Drawn) {
        match drawn {
            Drawn::Change(change) => self.changes.push(change),
            Drawn::Batch(fraction) => self.fraction = Some(self.fraction.unwrap_or(1.0) * fraction),
        }
    }

    /// Its batch, `max(1, ⌊fraction · batch_size⌋)`, if it is reduced.
    fn batch_size(&self, base: &Base) -> Option<usize> {
        let (fraction, whole) = (self.fraction?, base.batch_size?);
        Some(((fraction * whole as f64).floor() as usize).max(1))
    }

    fn around(self, family: Arc<dyn TaskFamily>) -> Arc<dyn TaskFamily> {
        self.changes.into_iter().fold(family, |inner, change| Arc::new(Changed { inner, change }))
    }
}

struct Augmented {
    base: Base,
    entries: Vec<Entry>,
    /// Whether members differ.
    drawn: bool,
    /// The family inside a typical member.
    inner: Arc<dyn Family>,
    typical: Arc<dyn TaskFamily>,
    /// Families with reduced batches, by batch: no more than the whole batch has examples. They share their data.
    reduced: Mutex<HashMap<usize, Arc<dyn Family>>>,
}

impl Augmented {
    fn reduced(&self, batch: usize) -> Result<Arc<dyn Family>> {
        // A family is there whole or not at all, whoever panicked.
        let mut reduced = self.reduced.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(family) = reduced.get(&batch) {
            return Ok(Arc::clone(family));
        }
        let family = (self.base.with_batch)(batch).map_err(|error| paceline_optimizer_core::Error::Task {
            family: self.base.family.name().into(),
            reason: format!("with a batch of {batch}: {error}"),
        })?;
        reduced.insert(batch, Arc::clone(&family));
        Ok(family)
    }
}

impl fmt::Debug for Augmented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.drawn {
            return write!(f, "{:?}", self.typical);
        }
        write!(f, "{:?}, members augmented by {}", self.base.family, super::written(&self.entries))
    }
}

impl Family for Augmented {
    fn panels(&self, seed: Seed) -> Vec<Panel> {
        self.inner.panels(seed)
    }

    /// That of the family inside, unless members differ.
    fn test_split(&self) -> Option<TestSplit> {
        if self.drawn { None } else { self.inner.test_split() }
    }
}

impl TaskFamily for Augmented {
    fn name(&self) -> &'static str {
        self.base.family.name()
    }

    fn layout(&self) -> &Arc<Layout> {
        self.typical.layout()
    }

    fn draw(&self, seed: Seed) -> Result<Option<Arc<dyn TaskFamily>>> {
        if !self.drawn {
            let Some(inner) = self.inner.draw(seed)? else { return Ok(None) };
            let mut member = Member::default();
            for (place, entry) in self.entries.iter().enumerate().filter(|(_, entry)| entry.probability > 0.0) {
                member.take(entry.drawn(place as u64, Numbers::Typical));
            }
            return Ok(Some(member.around(inner)));
        }
        let mut member = Member::default();
        for (place, entry) in self.entries.iter().enumerate() {
            let mut draws = Draws::new(member_seed(seed, place as u64));
            if draws.uniform() < entry.probability {
                member.take(entry.drawn(place as u64, Numbers::Of(&mut draws)));
            }
        }
        let inner = match member.batch_size(&self.base) {
            Some(batch) => self.reduced(batch)?,
            None => Arc::clone(&self.base.family),
        };
        let inner = match inner.draw(seed)? {
            Some(inner) => inner,
            None => inner as Arc<dyn TaskFamily>,
        };
        Ok(Some(member.around(inner)))
    }

    fn cost(&self) -> Cost {
        self.typical.cost()
    }

    fn bind<'a>(&'a self, seeds: &[Seed]) -> Result<Box<dyn TaskLanes + 'a>> {
        self.typical.bind(seeds)
    }

    fn normalise(&self, loss: f64) -> f64 {
        self.typical.normalise(loss)
    }
}
