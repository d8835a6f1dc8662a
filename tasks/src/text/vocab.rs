//! Which number stands for which piece of text.
//!
//! ```text
//!  0          padding: never text, never scored
//!  1 … a      the alphabet of the text, by code point
//!  a+1 …      pieces, in the order they were learned (word pieces only)
//! ```
//!
//! A vocabulary smaller than the text's folds larger numbers onto smaller ones, as the reference does to keep shapes
//! static. Its rule `1 + id mod (V − 1)` for `id > V` leaves `V` itself out of range; here it holds for `id ≥ V`.

use std::collections::BTreeSet;

/// The number of padding.
pub(crate) const PADDING: u32 = 0;

/// Folds `id` into `0..vocab`. Only [`PADDING`] becomes padding. The vocabulary is at least 2.
pub(crate) fn fold(id: u32, vocab: u32) -> u32 {
    if id >= vocab { 1 + id % (vocab - 1) } else { id }
}

/// The pieces of text behind the numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vocabulary {
    /// Numbers are below this.
    size: u32,
    /// The characters of the text, ascending.
    alphabet: Vec<char>,
    /// Piece of each number before folding; nothing for padding. May be fewer than `size`: the rest is never used.
    pieces: Vec<String>,
}

impl Vocabulary {
    /// The characters of a text. `size` counts padding; `None` makes room for exactly all.
    pub(super) fn of_characters(text: &str, size: Option<u32>) -> Self {
        let alphabet: BTreeSet<char> = text.chars().collect();
        let alphabet = Vec::from_iter(alphabet);
        let pieces: Vec<String> = std::iter::once(String::new()).chain(alphabet.iter().map(char::to_string)).collect();
        Self { size: size.unwrap_or(pieces.len() as u32), alphabet, pieces }
    }

    /// Adds a piece.
    pub(super) fn push(&mut self, piece: String) {
        self.pieces.push(piece);
    }

    /// Numbers are below this: the rows of an embedding.
    pub(crate) fn size(&self) -> usize {
        self.size as usize
    }

    /// How many pieces the text has, padding included: more than [`Self::size`] are folded.
    pub(crate) fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// The number of a character of the text, before folding.
    pub(super) fn unfolded(&self, character: char) -> u32 {
        let place = self.alphabet.binary_search(&character);
        1 + place.expect("the alphabet was taken from the text") as u32
    }

    /// The piece of a number, before folding.
    pub(super) fn piece(&self, id: u32) -> &str {
        &self.pieces[id as usize]
    }

    /// Numbers as text, for people. Folded numbers read as the piece they were folded onto.
    pub(crate) fn decode(&self, ids: &[u32]) -> String {
        ids.iter().filter_map(|&id| self.pieces.get(id as usize)).map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn folding_keeps_every_id_in_range() {
        // With the reference's strict test the fifth would stay 5.
        let folded: Vec<u32> = (0..12).map(|id| fold(id, 5)).collect();
        assert_eq!(folded, [0, 1, 2, 3, 4, 2, 3, 4, 1, 2, 3, 4]);
        assert_eq!(fold(7, 2), 1);
    }

    proptest! {
        #[test]
        fn folding_is_in_range_keeps_small_ids_and_makes_no_padding(id: u32, vocab in 2..u32::MAX) {
            let folded = fold(id, vocab);
            prop_assert!(folded < vocab);
            prop_assert_eq!(folded == PADDING, id == PADDING);
            prop_assert!(id >= vocab || folded == id);
        }

        #[test]
        fn characters_come_back(text in "[a-zäöü€𝄞 \n]{1,40}") {
            let vocabulary = Vocabulary::of_characters(&text, None);
            let ids: Vec<u32> = text.chars().map(|character| vocabulary.unfolded(character)).collect();
            prop_assert!(ids.iter().all(|&id| id != PADDING && (id as usize) < vocabulary.size()));
            prop_assert_eq!(vocabulary.decode(&ids), text);
        }
    }

    #[test]
    fn ids_follow_code_points_and_padding_reads_as_nothing() {
        let vocabulary = Vocabulary::of_characters("ba€a\n", None);
        assert_eq!((vocabulary.size(), vocabulary.pieces()), (5, 5));
        assert_eq!("\nab€".chars().map(|c| vocabulary.unfolded(c)).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(vocabulary.decode(&[3, PADDING, 2, 99]), "ba");
        assert_eq!(Vocabulary::of_characters("abc", Some(100)).size(), 100);
    }
}
