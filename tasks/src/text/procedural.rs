//! Text drawn from a seed, for machines without files.
//!
//! ```text
//!  dcab (bdaacb) ab{c dab[ddcad]bc}.        letters: order 2, from a table of the seed
//!        ↑    ↑                             brackets: nested, of three kinds
//!        └────┘ the letter after an opening bracket comes again before its closing one
//! ```
//!
//! The letters are soon learned: a few successors for each two letters, the likely one half of the time. Brackets need
//! memory: which kind is open, and which letter it began with. Sentences end where nothing is open.
//!
//! Only integers take part, so the text is the same on every host.

use paceline_optimizer_core::noise::Draws;
use paceline_optimizer_core::{Purpose, Seed};

/// Characters of the text.
pub(super) const LENGTH: usize = 200_000;
const LETTERS: usize = 16;
const BRACKETS: [[char; 2]; 3] = [['(', ')'], ['[', ']'], ['{', '}']];
/// Deepest nesting.
const MAX_DEPTH: usize = 4;
/// Of 16 draws so many go to each successor: about 1.9 bits a letter.
const ODDS: [u32; 5] = [8, 4, 2, 1, 1];

/// For each two letters, their successors in the order of [`ODDS`].
struct Table(Vec<[u8; ODDS.len()]>);

impl Table {
    fn draw(draws: &mut Draws) -> Self {
        let row = |_| {
            let mut letters: [u8; LETTERS] = std::array::from_fn(|letter| letter as u8);
            std::array::from_fn(|place| {
                letters.swap(place, place + draws.below((LETTERS - place) as u32) as usize);
                letters[place]
            })
        };
        Self((0..LETTERS * LETTERS).map(row).collect())
    }

    fn successor(&self, [before, last]: [u8; 2], draws: &mut Draws) -> u8 {
        let mut draw = draws.below(ODDS.iter().sum());
        let mut place = 0;
        while draw >= ODDS[place] {
            draw -= ODDS[place];
            place += 1;
        }
        self.0[usize::from(before) * LETTERS + usize::from(last)][place]
    }
}

/// The text of a seed: [`LENGTH`] ASCII characters. The last sentence may lack its end.
pub(super) fn generate(seed: Seed) -> String {
    let seed = seed.purpose(Purpose::Data);
    let table = Table::draw(&mut Draws::new(seed.fold_in(0)));
    let mut draws = Draws::new(seed.fold_in(1));
    let mut text = String::with_capacity(LENGTH + 4);
    let mut context = [0, 0];
    // Kind and first letter of what is open.
    let mut open: Vec<(usize, u8)> = Vec::new();
    let push = |text: &mut String, context: &mut [u8; 2], letter: u8| {
        text.push(char::from(b'a' + letter));
        *context = [context[1], letter];
    };
    while text.len() < LENGTH {
        match draws.below(32) {
            0..=1 if open.len() < MAX_DEPTH => {
                let kind = draws.below(BRACKETS.len() as u32) as usize;
                text.push(BRACKETS[kind][0]);
                let letter = table.successor(context, &mut draws);
                push(&mut text, &mut context, letter);
                open.push((kind, letter));
            }
            0..=4 => match open.pop() {
                Some((kind, letter)) => {
                    push(&mut text, &mut context, letter);
                    text.push(BRACKETS[kind][1]);
                }
                None => text.push_str(".\n"),
            },
            5..=8 if !text.ends_with([' ', '\n']) => text.push(' '),
            _ => {
                let letter = table.successor(context, &mut draws);
                push(&mut text, &mut context, letter);
            }
        }
    }
    text.truncate(LENGTH);
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn brackets_match_in_kind_and_letter() {
        let text = generate(Seed::new(1));
        let characters: Vec<char> = text.chars().collect();
        let (mut open, mut closed, mut deepest, mut longest) = (Vec::new(), 0, 0, 0);
        for (place, &character) in characters.iter().enumerate() {
            if let Some(kind) = BRACKETS.iter().position(|pair| pair[0] == character) {
                open.push((kind, place));
                deepest = deepest.max(open.len());
            } else if let Some(kind) = BRACKETS.iter().position(|pair| pair[1] == character) {
                let (opened, start) = open.pop().unwrap();
                assert_eq!(kind, opened);
                assert_eq!(characters[start + 1], characters[place - 1], "the letter comes again");
                closed += 1;
                longest = longest.max(place - start);
            } else if character == '.' {
                assert!(open.is_empty(), "a sentence ends where nothing is open");
            }
        }
        assert!(closed > 5_000 && deepest == MAX_DEPTH && longest > 100, "{closed} {deepest} {longest}");
    }

    /// Bits a character, given the `order` characters before it (estimated from the text itself).
    fn entropy(text: &[u8], order: usize) -> f64 {
        let mut counts: HashMap<&[u8], HashMap<u8, f64>> = HashMap::new();
        for window in text.windows(order + 1) {
            *counts.entry(&window[..order]).or_default().entry(window[order]).or_default() += 1.0;
        }
        let bits = counts.values().map(|next| {
            let all: f64 = next.values().sum();
            next.values().map(|count| -count * (count / all).log2()).sum::<f64>()
        });
        bits.sum::<f64>() / text.len() as f64
    }

    #[test]
    fn there_is_something_to_learn_at_each_order() {
        let text = generate(Seed::new(2));
        let bits = [0, 1, 2].map(|order| entropy(text.as_bytes(), order));
        assert!(bits[0] > 4.0 && bits[1] < bits[0] - 0.2 && bits[2] < bits[1] - 0.5 && bits[2] > 2.0, "{bits:?}");
    }

    #[test]
    fn the_bits_are_pinned() {
        // Recorded runs depend on them.
        let text = generate(Seed::new(0));
        let sum: usize = text.bytes().enumerate().map(|(i, byte)| i * usize::from(byte)).sum();
        assert_eq!(sum, PINNED, "{:?}", &text[..300]);
    }

    const PINNED: usize = 1_816_090_368_783;

    #[test]
    fn a_seed_draws_one_text() {
        let text = generate(Seed::new(3));
        assert_eq!((text.len(), text.is_ascii()), (LENGTH, true));
        assert_eq!(text, generate(Seed::new(3)));
        assert_ne!(text, generate(Seed::new(4)));
    }
}
