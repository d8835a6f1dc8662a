//! Where in a TOML text a setting stands, so that every complaint can name a line.
//!
//! ```text
//!  "tasks[1].settings.hidden" ─► [[tasks]] no. 1 ─► settings ─► hidden ─► line 34
//! ```
//!
//! Serde forgets positions inside tagged and flattened tables; here they are looked up again in the parsed document.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A key of a document: its dotted path and where it stands, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Dotted path of the table that holds it; empty at the top.
    pub(crate) table: String,
    /// Position of the key (or of the value, for [`values_of`]).
    pub(crate) span: Range<usize>,
}

/// The line (from 1) of a byte position.
pub(crate) fn line_of(text: &str, position: usize) -> usize {
    text.bytes().take(position).filter(|&byte| byte == b'\n').count() + 1
}

/// Every key of this name, anywhere in the document.
pub(crate) fn keys_of(text: &str, name: &str) -> Vec<Place> {
    search(text, &|key, _| key == name, true)
}

/// Every string value equal to `value`, anywhere in the document.
pub(crate) fn values_of(text: &str, value: &str) -> Vec<Place> {
    search(text, &|_, found| found.as_str() == Some(value), false)
}

/// A value and the dotted path of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Valued {
    /// Dotted path of the key.
    pub(crate) path: String,
    /// Position of the value.
    pub(crate) span: Range<usize>,
}

/// The value that starts at `position`. Inside tagged tables serde remembers only where the table starts; then the one
/// value of that table which is written `written`, if it is one alone.
pub(crate) fn value_at(text: &str, position: usize, written: &str) -> Option<Valued> {
    let document = DeTable::parse(text).ok()?;
    let mut all = Vec::new();
    values_of_table(document.get_ref(), "", &mut all);
    if let Some(value) = all.iter().find(|value| value.span.start == position && !text[position..].starts_with('[')) {
        return Some(value.clone());
    }
    let table = |value: &Valued| value.path.rsplit_once('.').map_or("", |(table, _)| table).to_owned();
    let first = all.iter().filter(|value| value.span.start >= position).min_by_key(|value| value.span.start)?;
    let mut same = all.iter().filter(|value| {
        value.span.start >= position && table(value) == table(first) && text.get(value.span.clone()) == Some(written)
    });
    same.next().filter(|_| same.next().is_none()).cloned()
}

fn values_of_table(table: &DeTable<'_>, path: &str, values: &mut Vec<Valued>) {
    for (key, value) in table {
        let path = if path.is_empty() { key.get_ref().to_string() } else { format!("{path}.{}", key.get_ref()) };
        values_of_value(value, path, values);
    }
}

fn values_of_value(value: &Spanned<DeValue<'_>>, path: String, values: &mut Vec<Valued>) {
    if let Some(table) = value.get_ref().as_table() {
        values_of_table(table, &path, values);
    } else if let Some(array) = value.get_ref().as_array() {
        for (index, element) in array.iter().enumerate() {
            values_of_value(element, format!("{path}[{index}]"), values);
        }
    } else {
        values.push(Valued { path, span: value.span() });
    }
}

/// Where the setting of a dotted path (`outer.slots`, `tasks[1].weight`) stands, or the deepest part of it that exists.
pub(crate) fn find(text: &str, path: &str) -> Option<Range<usize>> {
    let document = DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let mut found = None;
    for segment in path.split('.') {
        let (name, index) = split_index(segment);
        let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == name) else { break };
        let mut value = value;
        found = Some(key.span());
        if let (Some(index), Some(array)) = (index, value.get_ref().as_array()) {
            let Some(element) = array.get(index) else { break };
            found = Some(element.span());
            value = element;
        }
        let Some(inner) = value.get_ref().as_table() else { break };
        table = inner;
    }
    found
}

fn split_index(segment: &str) -> (&str, Option<usize>) {
    match segment.strip_suffix(']').and_then(|rest| rest.split_once('[')) {
        Some((name, index)) => (name, index.parse().ok()),
        None => (segment, None),
    }
}

type Matches<'m> = &'m dyn Fn(&str, &DeValue<'_>) -> bool;

fn search(text: &str, matches: Matches<'_>, key_span: bool) -> Vec<Place> {
    let mut places = Vec::new();
    if let Ok(document) = DeTable::parse(text) {
        search_table(document.get_ref(), "", matches, key_span, &mut places);
    }
    places.sort_by_key(|place| place.span.start);
    places
}

fn search_table(table: &DeTable<'_>, path: &str, matches: Matches<'_>, key_span: bool, places: &mut Vec<Place>) {
    for (key, value) in table {
        if matches(key.get_ref(), value.get_ref()) {
            let span = if key_span { key.span() } else { value.span() };
            places.push(Place { table: path.to_owned(), span });
        }
        let inner = if path.is_empty() { key.get_ref().to_string() } else { format!("{path}.{}", key.get_ref()) };
        search_value(value, &inner, matches, key_span, places);
    }
}

fn search_value(value: &Spanned<DeValue<'_>>, path: &str, matches: Matches<'_>, key_span: bool, out: &mut Vec<Place>) {
    if let Some(table) = value.get_ref().as_table() {
        search_table(table, path, matches, key_span, out);
    } else if let Some(array) = value.get_ref().as_array() {
        for (index, element) in array.iter().enumerate() {
            search_value(element, &format!("{path}[{index}]"), matches, key_span, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "name = \"a\"\n\n[outer]\nslots = 8\n\n[[tasks]]\nweight = 1\n\n[[tasks]]\nweight = 2\nkind = \"pes\"\n";

    #[test]
    fn a_dotted_path_is_found_through_tables_and_arrays() {
        let line = |path: &str| find(TEXT, path).map(|span| line_of(TEXT, span.start));
        assert_eq!(line("outer.slots"), Some(4));
        assert_eq!(line("tasks[0].weight"), Some(7));
        assert_eq!(line("tasks[1].weight"), Some(10));
        assert_eq!(line("outer.steps"), Some(3), "a missing key points at its table");
        assert_eq!(line("nothing"), None);
    }

    #[test]
    fn keys_and_values_are_found_with_their_table() {
        let places = keys_of(TEXT, "weight");
        assert_eq!(places.iter().map(|place| place.table.as_str()).collect::<Vec<_>>(), ["tasks[0]", "tasks[1]"]);
        let places = values_of(TEXT, "pes");
        assert_eq!(places.len(), 1);
        assert_eq!(line_of(TEXT, places[0].span.start), 11);
    }
}
