//! Word pieces: frequent neighbours become one (byte-pair encoding: Gage 1994; for text Sennrich et al., arXiv
//! 1508.07909).
//!
//! ```text
//!  text ─► chunks " the" " theme" …       never joined with each other
//!  chunk ─► characters   ␣ t h e          merge 1: t h → th     merge 2: th e → the     merge 3: ␣ the → ␣the
//! ```
//!
//! Each round joins the pair that the training text has most often; among equals the pair of the smaller numbers. So
//! the pieces depend on the text alone. The other blocks are cut by the same merges in the same order, and do not count.
//!
//! Work is bounded: chunks are short, different chunks are kept once, and a merge touches only the chunks it changes.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};

use super::vocab::Vocabulary;

/// Most characters of a chunk: text without spaces is cut.
const MAX_CHUNK: usize = 24;

type Pair = (u32, u32);

/// Learns pieces until the vocabulary has `size` numbers or no pair occurs twice, and cuts the blocks into them; the
/// first block is the training text.
pub(super) fn learn<const BLOCKS: usize>(vocabulary: &mut Vocabulary, blocks: [&str; BLOCKS]) -> [Vec<u32>; BLOCKS] {
    let mut words = Vec::new();
    let mut known: HashMap<&str, usize> = HashMap::new();
    let mut weight = 1;
    let spelled = blocks.map(|block| {
        let weight = std::mem::replace(&mut weight, 0);
        let spell = chunks(block).map(|chunk| {
            let place = match known.entry(chunk) {
                Entry::Occupied(place) => *place.get(),
                Entry::Vacant(place) => {
                    let ids = chunk.chars().map(|character| vocabulary.unfolded(character)).collect();
                    words.push(Word { ids, count: 0 });
                    *place.insert(words.len() - 1)
                }
            };
            words[place].count += weight;
            place
        });
        spell.collect::<Vec<usize>>()
    });
    let mut learner = Learner::new(words);
    while vocabulary.pieces() < vocabulary.size() {
        let Some(pair) = learner.most_frequent() else { break };
        let piece = [vocabulary.piece(pair.0), vocabulary.piece(pair.1)].concat();
        let id = vocabulary.pieces() as u32;
        vocabulary.push(piece);
        learner.merge(pair, id);
    }
    spelled.map(|block| block.iter().flat_map(|&word| &learner.words[word].ids).copied().collect())
}

/// A chunk and how often the training text has it.
struct Word {
    ids: Vec<u32>,
    count: u64,
}

/// How often a pair occurs, and where it occurs or did.
#[derive(Default)]
struct Occurrences {
    count: u64,
    words: Vec<usize>,
}

struct Learner {
    words: Vec<Word>,
    pairs: HashMap<Pair, Occurrences>,
    /// Counts as they were when they changed; the last of a pair is true.
    heap: BinaryHeap<(u64, Reverse<Pair>)>,
}

impl Learner {
    fn new(words: Vec<Word>) -> Self {
        let mut pairs: HashMap<Pair, Occurrences> = HashMap::new();
        for (place, word) in words.iter().enumerate() {
            for pair in pairs_of(&word.ids) {
                let occurrences = pairs.entry(pair).or_default();
                occurrences.count += word.count;
                occurrences.words.push(place);
            }
        }
        let heap = pairs.iter().map(|(&pair, occurrences)| (occurrences.count, Reverse(pair))).collect();
        Self { words, pairs, heap }
    }

    /// The pair that occurs most often, if one occurs twice.
    fn most_frequent(&mut self) -> Option<Pair> {
        loop {
            let (count, Reverse(pair)) = self.heap.pop()?;
            if count < 2 {
                return None;
            }
            if self.pairs.get(&pair).is_some_and(|occurrences| occurrences.count == count) {
                return Some(pair);
            }
        }
    }

    /// Writes `id` for `pair` in every word.
    fn merge(&mut self, pair: Pair, id: u32) {
        let Occurrences { words, .. } = self.pairs.remove(&pair).unwrap_or_default();
        let mut changed = Vec::new();
        for place in words {
            let word = &mut self.words[place];
            // Listed twice, or the pair has gone since.
            if !pairs_of(&word.ids).any(|other| other == pair) {
                continue;
            }
            let ids = merged(&word.ids, pair, id);
            // Only pairs between the first and the last merge differ, and those that touch them.
            let same = |(old, new): &(&u32, &u32)| old == new;
            let head = word.ids.iter().zip(&ids).take_while(same).count().saturating_sub(1);
            let tail = word.ids.iter().rev().zip(ids.iter().rev()).take_while(same).count().saturating_sub(1);
            for old in pairs_of(&word.ids[head..word.ids.len() - tail]) {
                if let Some(occurrences) = self.pairs.get_mut(&old) {
                    occurrences.count -= word.count;
                    changed.push(old);
                }
            }
            for new in pairs_of(&ids[head..ids.len() - tail]) {
                let occurrences = self.pairs.entry(new).or_default();
                occurrences.count += word.count;
                if new.0 == id || new.1 == id {
                    occurrences.words.push(place);
                }
                changed.push(new);
            }
            word.ids = ids;
        }
        changed.sort_unstable();
        changed.dedup();
        self.heap.extend(changed.into_iter().map(|pair| (self.pairs[&pair].count, Reverse(pair))));
    }
}

fn pairs_of(ids: &[u32]) -> impl Iterator<Item = Pair> {
    ids.windows(2).map(|pair| (pair[0], pair[1]))
}

/// `ids` with `id` for each `pair`, from the left.
fn merged(ids: &[u32], pair: Pair, id: u32) -> Vec<u32> {
    let mut merged = Vec::with_capacity(ids.len());
    let mut rest = ids;
    while let Some((&first, tail)) = rest.split_first() {
        if tail.first().is_some_and(|&second| (first, second) == pair) {
            merged.push(id);
            rest = &tail[1..];
        } else {
            merged.push(first);
            rest = tail;
        }
    }
    merged
}

/// Runs of letters, of digits, of white space and of other characters, each up to [`MAX_CHUNK`] long. One space before
/// a word belongs to it.
fn chunks(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut characters = rest.chars().peekable();
        let first = characters.next()?;
        let mut kind = Kind::of(first);
        let mut end = first.len_utf8();
        if first == ' '
            && let Some(&second) = characters.peek()
        {
            kind = Kind::of(second);
        }
        let mut taken = 1;
        while let Some(character) = characters.next()
            && taken < MAX_CHUNK
            && Kind::of(character) == kind
        {
            let begins_word = character == ' ' && characters.peek().is_some_and(|next| !next.is_whitespace());
            if begins_word {
                break;
            }
            end += character.len_utf8();
            taken += 1;
        }
        let (chunk, tail) = rest.split_at(end);
        rest = tail;
        Some(chunk)
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letter,
    Digit,
    Space,
    Other,
}

impl Kind {
    fn of(character: char) -> Self {
        match character {
            c if c.is_alphabetic() => Self::Letter,
            c if c.is_numeric() => Self::Digit,
            c if c.is_whitespace() => Self::Space,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_keep_their_space_and_nothing_is_lost() {
        let text = "To be, or  not\n\n to 1e2 — ü";
        let found: Vec<&str> = chunks(text).collect();
        assert_eq!(found, ["To", " be", ",", " or", " ", " not", "\n\n", " to", " 1", "e", "2", " —", " ü"]);
        let long = "x".repeat(50);
        assert_eq!(chunks(&long).map(str::len).collect::<Vec<_>>(), [24, 24, 2]);
    }

    fn learned(text: &str, more: usize) -> (Vec<String>, Vec<u32>) {
        let base = Vocabulary::of_characters(text, None).size();
        let mut vocabulary = Vocabulary::of_characters(text, Some((base + more) as u32));
        let [ids] = learn(&mut vocabulary, [text]);
        ((base..vocabulary.pieces()).map(|id| vocabulary.piece(id as u32).to_owned()).collect(), ids)
    }

    #[test]
    fn the_most_frequent_pair_is_joined_and_ties_go_to_small_numbers() {
        // Alphabet a b c = 1 2 3. "ab" and "bc" occur four times each: (1, 2) is smaller.
        assert_eq!(learned("abc.abc.abc.abc", 2).0, ["ab", "abc"]);
        // The chunk " low" of the textbook example.
        let (pieces, ids) = learned(" low lower low lowest low", 3);
        assert_eq!(pieces, [" l", "ow", " low"], "o w comes before \" l\" o: five times each, smaller numbers");
        assert_eq!(ids.len(), 1 + 3 + 1 + 4 + 1);
    }

    #[test]
    fn overlapping_pairs_are_joined_from_the_left() {
        assert_eq!(merged(&[1, 1, 1], (1, 1), 9), [9, 1]);
        assert_eq!(merged(&[1, 1, 1, 1, 2], (1, 1), 9), [9, 9, 2]);
        let (pieces, ids) = learned("aaaaa.aaaaa", 2);
        assert_eq!((pieces, ids.len()), (vec!["aa".to_owned(), "aaa".to_owned()], 5));
    }

    #[test]
    fn only_the_first_block_is_learned_from() {
        let mut vocabulary = Vocabulary::of_characters("abxy.", Some(8));
        let [train, valid] = learn(&mut vocabulary, ["ab.ab.ab", "xy.xy.xy.xy.xy.ab"]);
        assert_eq!(vocabulary.pieces(), 7, "padding, five characters, and ab: xy does not count");
        assert_eq!(vocabulary.piece(6), "ab");
        assert_eq!((train.len(), valid.len()), (5, 16));
        assert_eq!(valid.last(), Some(&6), "but is cut by what was learned");
    }

    /// Byte-pair encoding as the papers write it: count everything anew each round.
    fn naive(text: &str, vocabulary: &mut Vocabulary) -> Vec<u32> {
        let spell = |chunk: &str| chunk.chars().map(|character| vocabulary.unfolded(character)).collect();
        let mut words: Vec<Vec<u32>> = chunks(text).map(spell).collect();
        while vocabulary.pieces() < vocabulary.size() {
            let mut counts = std::collections::BTreeMap::<Pair, usize>::new();
            words.iter().flat_map(|word| pairs_of(word)).for_each(|pair| *counts.entry(pair).or_default() += 1);
            let Some((&pair, _)) =
                counts.iter().rev().max_by_key(|(_, count)| **count).filter(|(_, count)| **count > 1)
            else {
                break;
            };
            let id = vocabulary.pieces() as u32;
            vocabulary.push([vocabulary.piece(pair.0), vocabulary.piece(pair.1)].concat());
            words.iter_mut().for_each(|word| *word = merged(word, pair, id));
        }
        words.concat()
    }

    proptest! {
        #[test]
        fn the_bookkeeping_is_that_of_counting_anew(text in "[ab c]{1,200}", more in 0..20_u32) {
            let base = Vocabulary::of_characters(&text, None).size() as u32;
            let [mut fast, mut slow] = [(); 2].map(|()| Vocabulary::of_characters(&text, Some(base + more)));
            let [ids] = learn(&mut fast, [&text]);
            prop_assert_eq!(&ids, &naive(&text, &mut slow));
            prop_assert_eq!(&fast, &slow);
            prop_assert_eq!(fast.decode(&ids), text);
        }
    }
}
