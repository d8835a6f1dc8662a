//! A task's data as one self-contained SVG page.
//!
//! ```text
//!  ┌ title, what was built ─────────┐
//!  │ ▒▒ ▒▒ ▒▒ ▒▒  pictures, a grid  │ picture.rs   neighbouring pictures share a grid
//!  │ ∿∿∿∿∿∿∿∿∿∿∿  curves            │ curves.rs
//!  │ ●─●─●        a graph           │ graph.rs, layout.rs
//!  │ words                          │ words.rs
//!  └────────────────────────────────┘
//! ```
//!
//! Nothing is linked to and nothing runs: shapes and words only.

use paceline_tasks::Panel;

use super::wrapped;
use crate::failure::Failure;

mod curves;
mod graph;
mod layout;
mod picture;
mod words;

/// Width of a block, in pixels.
const WIDTH: f64 = 840.0;
/// Between blocks and around them.
const MARGIN: f64 = 20.0;
/// Height of a line of small print.
const LINE: f64 = 17.0;
/// Characters of small print that surely fit a block.
const COLUMNS: usize = 110;

/// Colours of classes and lines, told apart by most eyes (Okabe and Ito 2008, with three more).
const PALETTE: [[u8; 3]; 10] = [
    [0, 114, 178],
    [230, 159, 0],
    [0, 158, 115],
    [213, 94, 0],
    [204, 121, 167],
    [86, 180, 233],
    [120, 94, 40],
    [240, 228, 66],
    [90, 90, 90],
    [120, 60, 170],
];

fn color(class: usize) -> [u8; 3] {
    PALETTE[class % PALETTE.len()]
}

/// Something with a height, drawn from (0, 0) down.
struct Block {
    height: f64,
    body: String,
}

/// The page of these panels.
pub(super) fn svg(title: &str, about: &str, panels: &[Panel]) -> Result<String, Failure> {
    let mut body = String::new();
    let mut top = MARGIN;
    for block in std::iter::once(heading(title, about)).map(Ok).chain(blocks(panels)) {
        let Block { height, body: block } = block?;
        body.push_str(&format!("<g transform=\"translate({MARGIN} {top:.0})\">\n{block}</g>\n"));
        top += height.ceil() + MARGIN;
    }
    let width = WIDTH + 2.0 * MARGIN;
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{top}\" viewBox=\"0 0 {width} {top}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"{width}\" height=\"{top}\" fill=\"#ffffff\"/>\n\
         {body}</svg>\n"
    ))
}

/// What a panel shows.
pub(super) fn title(panel: &Panel) -> &str {
    match panel {
        Panel::Picture { title, .. }
        | Panel::Curves { title, .. }
        | Panel::Graph { title, .. }
        | Panel::Text { title, .. } => title,
        _ => "of a kind that this program does not know",
    }
}

/// The blocks of some panels, in their order; pictures that follow each other are one.
fn blocks(panels: &[Panel]) -> impl Iterator<Item = Result<Block, Failure>> + '_ {
    let alike = |a: &Panel, b: &Panel| matches!((a, b), (Panel::Picture { .. }, Panel::Picture { .. }));
    panels.chunk_by(alike).map(|panels| match &panels[0] {
        Panel::Picture { .. } => Ok(picture::grid(panels)),
        Panel::Curves { title, axis, lines } => curves::block(title, axis, lines),
        Panel::Graph { title, nodes, edges } => Ok(graph::block(title, nodes, edges)),
        Panel::Text { title, text } => Ok(words::block(title, text)),
        // Panels may become more kinds than this program knows; one that cannot be drawn is still told.
        other => Ok(words::block(title(other), "not drawn")),
    })
}

fn heading(title: &str, about: &str) -> Block {
    let lines = wrapped(about, COLUMNS);
    let mut body = line(0.0, 18.0, title, "font-size=\"20\"");
    for (nth, text) in lines.iter().enumerate() {
        body.push_str(&line(0.0, 40.0 + LINE * nth as f64, text, "fill=\"#444444\""));
    }
    Block { height: 32.0 + LINE * lines.len() as f64, body }
}

/// A line of words whose baseline begins at (x, y).
fn line(x: f64, y: f64, text: &str, style: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{}</text>\n", escaped(text))
}

/// Text as XML may hold it: neither markup nor characters that XML forbids.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

fn hex([red, green, blue]: [u8; 3]) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panels() -> Vec<Panel> {
        let picture = |title: &str| Panel::scaled(title, 2, 2, &[0.0, 1.0, 2.0, 3.0]);
        vec![
            picture("one"),
            picture("two"),
            Panel::Text { title: "text".into(), text: "<b>&\u{1}\nend".into() },
            picture("three"),
            Panel::Curves { title: "lines".into(), axis: "time".into(), lines: vec![("a".into(), vec![0.0, 1.0])] },
            Panel::Graph { title: "graph".into(), nodes: vec![0, 1], edges: vec![(0, 1)] },
        ]
    }

    #[test]
    fn the_page_holds_every_panel_once_in_order() {
        let svg = svg("<title>", "about", &panels()).expect("drawn");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
        assert!(svg.contains("&lt;title&gt;") && svg.contains("&lt;b&gt;&amp;\u{fffd}<"), "{svg}");
        let places = ["one<", "two<", "text<", "three<", "lines", "graph<"].map(|text| svg.find(text));
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}\n{svg}");
        assert!(crate::evaluation::plot::tests::is_well_formed(&svg), "{svg}");
    }

    #[test]
    fn neighbouring_pictures_share_a_block() {
        let count = blocks(&panels()).count();
        assert_eq!(count, 5);
    }
}
