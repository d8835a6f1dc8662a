//! A text as numbers in four blocks: read from a file or drawn from a seed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use paceline_optimizer_core::Seed;
use paceline_optimizer_core::task::Split;
use serde::{Deserialize, Serialize};

use super::vocab::{Vocabulary, fold};
use super::{pieces, procedural};
use crate::Error;
use crate::data::{Shared, Splits, data_error, data_folder, read_utf8};

/// Most bytes of a file.
const MAX_BYTES: u64 = 8 << 20;
/// Largest vocabulary.
const MAX_VOCAB: u32 = 1 << 15;
/// Where inner_valid, outer_valid and test begin, in hundredths of the text.
const CUTS: [usize; 3] = [80, 85, 90];

/// A text in contiguous blocks: 80 % train, then 5 % inner_valid, 5 % outer_valid, 10 % test, by bytes.
pub(crate) struct Corpus {
    /// What it is and where it came from, for people.
    origin: String,
    /// The file, if it is one.
    pub(super) path: Option<PathBuf>,
    vocabulary: Vocabulary,
    blocks: Splits<Vec<u32>>,
}

impl Corpus {
    fn new(text: &str, origin: String, path: Option<PathBuf>, tokens: Tokens, vocab: Option<u32>) -> Self {
        let cuts = CUTS.map(|hundredths| text.floor_char_boundary(text.len() * hundredths / 100));
        let blocks = [&text[..cuts[0]], &text[cuts[0]..cuts[1]], &text[cuts[1]..cuts[2]], &text[cuts[2]..]];
        let mut vocabulary = Vocabulary::of_characters(text, vocab);
        let mut blocks = match tokens {
            Tokens::Characters => blocks.map(|block| block.chars().map(|c| vocabulary.unfolded(c)).collect()),
            Tokens::Pieces => pieces::learn(&mut vocabulary, blocks),
        };
        let size = vocabulary.size() as u32;
        blocks.iter_mut().flatten().for_each(|id: &mut u32| *id = fold(*id, size));
        Self { origin, path, vocabulary, blocks: Splits(blocks) }
    }

    /// The numbers behind the text: all below its size.
    pub(crate) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The text of a split, without padding.
    pub(crate) fn block(&self, split: Split) -> &[u32] {
        self.blocks.get(split)
    }
}

impl fmt::Debug for Corpus {
    /// What it is and how large.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pieces, size) = (self.vocabulary.pieces(), self.vocabulary.size());
        let [train, inner, outer, test] = self.blocks.0.each_ref().map(Vec::len);
        write!(f, "{}, {pieces} pieces in a vocabulary of {size}, {train}/{inner}/{outer}/{test} tokens", self.origin)
    }
}

/// What a number stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Tokens {
    /// A character.
    #[default]
    Characters,
    /// A word piece, learned from the training block.
    Pieces,
}

/// Where text comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TextSource {
    /// Drawn from `data_seed`; needs no files.
    #[default]
    Procedural,
    /// The file if the data folder has it, else procedural.
    Auto,
    /// `<data folder>/text/<file>`.
    File,
}

impl TextSource {
    /// This source, with `auto` decided by what the data folder holds.
    #[must_use]
    pub(crate) fn resolve(self, file: &str, data_dir: Option<&Path>) -> Self {
        let has_file = || data_dir.is_some_and(|folder| is_plain(file) && folder.join("text").join(file).is_file());
        match self {
            Self::Auto if has_file() => Self::File,
            Self::Auto => Self::Procedural,
            decided => decided,
        }
    }
}

/// Whether this names a file of the folder itself: a recipe comes from elsewhere and must not read other folders.
fn is_plain(file: &str) -> bool {
    Path::new(file).file_name().is_some_and(|name| name == file)
}

/// What a family's settings say about its text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TextSettings {
    pub(crate) source: TextSource,
    /// Name of the file.
    pub(crate) file: String,
    pub(crate) tokens: Tokens,
    /// Size of the vocabulary with padding; numbers from there on are folded. `None` has room for all characters, and
    /// is not for pieces.
    pub(crate) vocab: Option<u32>,
    /// Seed of procedural text; a file ignores it.
    pub(crate) data_seed: u64,
}

impl Default for TextSettings {
    fn default() -> Self {
        Self {
            source: TextSource::default(),
            file: "tinyshakespeare.txt".into(),
            tokens: Tokens::default(),
            vocab: None,
            data_seed: 0,
        }
    }
}

impl TextSettings {
    /// The text, made or read once in this process for all that use it at the same time.
    ///
    /// # Errors
    /// [`Error::Data`] names the file at fault (and the byte that is not UTF-8), [`Error::Setting`] a setting out of
    /// range.
    pub(crate) fn load(&self, family: &str, data_dir: Option<&Path>) -> Result<Arc<Corpus>, Error> {
        static READ: Shared<(PathBuf, Tokens, Option<u32>), Corpus> = Shared::new();
        static DRAWN: Shared<(u64, Tokens, Option<u32>), Corpus> = Shared::new();
        self.check(family)?;
        let Self { tokens, vocab, data_seed, .. } = *self;
        if self.source.resolve(&self.file, data_dir) == TextSource::File {
            let path = data_folder(data_dir, "text")?.join(&self.file);
            return READ.get((path.clone(), tokens, vocab), || {
                let text = read_utf8(&path, MAX_BYTES)?;
                if text.len() < 100 {
                    let reason = format!("holds {} bytes: too short to split (100 are needed)", text.len());
                    return Err(data_error(&path, reason));
                }
                Ok(Corpus::new(&text, format!("text of {}", path.display()), Some(path.clone()), tokens, vocab))
            });
        }
        DRAWN.get((data_seed, tokens, vocab), || {
            let text = procedural::generate(Seed::new(data_seed));
            Ok(Corpus::new(&text, "procedural text".into(), None, tokens, vocab))
        })
    }

    fn check(&self, family: &str) -> Result<(), Error> {
        let refuse = |reason| Err(Error::Setting { family: family.into(), reason });
        if !is_plain(&self.file) {
            return refuse(format!("file must be the name of a file in <data folder>/text (got {:?})", self.file));
        }
        match self.vocab {
            None if self.tokens == Tokens::Pieces => refuse("vocab must be given for pieces".into()),
            Some(vocab) if !(2..=MAX_VOCAB).contains(&vocab) => {
                refuse(format!("vocab must be 2 to {MAX_VOCAB} (got {vocab})"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Split; 4] = [Split::Train, Split::InnerValid, Split::OuterValid, Split::Test];

    /// A data folder with this text as `a.txt`.
    fn folder(text: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("text")).unwrap();
        std::fs::write(folder.path().join("text/a.txt"), text).unwrap();
        folder
    }

    fn file() -> TextSettings {
        TextSettings { source: TextSource::File, file: "a.txt".into(), ..TextSettings::default() }
    }

    #[test]
    fn blocks_follow_each_other_and_lose_nothing() {
        let text: String = ('a'..='z').chain(['ä', '€', '𝄞']).cycle().take(1_003).collect();
        let folder = folder(text.as_bytes());
        for (tokens, vocab) in [(Tokens::Characters, None), (Tokens::Pieces, Some(60))] {
            let corpus = TextSettings { tokens, vocab, ..file() }.load("f", Some(folder.path())).unwrap();
            let blocks = ALL.map(|split| corpus.vocabulary().decode(corpus.block(split)));
            assert_eq!(blocks.concat(), text);
            let shares = blocks.each_ref().map(|block| block.len() * 1_000 / text.len());
            assert!(shares.iter().zip([800, 50, 50, 100]).all(|(got, want)| got.abs_diff(want) <= 4), "{shares:?}");
        }
    }

    #[test]
    fn a_small_vocabulary_is_folded_into_range() {
        let text: String = ('a'..='z').cycle().take(500).collect();
        let folder = folder(text.as_bytes());
        for tokens in [Tokens::Characters, Tokens::Pieces] {
            let settings = TextSettings { tokens, vocab: Some(10), ..file() };
            let corpus = settings.load("f", Some(folder.path())).unwrap();
            let mut seen = [false; 10];
            ALL.iter().flat_map(|&split| corpus.block(split)).for_each(|&id| seen[id as usize] = true);
            assert_eq!(seen, [false, true, true, true, true, true, true, true, true, true], "all but padding");
            assert_eq!((corpus.vocabulary().size(), corpus.vocabulary().pieces()), (10, 27));
        }
    }

    #[test]
    fn bad_text_is_named() {
        let cases: [(&[u8], &str); 3] = [
            (b"", "is empty"),
            (b"ab\xff", "0xff at offset 2 (line 1)"),
            (b"abc", "holds 3 bytes: too short to split"),
        ];
        for (text, expected) in cases {
            let error = file().load("f", Some(folder(text).path())).unwrap_err().to_string();
            assert!(error.contains("a.txt") && error.contains(expected), "{error}");
        }
        let folder = folder(b"");
        let load = |settings: TextSettings| settings.load("f", Some(folder.path())).unwrap_err().to_string();
        assert!(load(TextSettings { file: "b.txt".into(), ..file() }).contains("b.txt: cannot be opened"));
        for name in ["../a.txt", "", "/etc/hosts", "..", "x/y.txt", "a.txt/"] {
            let error = load(TextSettings { file: name.into(), ..file() });
            assert!(error.contains("file must be the name of a file in"), "{error}");
            assert_eq!(TextSource::Auto.resolve(name, Some(folder.path())), TextSource::Procedural);
        }
        assert!(load(TextSettings { vocab: Some(1), ..file() }).contains("vocab must be 2 to 32768 (got 1)"));
        assert!(load(TextSettings { tokens: Tokens::Pieces, ..file() }).contains("vocab must be given for pieces"));
        let error = file().load("f", None).unwrap_err().to_string();
        assert!(error.starts_with("text: no data folder was given"), "{error}");
    }

    #[test]
    fn auto_takes_the_file_where_it_is_and_text_is_shared() {
        let folder = folder(&b"abcdefghij".repeat(20));
        assert_eq!(TextSource::Auto.resolve("a.txt", Some(folder.path())), TextSource::File);
        assert_eq!(TextSource::Auto.resolve("b.txt", Some(folder.path())), TextSource::Procedural);
        assert_eq!(TextSource::Auto.resolve("a.txt", None), TextSource::Procedural);
        let auto = TextSettings { source: TextSource::Auto, ..file() };
        let read = auto.load("f", Some(folder.path())).unwrap();
        assert!(Arc::ptr_eq(&read, &file().load("f", Some(folder.path())).unwrap()));
        let drawn = auto.load("f", None).unwrap();
        assert!(Arc::ptr_eq(&drawn, &TextSettings::default().load("f", None).unwrap()));
        assert_eq!(
            format!("{drawn:?}"),
            "procedural text, 26 pieces in a vocabulary of 26, 160000/10000/10000/20000 tokens"
        );
    }

    #[test]
    fn pieces_shorten_procedural_text() {
        let settings = TextSettings { tokens: Tokens::Pieces, vocab: Some(300), ..TextSettings::default() };
        let corpus = settings.load("f", None).unwrap();
        assert_eq!(corpus.vocabulary().pieces(), 300);
        let tokens = corpus.block(Split::Train).len();
        assert!((40_000..120_000).contains(&tokens), "{tokens}");
    }

    #[test]
    fn real_text_comes_back_from_characters_and_pieces() {
        let Some(folder) = crate::data::real_data("text") else { return };
        let text = std::fs::read_to_string(folder.join("text/tinyshakespeare.txt")).unwrap();
        for (tokens, vocab, pieces) in [(Tokens::Characters, None, 66), (Tokens::Pieces, Some(10_000), 10_000)] {
            let settings = TextSettings { source: TextSource::Auto, tokens, vocab, ..TextSettings::default() };
            let corpus = settings.load("f", Some(&folder)).unwrap();
            assert_eq!(corpus.vocabulary().pieces(), pieces);
            let blocks = ALL.map(|split| corpus.vocabulary().decode(corpus.block(split)));
            assert!(blocks.concat() == text, "{tokens:?} lose text");
        }
    }
}
