//! Windows of a text: what a language model reads and what it should say next.
//!
//! ```text
//!  block   a b c d e f g h i j                  length 4
//!  drawn         └─ obs d e f g, target e f g h
//!  in order  0: a b c d → b c d e    1: e f g h → f g h i    2: i j · · → j · · ·       (· is padding, not scored)
//! ```
//!
//! Train and validation windows begin anywhere, drawn from the task's seed. Test windows walk through the block: every
//! token but the first is a target once, then they begin again.

use std::sync::Arc;

use paceline_optimizer_core::noise::Draws;
use paceline_optimizer_core::task::Split;
use paceline_optimizer_core::{Purpose, Seed};

use super::corpus::Corpus;
use super::vocab::PADDING;
use crate::Error;
use crate::data::{data_error, position};

const ALL: [(Split, &str); 4] = [
    (Split::Train, "train"),
    (Split::InnerValid, "inner_valid"),
    (Split::OuterValid, "outer_valid"),
    (Split::Test, "test"),
];

/// Windows of one length of a text whose every block is longer.
#[derive(Clone, Debug)]
pub(crate) struct Windows {
    corpus: Arc<Corpus>,
    length: usize,
}

impl Windows {
    /// Windows of `length` tokens.
    ///
    /// # Errors
    /// [`Error::Data`] names the file whose block is too short, and by how much; for procedural text
    /// [`Error::Setting`].
    pub(crate) fn new(family: &str, corpus: Arc<Corpus>, length: usize) -> Result<Self, Error> {
        let refuse = |reason| Err(Error::Setting { family: family.into(), reason });
        if length == 0 {
            return refuse("sequence: a window must have at least 1 token (got 0)".into());
        }
        let (tokens, name) =
            ALL.map(|(split, name)| (corpus.block(split).len(), name)).into_iter().min().expect("four");
        if tokens > length {
            return Ok(Self { corpus, length });
        }
        let cure = match tokens.saturating_sub(1) {
            0 => "use a longer text".into(),
            most => format!("use a longer text, or a sequence of up to {most}"),
        };
        let reason = format!("{name} has {tokens} tokens, a window of {length} needs one more than that: {cure}");
        match &corpus.path {
            Some(path) => Err(data_error(path, format!("its block {reason}"))),
            None => refuse(format!("the block {reason}")),
        }
    }

    /// The text.
    pub(crate) fn corpus(&self) -> &Corpus {
        &self.corpus
    }

    /// Tokens of a window.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Number of windows that the test walk takes to cover the block.
    pub(crate) fn test_windows(&self) -> usize {
        (self.corpus.block(Split::Test).len() - 1).div_ceil(self.length)
    }

    /// What is read and what comes next, at a place that the draws choose.
    pub(crate) fn window(&self, split: Split, draws: &mut Draws) -> (&[u32], &[u32]) {
        let block = self.corpus.block(split);
        let places = u32::try_from(block.len() - self.length).expect("the size of a text is bounded");
        let start = draws.below(places) as usize;
        (&block[start..start + self.length], &block[start + 1..start + self.length + 1])
    }

    /// Windows of a batch, `[size, length]` read and `[size, length]` next. Batch `b` of test are windows
    /// `b · size ..` of the walk; other splits draw theirs from the seed, the split and the batch.
    pub(crate) fn batch(&self, seed: Seed, split: Split, batch: u64, size: usize) -> (Vec<u32>, Vec<u32>) {
        let (mut obs, mut target) = (Vec::with_capacity(size * self.length), Vec::with_capacity(size * self.length));
        if split == Split::Test {
            let (block, windows) = (self.corpus.block(split), self.test_windows() as u128);
            let first = u128::from(batch) * size as u128;
            for index in 0..size as u128 {
                let start = ((first + index) % windows) as usize * self.length;
                let rest = |start: usize| block[start..].iter().copied().chain(std::iter::repeat(PADDING));
                obs.extend(rest(start).take(self.length));
                target.extend(rest(start + 1).take(self.length));
            }
        } else {
            let mut draws = Draws::new(seed.purpose(Purpose::Batch).fold_in(position(split)).fold_in(batch));
            for _ in 0..size {
                let (read, next) = self.window(split, &mut draws);
                obs.extend_from_slice(read);
                target.extend_from_slice(next);
            }
        }
        (obs, target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::corpus::{TextSettings, TextSource};

    /// 500 characters of a file: blocks of 400, 25, 25, 50.
    fn corpus() -> (tempfile::TempDir, Arc<Corpus>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("text")).unwrap();
        // No letter twice within 26: a window tells where it is.
        let text: String = ('a'..='z').cycle().take(500).collect();
        std::fs::write(folder.path().join("text/abc.txt"), text).unwrap();
        let settings = TextSettings { source: TextSource::File, file: "abc.txt".into(), ..TextSettings::default() };
        let corpus = settings.load("f", Some(folder.path())).unwrap();
        (folder, corpus)
    }

    #[test]
    fn targets_are_what_comes_next() {
        let windows = Windows::new("f", corpus().1, 24).unwrap();
        for split in [Split::Train, Split::InnerValid, Split::OuterValid] {
            let (obs, target) = windows.batch(Seed::new(1), split, 3, 40);
            assert_eq!((obs.len(), target.len()), (40 * 24, 40 * 24));
            for (obs, target) in obs.chunks(24).zip(target.chunks(24)) {
                assert_eq!(obs[1..], target[..23]);
                assert!(obs.iter().zip(target).all(|(&now, &next)| next == now % 26 + 1), "{obs:?} {target:?}");
            }
        }
        // A block of 25 tokens has one window of 24.
        let block = windows.corpus().block(Split::InnerValid);
        let window = windows.window(Split::InnerValid, &mut Draws::new(Seed::new(9)));
        assert_eq!(window, (&block[..24], &block[1..]));
    }

    #[test]
    fn every_place_of_a_block_is_drawn() {
        let windows = Windows::new("f", corpus().1, 3).unwrap();
        let block = windows.corpus().block(Split::OuterValid);
        let (obs, target) = windows.batch(Seed::new(1), Split::OuterValid, 0, 2_000);
        let mut seen = vec![false; block.len()];
        for &id in obs.iter().chain(&target) {
            seen[block.iter().position(|&other| other == id).unwrap()] = true;
        }
        assert_eq!(seen, vec![true; 25], "first and last included");
    }

    #[test]
    fn draws_depend_on_seed_split_and_batch() {
        let windows = Windows::new("f", corpus().1, 8).unwrap();
        let of = |seed, split, batch| windows.batch(Seed::new(seed), split, batch, 16);
        let base = of(1, Split::InnerValid, 0);
        assert_eq!(base, of(1, Split::InnerValid, 0));
        for other in [of(2, Split::InnerValid, 0), of(1, Split::OuterValid, 0), of(1, Split::InnerValid, 1)] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn the_test_walk_scores_every_token_but_the_first_once() {
        let corpus = corpus().1;
        for length in [1, 7, 16, 24] {
            let windows = Windows::new("f", Arc::clone(&corpus), length).unwrap();
            let block = windows.corpus().block(Split::Test);
            let count = windows.test_windows();
            // Odd batches: the walk goes on where the batch before ended.
            let size = 3;
            let batches: Vec<_> = (0..count.div_ceil(size) as u64 + 1)
                .map(|b| windows.batch(Seed::new(b), Split::Test, b, size))
                .collect();
            let scored = |(obs, target): &(Vec<u32>, Vec<u32>)| -> Vec<(u32, u32)> {
                obs.iter().copied().zip(target.iter().copied()).collect()
            };
            let walk: Vec<(u32, u32)> = batches.iter().flat_map(scored).collect();
            let once = &walk[..count * windows.length()];
            let pairs: Vec<_> = once.iter().copied().filter(|&(_, next)| next != PADDING).collect();
            let expected: Vec<_> = block.windows(2).map(|pair| (pair[0], pair[1])).collect();
            assert_eq!(pairs, expected, "windows of {length}");
            assert_eq!(walk[once.len()..][..length], once[..length], "then from the beginning");
        }
        Windows::new("f", corpus, 7).unwrap().batch(Seed::new(0), Split::Test, u64::MAX, 2);
    }

    #[test]
    fn text_shorter_than_a_window_is_refused_with_file_and_lengths() {
        let (_folder, corpus) = corpus();
        let error = Windows::new("f", Arc::clone(&corpus), 25).unwrap_err().to_string();
        assert!(error.contains("abc.txt: its block inner_valid has 25 tokens, a window of 25 needs"), "{error}");
        assert!(error.contains("up to 24"), "{error}");
        let error = Windows::new("f", corpus, 0).unwrap_err().to_string();
        assert!(error.contains("at least 1 token"), "{error}");
        let drawn = TextSettings::default().load("f", None).unwrap();
        let error = Windows::new("f", drawn, 10_000).unwrap_err();
        assert!(matches!(&error, Error::Setting { reason, .. } if reason.contains("has 10000 tokens")), "{error}");
    }
}
