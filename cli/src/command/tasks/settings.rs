//! `--set key=value`: settings as they are written in a recipe.
//!
//! ```text
//!  --set hidden=[64,32] --set data=mnist ─► {"hidden": [64, 32], "data": "mnist"}
//! ```
//!
//! A value is TOML. A bare word, which is none, is text: shells take quotes away. A dotted key is a key of a table.

use serde_json::{Map, Value};

use crate::failure::{Exit, Failure};

/// The settings given for a family.
pub(super) fn parse(family: &str, given: &[String]) -> Result<Map<String, Value>, Failure> {
    let mut settings = Map::new();
    for argument in given {
        let (key, value) =
            argument.split_once('=').map_or((argument.trim(), None), |(k, v)| (k.trim(), Some(v.trim())));
        let refuse = |reason: String| {
            let message = format!("task family {family}: {key:?} of --set {reason}");
            Failure::new(Exit::BadInput, "TASK_SETTING_INVALID", message)
                .help("write --set key=value, the value as in TOML: --set image_size=16 --set 'hidden=[64, 32]'")
        };
        let value = value.ok_or_else(|| refuse("has no value".into()))?;
        merge(&mut settings, one(key, value).map_err(&refuse)?).map_err(refuse)?;
    }
    Ok(settings)
}

/// One setting as a table.
fn one(key: &str, value: &str) -> Result<Map<String, Value>, String> {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if key.is_empty() || !key.chars().all(is_bare) {
        return Err("is no name of a setting".into());
    }
    let read = |value: &str| toml::from_str::<toml::Table>(&format!("{key} = {value}"));
    let is_word = value.starts_with(|c: char| c.is_ascii_alphabetic()) && value.chars().all(is_bare);
    let table = match read(value) {
        Err(_) if is_word => read(&format!("\"{value}\"")),
        table => table,
    };
    let table = table.map_err(|error| format!("has a value that is not TOML, {value:?}: {}", error.message()))?;
    match json(toml::Value::Table(table))? {
        Value::Object(table) if table.len() == 1 => Ok(table),
        _ => Err("has more than one value".into()),
    }
}

/// A TOML value as the families read it.
fn json(value: toml::Value) -> Result<Value, String> {
    Ok(match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        // JSON has no such numbers, and would drop them without a word.
        toml::Value::Float(number) if !number.is_finite() => return Err(format!("must be finite (got {number})")),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(truth) => truth.into(),
        toml::Value::Datetime(date) => return Err(format!("is a date ({date}), which no setting is")),
        toml::Value::Array(values) => values.into_iter().map(json).collect::<Result<Vec<_>, _>>()?.into(),
        toml::Value::Table(table) => {
            let entries = table.into_iter().map(|(key, value)| Ok((key, json(value)?)));
            Value::Object(entries.collect::<Result<_, String>>()?)
        }
    })
}

/// Adds `new` to `all`, tables into tables.
fn merge(all: &mut Map<String, Value>, new: Map<String, Value>) -> Result<(), String> {
    for (key, value) in new {
        match (all.get_mut(&key), value) {
            (None, value) => {
                all.insert(key, value);
            }
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new)?,
            (Some(_), _) => return Err("is given twice".into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(given: &[&str]) -> Result<Value, Failure> {
        let given: Vec<_> = given.iter().map(|&text| text.to_owned()).collect();
        parse("f", &given).map(Value::Object)
    }

    #[test]
    fn values_are_toml_and_bare_words_are_text() {
        for (given, expected) in [
            (&[][..], json!({})),
            (&["a=1", "b = -2.5"], json!({"a": 1, "b": -2.5})),
            (&["a=true", "b=tru"], json!({"a": true, "b": "tru"})),
            (&["data=mnist", "name=\"x y\""], json!({"data": "mnist", "name": "x y"})),
            (&["hidden=[64, 32]", "none=[]"], json!({"hidden": [64, 32], "none": []})),
            (&["a.b=1", "a.c=x", "d={e=2}"], json!({"a": {"b": 1, "c": "x"}, "d": {"e": 2}})),
            (&["a=\"x=y\""], json!({"a": "x=y"})),
        ] {
            assert_eq!(parsed(given).expect("right"), expected, "{given:?}");
        }
    }

    #[test]
    fn what_is_wrong_names_family_and_key() {
        for (given, expected) in [
            (&["a"][..], "has no value"),
            (&["a="], "not TOML"),
            (&["a=[1"], "not TOML"),
            (&["a=1\nb=2"], "has more than one value"),
            (&["a=1", "a=2"], "is given twice"),
            (&["a=1", "a.b=2"], "is given twice"),
            (&["a=nan"], "must be finite"),
            (&["a=[1.0, -inf]"], "must be finite"),
            (&["a=2020-01-01"], "is a date"),
        ] {
            let failure = parsed(given).expect_err("wrong");
            assert_eq!(failure.exit, Exit::BadInput);
            let key = if given.last().is_some_and(|text| text.starts_with("a.b")) { "a.b" } else { "a" };
            let start = format!("task family f: {key:?} of --set ");
            assert!(failure.message.starts_with(&start) && failure.message.contains(expected), "{}", failure.message);
        }
        for given in ["=1", "a b=1", "ä=1"] {
            let failure = parsed(&[given]).expect_err("wrong");
            assert!(failure.message.contains("is no name of a setting"), "{}", failure.message);
        }
    }
}
