//! `paceline tasks`: what the families of inner problems are, draw and cost.
//!
//! ```text
//!  list    every family, a line each
//!  show    one family: settings, parameters, normaliser, cost, members
//!  sample  one task of it: first losses, and its data as an SVG (panels)
//! ```

use std::sync::Arc;

use paceline_tasks::{Family, FamilyInfo};
use serde_json::{Map, Value};

use crate::arguments::{FamilyArguments, TasksCommand};
use crate::console::Console;
use crate::failure::Failure;

mod list;
mod measure;
mod panels;
mod sample;
mod settings;
mod show;

/// Columns of a terminal that everybody has.
const COLUMNS: usize = 80;

/// Does what was typed behind `paceline tasks`.
pub(super) fn tasks(command: &TasksCommand, console: Console) -> Result<(), Failure> {
    match command {
        TasksCommand::List(arguments) => list::list(arguments, console),
        TasksCommand::Show(arguments) => show::show(arguments, console),
        TasksCommand::Sample(arguments) => sample::sample(arguments, console),
    }
}

/// A family as somebody asked for it.
struct Opened {
    info: FamilyInfo,
    /// All settings, with every choice made.
    settings: Map<String, Value>,
    family: Arc<dyn Family>,
}

/// Builds the family named, with the settings given.
fn open(arguments: &FamilyArguments) -> Result<Opened, Failure> {
    let FamilyArguments { family: name, set, data_dir } = arguments;
    let data_dir = data_dir.as_deref();
    // A name that is none is told before a setting that belongs to nothing.
    paceline_tasks::resolve(name, &Map::new(), data_dir)?;
    let settings = paceline_tasks::resolve(name, &settings::parse(name, set)?, data_dir)?;
    let family = paceline_tasks::build(name, &settings, data_dir)?;
    let known = paceline_tasks::families().into_iter().find(|info| info.name == name);
    let info = known.ok_or_else(|| Failure::bug(format!("{name} can be built, but is not listed")))?;
    Ok(Opened { info, settings, family })
}

/// A table without lines: many rows stay on one screen.
fn compact(headings: &[&str]) -> comfy_table::Table {
    let mut table = crate::evaluation::table::plain(headings);
    table.load_preset(comfy_table::presets::NOTHING);
    table
}

/// Lines of at most `width` characters; a longer word is cut.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut length = 0;
    for word in text.split_whitespace() {
        let word: Vec<char> = word.chars().collect();
        for piece in word.chunks(width.max(1)) {
            if length > 0 && length + 1 + piece.len() > width {
                lines.push(String::new());
                length = 0;
            }
            let line = lines.last_mut().expect("there is always a line");
            if length > 0 {
                line.push(' ');
                length += 1;
            }
            line.extend(piece);
            length += piece.len();
        }
    }
    lines
}

/// A heading in a column of its own, with a text that is wrapped beside it; below it, if the heading is long.
fn paragraph(heading: &str, text: &str) -> String {
    const INDENT: usize = 12;
    let beside = heading.chars().count() < INDENT;
    let mut lines: Vec<_> =
        wrapped(text, COLUMNS - INDENT).into_iter().map(|line| format!("{:INDENT$}{line}", "")).collect();
    match lines.first_mut().filter(|_| beside) {
        Some(first) => *first = format!("{heading:INDENT$}{}", first.trim_start()),
        None => lines.insert(0, heading.to_owned()),
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_at_words_and_long_words_are_cut() {
        assert_eq!(wrapped("a bc  def\nghij", 6), ["a bc", "def", "ghij"]);
        assert_eq!(wrapped("a bcdefghi j", 4), ["a", "bcde", "fghi", "j"]);
        assert_eq!(wrapped("", 4), [""]);
        assert_eq!(wrapped("äöü äöü", 7), ["äöü äöü"]);
    }

    #[test]
    fn a_long_heading_stands_above_its_text() {
        let text = "word ".repeat(20);
        let short = paragraph("short", &text);
        assert!(short.starts_with("short       word word") && short.contains("\n            word"), "{short}");
        let long = paragraph("sampled_image_mlp", &text);
        assert!(long.starts_with("sampled_image_mlp\n            word"), "{long}");
        assert!(short.lines().chain(long.lines()).all(|line| line.chars().count() <= COLUMNS));
    }
}
