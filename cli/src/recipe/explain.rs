//! One clear message for a recipe that does not parse.
//!
//! ```text
//!  serde: "unknown field `hiden`, expected one of `hidden`, …"  ─►  my.toml:12: [optimizer] has no key "hiden"
//!                                                                   help: did you mean "hidden"?
//! ```

use std::ops::Range;

use super::locate::{self, Place};
use crate::failure::{Exit, Failure};

/// What is wrong with `text` (of the recipe `name`), from the error of the parser.
pub(crate) fn explain(name: &str, text: &str, error: &toml::de::Error) -> Failure {
    let message = error.message();
    let quoted = backquoted(message);
    let (culprit, known) = quoted.split_first().map_or(("", [].as_slice()), |(first, rest)| (*first, rest));
    if message.starts_with("unknown field") {
        let place = pick(locate::keys_of(text, culprit), error.span());
        let table = place.as_ref().map_or(String::new(), |place| place.table.clone());
        let what = format!("{} has no key {culprit:?}", table_name(&table));
        return failure(name, text, place.map(|place| place.span).or(error.span()), &what).help(advice(culprit, known));
    }
    if message.starts_with("unknown variant") {
        let place = pick(locate::values_of(text, culprit), error.span());
        let what = match &place {
            Some(place) if !place.table.is_empty() => format!("unknown value {culprit:?} in [{}]", place.table),
            _ => format!("unknown value {culprit:?}"),
        };
        return failure(name, text, place.map(|place| place.span).or(error.span()), &what).help(advice(culprit, known));
    }
    if message.starts_with("missing field") {
        let what = format!("the key {culprit:?} is missing");
        return failure(name, text, error.span(), &what)
            .help("deploy/recipes/quickstart.toml explains every key in a complete recipe");
    }
    if let (true, Some(span)) = (message.starts_with("invalid "), error.span())
        && let Some((found, expected)) = message.split_once(", expected ")
        && let Some(value) = locate::value_at(text, span.start, culprit_text(message))
    {
        let found = found.split_once(": ").map_or(found, |(_, found)| found);
        let what = format!("{} must be {}, found {found}", value.path, in_plain_words(expected));
        return failure(name, text, Some(value.span), &what);
    }
    failure(name, text, error.span(), message.trim())
}

/// The value that a message quotes, as a recipe writes it: in backquotes, or a string in its own quotes.
fn culprit_text(message: &str) -> &str {
    match message.find(['`', '"']) {
        Some(start) if message[start..].starts_with('`') => backquoted(message).first().copied().unwrap_or_default(),
        Some(start) => message[start..].split_once(", expected").map_or("", |(quoted, _)| quoted),
        None => "",
    }
}

/// What serde expects, for people who do not know Rust's types.
fn in_plain_words(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more, that is not too large",
        "f32" | "f64" => "a number",
        "a sequence" => "a list, written [...] or [[...]]",
        "a boolean" => "true or false",
        _ if expected.starts_with("internally tagged enum") || expected.starts_with("struct") => {
            "a table, as in deploy/recipes/quickstart.toml"
        }
        other => other,
    }
}

/// A failure at a place in a recipe.
pub(crate) fn failure(name: &str, text: &str, span: Option<Range<usize>>, what: &str) -> Failure {
    let place = match span {
        Some(span) if span.start < text.len() => format!("{name}:{}", locate::line_of(text, span.start)),
        _ => name.to_owned(),
    };
    Failure::new(Exit::BadInput, "RECIPE_INVALID", format!("{place}: {what}"))
}

fn table_name(table: &str) -> String {
    if table.is_empty() { "a recipe".to_owned() } else { format!("[{table}]") }
}

/// The place that lies in the span serde remembers, or the first.
fn pick(places: Vec<Place>, span: Option<Range<usize>>) -> Option<Place> {
    let inside = |place: &&Place| span.as_ref().is_some_and(|span| span.contains(&place.span.start));
    places.iter().find(inside).or(places.first()).cloned()
}

fn backquoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

/// The nearest known word, or the list of them.
pub(crate) fn advice(culprit: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|word| (distance(culprit, word), *word)).min();
    match nearest {
        Some((steps, word)) if steps <= 1 + culprit.chars().count() / 4 => format!("did you mean {word:?}?"),
        Some(_) => format!("known here: {}", known.join(", ")),
        None => "nothing is expected here: remove it".to_owned(),
    }
}

/// Levenshtein distance: fewest insertions, removals and replacements of characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("hiden", "hidden"), 1);
        assert_eq!(distance("window", "window"), 0);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn a_near_word_is_suggested_and_a_far_one_listed() {
        assert_eq!(advice("colour", &["sigma", "horizon"]), "known here: sigma, horizon");
        assert_eq!(advice("sigmaa", &["sigma", "horizon"]), "did you mean \"sigma\"?");
        assert_eq!(advice("zzz", &["sigma", "horizon"]), "known here: sigma, horizon");
    }
}
