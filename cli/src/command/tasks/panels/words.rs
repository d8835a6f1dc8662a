//! Words as they are, line by line.

use super::{Block, COLUMNS, LINE, line};

/// Lines drawn, at most.
const MOST: usize = 60;

/// The words under their title.
pub(super) fn block(title: &str, text: &str) -> Block {
    let all: Vec<String> = text.lines().flat_map(cut).collect();
    let mut shown: Vec<String> = all.iter().take(MOST).cloned().collect();
    if all.len() > MOST {
        shown.push(format!("… {} more lines", all.len() - MOST));
    }
    let mut body = line(0.0, 12.0, title, "");
    // Spaces matter in words, of which XML keeps one.
    let style = "font-family=\"monospace\" font-size=\"12\" fill=\"#222222\" xml:space=\"preserve\"";
    for (nth, words) in shown.iter().enumerate() {
        body.push_str(&line(0.0, 12.0 + LINE * (nth + 1) as f64, words, style));
    }
    Block { height: LINE * (shown.len() + 1) as f64, body }
}

/// A line as pieces that fit the page.
fn cut(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.replace('\t', "    ").chars().collect();
    if characters.is_empty() {
        return vec![String::new()];
    }
    characters.chunks(COLUMNS).map(|piece| piece.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_spaces_and_long_ones_are_cut() {
        let block = block("title", &format!("a\n\n  b\tc\n{}", "x".repeat(2 * COLUMNS + 1)));
        assert_eq!(block.body.matches("<text ").count(), 1 + 3 + 3);
        assert!(block.body.contains(">  b    c</text>"), "{}", block.body);
        assert!((block.height - LINE * 7.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_left_out_is_told() {
        let block = block("title", &"line\n".repeat(MOST + 5));
        assert!(block.body.contains("… 5 more lines"), "{}", block.body);
        assert_eq!(block.body.matches(">line</text>").count(), MOST);
    }
}
