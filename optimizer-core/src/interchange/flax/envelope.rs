//! What stands around theta.

use super::super::msgpack::{Item, Reader, Writer};
use super::super::quote::quoted;
use crate::{Error, Result};

/// How a flax file holds theta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A map of `params`, `gen_id` and `step` (google/learned_optimization, class ParameterCheckpoint).
    Checkpoint,
    /// The same as a tuple: keys `0`, `1`, `2`. The reference's oldest releases, all of one HyperV2.
    Triple,
    /// Theta alone (amoudgl/celo).
    Theta,
}

impl Form {
    /// The keys of theta, name and step.
    fn keys(self) -> Option<[&'static str; 3]> {
        match self {
            Self::Checkpoint => Some(["params", "gen_id", "step"]),
            Self::Triple => Some(["0", "1", "2"]),
            Self::Theta => None,
        }
    }

    /// A file of this form around what `theta` writes. `Theta` has no place for name and step.
    pub(in crate::interchange) fn write(self, name: &str, step: u64, theta: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::default();
        match self.keys() {
            None => theta(&mut writer),
            Some([theta_key, name_key, step_key]) => {
                writer.map(3);
                writer.text(theta_key);
                theta(&mut writer);
                writer.text(name_key);
                writer.text(name);
                writer.text(step_key);
                writer.unsigned(step);
            }
        }
        writer.into_bytes()
    }
}

/// A file, opened as far as theta.
#[derive(Clone, Debug)]
pub(in crate::interchange) struct Envelope<'a> {
    pub(in crate::interchange) form: Form,
    /// At theta's map.
    pub(in crate::interchange) theta: Reader<'a>,
    /// `gen_id`: the run, and which of its processes. Empty where there is none.
    pub(in crate::interchange) name: String,
    /// Outer steps.
    pub(in crate::interchange) step: u64,
}

/// Longest `gen_id`.
const LONGEST_NAME: usize = 256;

impl<'a> Envelope<'a> {
    /// Opens a file; the whole of it is passed over once, so damage anywhere in its frame is found here.
    ///
    /// # Errors
    /// [`Error::Foreign`] if it is no MessagePack map, holds an unknown or a repeated key beside theta, or lacks one.
    pub(in crate::interchange) fn open(bytes: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, 0);
        let start = reader;
        let entries = match reader.item()? {
            Item::Map(entries) => entries,
            other => return Err(Error::foreign("byte 0", "a map, as flax writes it", other.words())),
        };
        let form = match { reader }.item() {
            Ok(Item::Text("params" | "gen_id" | "step")) => Form::Checkpoint,
            Ok(Item::Text("0" | "1" | "2")) => Form::Triple,
            _ => Form::Theta,
        };
        let Some(keys) = form.keys() else {
            { start }.skip().and_then(|()| ended(start))?;
            return Ok(Self { form, theta: start, name: String::new(), step: 0 });
        };
        let mut places = [None; 3];
        for _ in 0..entries {
            let offset = reader.offset();
            let key = reader.item()?;
            let known = keys.iter().position(|known| key == Item::Text(known));
            let Some(index) = known else {
                let expected = format!("one of the keys {}", keys.map(|key| format!("{key:?}")).join(", "));
                return Err(Error::foreign(format!("byte {offset}"), expected, key.words()));
            };
            if places[index].replace(reader).is_some() {
                return Err(Error::foreign(format!("byte {offset}"), "a key once", format!("{} again", key.words())));
            }
            reader.skip()?;
        }
        reader.end()?;
        let place = |index: usize| {
            places[index].ok_or_else(|| {
                Error::foreign("byte 0", format!("a map with the key {:?}", keys[index]), format!("{entries} others"))
            })
        };
        Ok(Self { form, theta: place(0)?, name: name(place(1)?)?, step: step(place(2)?)? })
    }
}

fn ended(mut reader: Reader<'_>) -> Result<()> {
    reader.skip()?;
    reader.end()
}

fn name(mut reader: Reader<'_>) -> Result<String> {
    let place = format!("byte {} (gen_id)", reader.offset());
    match reader.item()? {
        Item::Text(name) if name.len() <= LONGEST_NAME && !name.chars().any(char::is_control) => Ok(name.to_owned()),
        Item::Text(name) => {
            let expected = format!("at most {LONGEST_NAME} bytes without control characters");
            Err(Error::foreign(place, expected, quoted(name)))
        }
        other => Err(Error::foreign(place, "text", other.words())),
    }
}

/// The step is a Python number, or a NumPy or JAX scalar of an integer dtype.
fn step(mut reader: Reader<'_>) -> Result<u64> {
    let place = format!("byte {} (step)", reader.offset());
    let item = reader.item()?;
    let value = match item {
        Item::Unsigned(step) => Some(step),
        Item::Extension(1 | 3, payload) => integer_scalar(payload),
        _ => None,
    };
    value.ok_or_else(|| Error::foreign(place, "a whole number that is not negative", item.words()))
}

fn integer_scalar(payload: &[u8]) -> Option<u64> {
    let mut reader = Reader::new(payload, 0);
    let (shape, axes) = (reader.item().ok()?, reader.item().ok()?);
    let (dtype, data) = (reader.item().ok()?, reader.item().ok()?);
    reader.end().ok()?;
    match (shape, axes, dtype, data) {
        (Item::Array(3), Item::Array(0), Item::Text("int32"), Item::Binary(data)) => {
            u64::try_from(i32::from_le_bytes(data.try_into().ok()?)).ok()
        }
        (Item::Array(3), Item::Array(0), Item::Text("int64"), Item::Binary(data)) => {
            u64::try_from(i64::from_le_bytes(data.try_into().ok()?)).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key, and what writes its value.
    type Entry<'a> = (&'a str, &'a dyn Fn(&mut Writer));

    fn file(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.map(entries.len());
        for (key, value) in entries {
            writer.text(key);
            value(&mut writer);
        }
        writer.into_bytes()
    }

    #[test]
    fn keys_may_come_in_any_order_but_once_and_no_others() {
        let theta = |writer: &mut Writer| writer.map(0);
        let name = |writer: &mut Writer| writer.text("run-7");
        let step = |writer: &mut Writer| writer.unsigned(9);
        let open = |entries: &[Entry<'_>]| {
            Envelope::open(&file(entries)).map(|envelope| (envelope.form, envelope.name, envelope.step))
        };
        let whole = open(&[("step", &step), ("params", &theta), ("gen_id", &name)]).unwrap();
        assert_eq!(whole, (Form::Checkpoint, "run-7".to_owned(), 9));
        assert_eq!(open(&[("0", &theta), ("1", &name), ("2", &step)]).unwrap().0, Form::Triple);
        assert_eq!(open(&[("nn", &theta)]).unwrap(), (Form::Theta, String::new(), 0));
        for (entries, word) in [
            (&[("params", &theta as &dyn Fn(&mut Writer)), ("gen_id", &name)][..], "\"step\""),
            (&[("params", &theta), ("gen_id", &name), ("step", &step), ("step", &step)], "again"),
            (&[("params", &theta), ("gen_id", &name), ("step", &name)], "(step): expected a whole number"),
            (&[("params", &theta), ("gen_id", &step), ("step", &step)], "(gen_id): expected text"),
            (&[("params", &theta), ("gen_id", &name), ("more", &step)], "found the text \"more\""),
        ] {
            let error = open(entries).unwrap_err().to_string();
            assert!(error.contains(word), "{error} should say {word}");
        }
    }

    #[test]
    fn a_step_may_be_a_scalar_of_an_integer_dtype() {
        let scalar = |dtype: &'static str, data: &'static [u8]| {
            move |writer: &mut Writer| {
                let mut inner = Writer::default();
                inner.array(3);
                inner.array(0);
                inner.text(dtype);
                inner.binary(data);
                writer.extension(3, &inner.into_bytes());
            }
        };
        assert_eq!(step(Reader::new(&file(&[("", &scalar("int32", &[7, 0, 0, 0]))])[2..], 0)).unwrap(), 7);
        assert_eq!(
            step(Reader::new(&file(&[("", &scalar("int64", &[7, 1, 0, 0, 0, 0, 0, 0]))])[2..], 0)).unwrap(),
            263
        );
        for wrong in [scalar("int32", &[0, 0, 0, 0x80]), scalar("int32", &[7]), scalar("float32", &[0; 4])] {
            assert!(step(Reader::new(&file(&[("", &wrong)])[2..], 0)).is_err());
        }
    }
}
