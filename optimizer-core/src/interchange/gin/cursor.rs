//! A place in a gin text, with its line.

use super::super::quote::quoted;
use super::wrong;
use crate::Error;

/// A place in a text.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a str,
    line: usize,
    /// Open brackets: within them a line's end is a space.
    depth: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1, depth: 0 }
    }

    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// The next character, which stays.
    pub(super) fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    /// Takes the next character.
    pub(super) fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.rest = &self.rest[next.len_utf8()..];
        self.line += usize::from(next == '\n');
        Some(next)
    }

    /// Passes over spaces, comments and continued lines; within brackets also over ends of lines.
    pub(super) fn spaces(&mut self) {
        while let Some(next) = self.peek() {
            match next {
                '\n' if self.depth > 0 => {
                    self.next();
                }
                '\n' => break,
                '#' => {
                    self.rest_of_line();
                }
                '\\' if self.rest[1..].starts_with('\n') || self.rest[1..].starts_with("\r\n") => {
                    self.rest_of_line();
                    self.next();
                }
                space if space.is_whitespace() => {
                    self.next();
                }
                _ => break,
            }
        }
    }

    /// Moves to the first character of the next statement; false at the end.
    pub(super) fn next_statement(&mut self) -> bool {
        self.spaces();
        while self.peek() == Some('\n') {
            self.next();
            self.spaces();
        }
        !self.rest.is_empty()
    }

    /// Whether nothing else stands on this line.
    pub(super) fn at_end_of_statement(&mut self) -> bool {
        self.spaces();
        matches!(self.peek(), None | Some('\n'))
    }

    /// Takes this character, after spaces, if it is next.
    pub(super) fn eat(&mut self, expected: char) -> bool {
        self.spaces();
        let there = self.peek() == Some(expected);
        if there {
            self.next();
        }
        there
    }

    /// Opens a bracket.
    pub(super) fn open(&mut self) {
        self.next();
        self.depth += 1;
    }

    /// Closes the bracket that `closing` closes, if it is next.
    pub(super) fn close(&mut self, closing: char) -> bool {
        let closed = self.eat(closing);
        self.depth -= usize::from(closed);
        closed
    }

    /// Takes a name with its scopes and modules; empty if there is none.
    pub(super) fn word(&mut self) -> &'a str {
        self.while_true(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '/'))
    }

    /// Takes what a number may be made of.
    pub(super) fn number(&mut self) -> &'a str {
        let signed = self.rest;
        let mut before = ' ';
        self.while_true(|c| {
            let part = c.is_ascii_alphanumeric()
                || matches!(c, '.' | '_')
                || (matches!(c, '+' | '-') && matches!(before, ' ' | 'e' | 'E'));
            before = c;
            part
        });
        &signed[..signed.len() - self.rest.len()]
    }

    /// Takes the rest of the line without its end.
    pub(super) fn rest_of_line(&mut self) -> &'a str {
        self.while_true(|c| c != '\n')
    }

    /// Whether this text comes next.
    pub(super) fn starts_with(&self, text: &str) -> bool {
        self.rest.starts_with(text)
    }

    fn while_true(&mut self, mut part: impl FnMut(char) -> bool) -> &'a str {
        let length = self.rest.find(|c| !part(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    /// The complaint that something else stands here.
    pub(super) fn wrong(&self, expected: &str) -> Error {
        let rest = self.rest.lines().next().unwrap_or_default();
        let found = match (self.rest.is_empty(), rest.is_empty()) {
            (true, _) => "the end".to_owned(),
            (false, true) => "the end of the line".to_owned(),
            (false, false) => quoted(rest),
        };
        wrong(self.line, expected, &found)
    }
}
