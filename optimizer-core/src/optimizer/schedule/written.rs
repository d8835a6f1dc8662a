//! Schedules in a recipe: a plain number, or a table with a `kind`.

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Schedule;

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Constant { value } => serializer.serialize_f64(*value),
            curve => Self::serialize(curve, serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrTable)
    }
}

/// Reads a schedule. (An untagged enum would, too, but could not say what is wrong with a table.)
struct NumberOrTable;

impl<'de> Visitor<'de> for NumberOrTable {
    type Value = Schedule;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a number, or a table with the kind of a schedule")
    }

    fn visit_f64<E>(self, value: f64) -> Result<Schedule, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Schedule, E> {
        Ok((value as f64).into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Schedule, E> {
        Ok((value as f64).into())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Schedule, A::Error> {
        Schedule::deserialize(MapAccessDeserializer::new(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Schedule {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_number_is_constant_and_written_as_one() {
        assert_eq!(read("0.25"), Schedule::Constant { value: 0.25 });
        assert_eq!(read("3"), Schedule::Constant { value: 3.0 });
        assert_eq!(read(r#"{"kind": "constant", "value": 2}"#), Schedule::Constant { value: 2.0 });
        assert_eq!(serde_json::to_string(&read("0.25")).unwrap(), "0.25");
        assert_eq!(read("0.25").value(17, 3), 0.25);
        let line = Schedule::Linear { init_value: 1.0, end_value: 0.5, steps: 3 };
        assert_eq!(read(&serde_json::to_string(&line).unwrap()), line);
        #[derive(Serialize, Deserialize, PartialEq, Debug)]
        struct Recipe {
            rate: Schedule,
        }
        for rate in [line, 1.5.into()] {
            let text = toml::to_string(&Recipe { rate }).unwrap();
            assert_eq!(toml::to_string(&toml::from_str::<Recipe>(&text).unwrap()).unwrap(), text);
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused_by_name() {
        for (text, said) in [
            (r#"{"kind": "linear", "init_value": 1, "end_value": 2, "steps": 1, "stepz": 1}"#, "stepz"),
            (r#"{"kind": "zigzag"}"#, "zigzag"),
            (r#"{"value": 1}"#, "kind"),
            (r#""fast""#, "a number, or a table"),
        ] {
            let error = serde_json::from_str::<Schedule>(text).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
