//! Values: Python literals, references, macros.

use super::super::quote::quoted;
use super::cursor::Cursor;
use crate::{Error, Result};

/// A value. Tuples and lists are the same here, as they are to every constructor.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::interchange) enum Value<'a> {
    None,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    Sequence(Vec<Self>),
    Dictionary(Vec<(Self, Self)>),
    /// `@scope/Name`, to be called or not.
    Reference {
        scope: &'a str,
        name: &'a str,
    },
    /// `%NAME`.
    Macro(&'a str),
}

impl<'a> Value<'a> {
    /// Reads one value that is the whole text.
    ///
    /// # Errors
    /// [`Error::Foreign`] if it is none.
    pub(in crate::interchange) fn parse(text: &'a str) -> Result<Self> {
        let mut cursor = Cursor::new(text);
        let value = Values::default().read(&mut cursor)?;
        if cursor.at_end_of_statement() { Ok(value) } else { Err(cursor.wrong("the end")) }
    }

    /// The value for a message.
    pub(in crate::interchange) fn words(&self) -> String {
        match self {
            Self::None => "None".into(),
            Self::Bool(true) => "True".into(),
            Self::Bool(false) => "False".into(),
            Self::Integer(value) => value.to_string(),
            Self::Float(value) => format!("{value:?}"),
            Self::Text(text) => quoted(text),
            Self::Sequence(values) => {
                let first = values.iter().take(4).map(Self::words).collect::<Vec<_>>().join(", ");
                format!("({first}{})", if values.len() > 4 { ", …" } else { "" })
            }
            Self::Dictionary(entries) => format!("a dictionary of {}", entries.len()),
            Self::Reference { name, .. } => format!("@{}", quoted(name).trim_matches('"')),
            Self::Macro(name) => format!("%{}", quoted(name).trim_matches('"')),
        }
    }
}

/// Reads the values of one text and counts them.
#[derive(Debug, Default)]
pub(super) struct Values {
    count: usize,
}

/// Most values in one text: each takes some bytes of memory, however short it is written.
const MOST: usize = 1 << 14;

/// Deepest nesting of brackets.
const DEEPEST: usize = 32;

impl Values {
    /// Reads one value.
    ///
    /// # Errors
    /// [`Error::Foreign`] with the line, if none stands there or a bound is passed.
    pub(super) fn read<'a>(&mut self, cursor: &mut Cursor<'a>) -> Result<Value<'a>> {
        self.nested(cursor, 0)
    }

    fn nested<'a>(&mut self, cursor: &mut Cursor<'a>, depth: usize) -> Result<Value<'a>> {
        self.count += 1;
        if self.count > MOST {
            return Err(cursor.wrong(&format!("at most {MOST} values in one file")));
        }
        if depth > DEEPEST {
            return Err(cursor.wrong(&format!("at most {DEEPEST} levels of brackets")));
        }
        cursor.spaces();
        match cursor.peek() {
            Some('(') => self.sequence(cursor, depth, ')'),
            Some('[') => self.sequence(cursor, depth, ']'),
            Some('{') => self.dictionary(cursor, depth),
            Some('\'' | '"') => text(cursor),
            Some('@') => reference(cursor),
            Some('%') => {
                cursor.next();
                name(cursor).map(Value::Macro)
            }
            Some(first) if first.is_ascii_digit() || matches!(first, '-' | '+' | '.') => number(cursor),
            _ => word(cursor),
        }
    }

    fn sequence<'a>(&mut self, cursor: &mut Cursor<'a>, depth: usize, closing: char) -> Result<Value<'a>> {
        cursor.open();
        let mut values = Vec::new();
        let mut commas = 0;
        while !cursor.close(closing) {
            values.push(self.nested(cursor, depth + 1)?);
            if cursor.eat(',') {
                commas += 1;
            } else if !cursor.close(closing) {
                return Err(cursor.wrong(&format!("a comma or {closing:?}")));
            } else {
                break;
            }
        }
        // Parentheses around one value, without a comma, are only parentheses.
        match (closing, commas, values.pop()) {
            (')', 0, Some(only)) => Ok(only),
            (_, _, last) => {
                values.extend(last);
                Ok(Value::Sequence(values))
            }
        }
    }

    fn dictionary<'a>(&mut self, cursor: &mut Cursor<'a>, depth: usize) -> Result<Value<'a>> {
        cursor.open();
        let mut entries = Vec::new();
        while !cursor.close('}') {
            let key = self.nested(cursor, depth + 1)?;
            if !cursor.eat(':') {
                return Err(cursor.wrong("a colon"));
            }
            entries.push((key, self.nested(cursor, depth + 1)?));
            if !cursor.eat(',') {
                if cursor.close('}') {
                    break;
                }
                return Err(cursor.wrong("a comma or '}'"));
            }
        }
        Ok(Value::Dictionary(entries))
    }
}

fn word<'a>(cursor: &mut Cursor<'a>) -> Result<Value<'a>> {
    let start = cursor.clone();
    match cursor.word() {
        "True" => Ok(Value::Bool(true)),
        "False" => Ok(Value::Bool(false)),
        "None" => Ok(Value::None),
        _ => Err(start.wrong("a value")),
    }
}

fn number<'a>(cursor: &mut Cursor<'a>) -> Result<Value<'a>> {
    let start = cursor.clone();
    let digits: String = cursor.number().chars().filter(|c| *c != '_').collect();
    if let Ok(value) = digits.parse() {
        return Ok(Value::Integer(value));
    }
    // Rust would read "inf" and "nan" too, which Python would not.
    let plain = digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    match digits.parse::<f64>() {
        Ok(value) if plain && value.is_finite() => Ok(Value::Float(value)),
        _ => Err(start.wrong("a number")),
    }
}

fn reference<'a>(cursor: &mut Cursor<'a>) -> Result<Value<'a>> {
    cursor.next();
    let name = name(cursor)?;
    if cursor.peek() == Some('(') {
        cursor.open();
        if !cursor.close(')') {
            return Err(cursor.wrong("`()` without arguments"));
        }
    }
    let (scope, name) = name.rsplit_once('/').unwrap_or(("", name));
    Ok(Value::Reference { scope, name })
}

fn name<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str> {
    let start = cursor.clone();
    match cursor.word() {
        "" => Err(start.wrong("a name")),
        name => Ok(name),
    }
}

/// Strings that stand side by side are one, as in Python.
fn text<'a>(cursor: &mut Cursor<'a>) -> Result<Value<'a>> {
    let mut text = String::new();
    while let Some(quote @ ('\'' | '"')) = cursor.peek() {
        let start = cursor.clone();
        let triple = cursor.starts_with(&quote.to_string().repeat(3));
        for _ in 0..if triple { 3 } else { 1 } {
            cursor.next();
        }
        string(cursor, quote, triple, &mut text, &start)?;
        cursor.spaces();
    }
    Ok(Value::Text(text))
}

/// A string from behind its opening quote.
fn string(cursor: &mut Cursor<'_>, quote: char, triple: bool, text: &mut String, start: &Cursor<'_>) -> Result<()> {
    let unclosed = || -> Error { start.wrong("a closing quote") };
    let closing = quote.to_string().repeat(3);
    loop {
        if triple && cursor.starts_with(&closing) {
            for _ in 0..3 {
                cursor.next();
            }
            return Ok(());
        }
        match cursor.next().ok_or_else(unclosed)? {
            end if end == quote && !triple => return Ok(()),
            '\n' if !triple => return Err(unclosed()),
            '\\' => match cursor.next().ok_or_else(unclosed)? {
                '\n' => {}
                'n' => text.push('\n'),
                't' => text.push('\t'),
                same @ ('\\' | '\'' | '"') => text.push(same),
                // Python keeps the backslash of an escape that it does not know. Those by number are not needed: no
                // setting of a learned optimizer has one.
                other => text.extend(['\\', other]),
            },
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_as_python_reads_them() {
        for (text, value) in [
            ("3", Value::Integer(3)),
            ("-1_000", Value::Integer(-1000)),
            ("+2", Value::Integer(2)),
            ("1e-3", Value::Float(0.001)),
            ("-.5", Value::Float(-0.5)),
            ("1.", Value::Float(1.0)),
            ("2.5E+3", Value::Float(2500.0)),
            ("None", Value::None),
            ("True", Value::Bool(true)),
            ("()", Value::Sequence(vec![])),
            ("(3)", Value::Integer(3)),
            ("(3,)", Value::Sequence(vec![Value::Integer(3)])),
            ("[3]", Value::Sequence(vec![Value::Integer(3)])),
            ("{'a': 1, 'b': (2,),}", {
                let two = Value::Sequence(vec![Value::Integer(2)]);
                Value::Dictionary(vec![(Value::Text("a".into()), Value::Integer(1)), (Value::Text("b".into()), two)])
            }),
            (r#"'a\'b' "c\n" '''d'e'''"#, Value::Text("a'bc\nd'e".into())),
            (r"'\d'", Value::Text(r"\d".into())),
            ("@s/t/mod.Name()", Value::Reference { scope: "s/t", name: "mod.Name" }),
            ("@Name", Value::Reference { scope: "", name: "Name" }),
            ("%gin.REQUIRED", Value::Macro("gin.REQUIRED")),
        ] {
            assert_eq!(Value::parse(text).unwrap(), value, "{text}");
        }
    }

    #[test]
    fn numbers_that_python_does_not_know_are_refused() {
        for text in ["1.2.3", "-", "1e", "0x1f", "1e999", "-inf", "5nan", "."] {
            let error = Value::parse(text).unwrap_err().to_string();
            assert!(error.contains("a number") || error.contains("a value"), "{text}: {error}");
        }
        // Python's integers have no end; ours turn into the nearest number.
        assert_eq!(Value::parse(&"9".repeat(40)).unwrap(), Value::Float(1e40));
    }
}
