//! What a file says, fit for a message: short, in quotes, without control characters.

use std::fmt;

/// Longest quotation, in characters.
const LIMIT: usize = 48;

/// The text in quotes, escaped, cut if long.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(LIMIT) {
        None => format!("{text:?}"),
        Some((cut, _)) => format!("{:?}… ({} bytes)", &text[..cut], text.len()),
    }
}

/// Names for a message: the first few, and how many there were.
#[derive(Debug, Default)]
pub(super) struct Names {
    first: Vec<String>,
    count: usize,
}

impl Names {
    /// Names kept; a file may hold millions.
    const KEPT: usize = 6;

    pub(super) fn push(&mut self, name: &str) {
        self.count += 1;
        if self.first.len() < Self::KEPT {
            self.first.push(quoted(name));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first.join(", "))?;
        match self.count - self.first.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// What theta lacks and has too much, in words.
pub(super) fn lacking(missing: &Names, surplus: &Names) -> String {
    let lacks = if missing.is_empty() { String::new() } else { format!(", lacking {missing}") };
    let has = if surplus.is_empty() { String::new() } else { format!(", with {surplus} besides") };
    format!("a theta{lacks}{has}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_strange_text_is_cut_and_escaped() {
        assert_eq!(quoted("a\u{1b}[2J"), "\"a\\u{1b}[2J\"");
        let long = quoted(&"é".repeat(1000));
        assert!(long.chars().count() < 80 && long.ends_with("… (2000 bytes)"), "{long}");
        let mut names = Names::default();
        (0..9).for_each(|i| names.push(&i.to_string()));
        assert_eq!(names.to_string(), r#""0", "1", "2", "3", "4", "5" and 3 more"#);
    }
}
