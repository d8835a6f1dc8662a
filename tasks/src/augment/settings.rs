//! From a recipe's `augment` to augmentations.
//!
//! ```text
//!  augment = "velo"                                        VeLO's whole set
//!  augment = [{ kind = "reparam", level = "global", range = [1e-3, 1e3], probability = 0.5 },
//!             { kind = "es", sigma = { log_uniform = [1e-3, 0.1] }, pairs = 4 }]
//! ```
//!
//! They are applied in this order, the first innermost. `probability` (1) and whatever is no plain number are decided for
//! each member of the family. Read by hand and not by serde, so that a refusal names the entry and the key.

use paceline_optimizer_core::noise::Draws;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::change::Change;
use super::delay::Delay;
use super::directions::Directions;
use super::es::Es;
use super::gradient::{Noise, Normalise};
use super::half::Half;
use super::numbers::{Choice, Number};
use super::reparam::{Level, Reparam};

/// Most augmentations of one family.
const MAX_ENTRIES: usize = 32;

/// One entry of the list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Entry {
    #[serde(flatten)]
    pub(super) kind: Kind,
    /// Share of the members it applies to.
    pub(super) probability: f64,
}

/// An augmentation whose numbers may still be distributions.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Kind {
    Reparam { level: Choice<Level>, range: Choice<[f64; 2]> },
    ReducedBatch { fraction: Number },
    Es { sigma: Number, pairs: Number },
    HalfPrecision,
    NormaliseGradient,
    GradientNoise { deviation: Number },
    Directions { count: Number, sign: Choice<bool> },
    Delay { steps: Number },
}

/// What an entry does to one member.
pub(super) enum Drawn {
    /// Wraps it.
    Change(Box<dyn Change>),
    /// Builds it with this share of its batch.
    Batch(f64),
}

/// How a member's numbers are found.
pub(super) enum Numbers<'a> {
    /// Drawn.
    Of(&'a mut Draws),
    /// The middle of each distribution.
    Typical,
}

impl Numbers<'_> {
    fn number(&mut self, number: &Number) -> f64 {
        match self {
            Self::Of(draws) => number.draw(draws),
            Self::Typical => number.typical(),
        }
    }

    /// Whole numbers are checked to be small and positive when they are read.
    fn count(&mut self, number: &Number) -> u32 {
        self.number(number).round() as u32
    }

    fn choice<T: Copy>(&mut self, choice: &Choice<T>) -> T {
        match self {
            Self::Of(draws) => choice.draw(draws),
            Self::Typical => choice.typical(),
        }
    }
}

impl Entry {
    /// Whether members differ in it.
    pub(super) fn is_drawn(&self) -> bool {
        let numbers = match &self.kind {
            Kind::Reparam { level, range } => level.is_drawn() || range.is_drawn(),
            Kind::ReducedBatch { fraction: number }
            | Kind::GradientNoise { deviation: number }
            | Kind::Delay { steps: number } => number.is_drawn(),
            Kind::Es { sigma, pairs } => sigma.is_drawn() || pairs.is_drawn(),
            Kind::Directions { count, sign } => count.is_drawn() || sign.is_drawn(),
            Kind::HalfPrecision | Kind::NormaliseGradient => false,
        };
        numbers || (self.probability > 0.0 && self.probability < 1.0)
    }

    /// What it does, at its place of the list, to a member it applies to.
    pub(super) fn drawn(&self, place: u64, mut numbers: Numbers<'_>) -> Drawn {
        Drawn::Change(match &self.kind {
            Kind::Reparam { level, range } => {
                Box::new(Reparam { level: numbers.choice(level), range: numbers.choice(range), place })
            }
            Kind::ReducedBatch { fraction } => return Drawn::Batch(numbers.number(fraction)),
            Kind::Es { sigma, pairs } => {
                Box::new(Es { sigma: numbers.number(sigma), pairs: numbers.count(pairs), place })
            }
            Kind::HalfPrecision => Box::new(Half),
            Kind::NormaliseGradient => Box::new(Normalise),
            Kind::GradientNoise { deviation } => Box::new(Noise { deviation: numbers.number(deviation), place }),
            Kind::Directions { count, sign } => {
                Box::new(Directions { count: numbers.count(count), sign: numbers.choice(sign), place })
            }
            Kind::Delay { steps } => Box::new(Delay { steps: numbers.count(steps) }),
        })
    }

    /// Whether it changes gradients, which an entry of evolution strategies behind it would not look at.
    fn changes_gradients(&self) -> bool {
        match self.kind {
            Kind::Reparam { .. } | Kind::ReducedBatch { .. } | Kind::HalfPrecision => false,
            Kind::Es { .. }
            | Kind::NormaliseGradient
            | Kind::GradientNoise { .. }
            | Kind::Directions { .. }
            | Kind::Delay { .. } => true,
        }
    }
}

/// One augmentation, for people.
#[derive(Clone, Debug)]
pub struct AugmentationInfo {
    /// Its `kind` in a recipe.
    pub kind: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// Its settings; those that must be given show an example.
    pub settings: Value,
}

/// Every augmentation that an entry of `augment` may name. Any family takes them, in any number; `augment = "velo"` is
/// VeLO's whole set.
pub fn augmentations() -> Vec<AugmentationInfo> {
    let of = |kind, summary, settings| AugmentationInfo { kind, summary, settings };
    vec![
        of(
            "reparam",
            "weights on other scales: exp U[ln a, ln b] for all of a task, a tensor or a parameter",
            json!({"level": "global", "range": [1e-3, 1e3]}),
        ),
        of("reduced_batch", "a share of the batch", json!({"fraction": 0.5})),
        of("es", "gradients by antithetic evolution strategies", json!({"sigma": 0.01, "pairs": 8})),
        of("half_precision", "parameters and gradients rounded to bfloat16", json!({})),
        of("normalise_gradient", "gradients of length 1", json!({})),
        of("gradient_noise", "normal noise, in units of the gradient's root mean square", json!({"deviation": 0.1})),
        of("directions", "the gradient, or its sign, in some random directions", json!({"count": 16, "sign": false})),
        of("delay", "gradients of some steps ago", json!({"steps": 1})),
    ]
}

/// VeLO's augmentations, in order (`research/general_lopt` of google/learned_optimization @ 32186aa4): the reference's
/// probabilities and ranges. Counts of directions are rounded; the reference draws them as floats. `batch` says whether
/// the family has a batch to reduce.
fn velo(batch: bool) -> Vec<Value> {
    let mut all = vec![
        json!({
            "kind": "reparam",
            "level": {"one_of": ["none", "none", "global", "global", "tensor", "tensor", "parameter"]},
            "range": {"one_of": [[1e-3, 1e3], [1e-2, 1e2], [1e-1, 1e1]]},
        }),
        json!({
            "kind": "es",
            "probability": 0.08,
            "sigma": {"log_uniform": [1e-3, 0.1]},
            "pairs": {"one_of": [1, 2, 4, 8, 16]},
        }),
    ];
    if batch {
        all.push(json!({"kind": "reduced_batch", "probability": 0.2, "fraction": {"uniform": [0.01, 1.0]}}));
    }
    all.extend([
        json!({"kind": "half_precision", "probability": 0.2}),
        json!({"kind": "normalise_gradient", "probability": 0.05}),
        json!({
            "kind": "directions",
            "probability": 0.08,
            "count": {"log_uniform": [1, 1024]},
            "sign": {"one_of": [false, true]},
        }),
        json!({"kind": "delay", "probability": 0.05, "steps": {"one_of": [1, 2, 3, 4, 5, 6, 7, 8]}}),
    ]);
    all
}

/// The list as a recipe would write it, with every default.
pub(crate) fn written(entries: &[Entry]) -> Value {
    serde_json::to_value(entries).expect("entries are plain numbers, words and lists")
}

/// Reads `augment`. `batch` says whether the family has a batch to reduce.
///
/// # Errors
/// A sentence that begins with the entry and key at fault.
pub(crate) fn parse(augment: &Value, batch: bool) -> Result<Vec<Entry>, String> {
    let preset;
    let list = match augment {
        Value::String(name) if name == "velo" => {
            preset = velo(batch);
            &preset
        }
        Value::Array(list) => list,
        other => return Err(format!("augment must be a list of tables or \"velo\" (got {other})")),
    };
    if list.len() > MAX_ENTRIES {
        return Err(format!("augment may list up to {MAX_ENTRIES} entries (got {})", list.len()));
    }
    let mut entries: Vec<Entry> = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        let entry = Table::of(index, value)?.entry()?;
        match entry.kind {
            Kind::ReducedBatch { .. } if !batch => {
                return Err(format!("augment[{index}].kind: reduced_batch needs a family with a batch_size"));
            }
            Kind::Es { .. } => {
                if let Some(lost) = entries.iter().position(Entry::changes_gradients) {
                    return Err(format!(
                        "augment[{index}].kind: es replaces the gradient, so what augment[{lost}] does to it would be \
                         lost: put es before it"
                    ));
                }
            }
            _ => {}
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// A table whose keys are taken one by one, so that what is left over is known to be wrong.
struct Table {
    place: String,
    values: Map<String, Value>,
}

impl Table {
    fn of(index: usize, value: &Value) -> Result<Self, String> {
        let place = format!("augment[{index}]");
        match value {
            Value::Object(values) => Ok(Self { place, values: values.clone() }),
            other => Err(format!("{place} must be a table with a kind (got {other})")),
        }
    }

    fn refuse(&self, key: &str, reason: &str) -> String {
        format!("{}.{key} {reason}", self.place)
    }

    fn take<T: DeserializeOwned>(&mut self, key: &str, what: &str, default: Option<T>) -> Result<T, String> {
        let Some(value) = self.values.remove(key) else {
            return default.ok_or_else(|| self.refuse(key, &format!("is missing: {what}")));
        };
        let shown = value.to_string();
        serde_json::from_value(value).map_err(|_| self.refuse(key, &format!("must be {what} (got {shown})")))
    }

    fn number(
        &mut self,
        key: &str,
        [low, high]: [f64; 2],
        whole: bool,
        default: Option<f64>,
    ) -> Result<Number, String> {
        let what = "a number, { uniform = [a, b] }, { log_uniform = [a, b] } or { one_of = [a, b, …] }";
        let number: Number = self.take(key, what, default.map(Number::Fixed))?;
        number.check(low, high, whole).map_err(|reason| self.refuse(key, &reason))?;
        Ok(number)
    }

    fn choice<T: Copy + DeserializeOwned>(
        &mut self,
        key: &str,
        what: &str,
        default: Option<T>,
    ) -> Result<Choice<T>, String> {
        let choice: Choice<T> =
            self.take(key, &format!("{what}, or {{ one_of = [a, b, …] }} of them"), default.map(Choice::Fixed))?;
        if choice.values().is_empty() {
            return Err(self.refuse(key, "has nothing in one_of to choose from"));
        }
        Ok(choice)
    }

    fn entry(mut self) -> Result<Entry, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Name {
            Reparam,
            ReducedBatch,
            Es,
            HalfPrecision,
            NormaliseGradient,
            GradientNoise,
            Directions,
            Delay,
        }
        let kinds: Vec<_> = augmentations().iter().map(|info| info.kind).collect();
        let name = self.take("kind", &format!("one of {}", kinds.join(", ")), None)?;
        let probability: f64 = self.take("probability", "a number from 0 to 1", Some(1.0))?;
        if !(0.0..=1.0).contains(&probability) {
            return Err(self.refuse("probability", &format!("must be a number from 0 to 1 (got {probability})")));
        }
        let kind = match name {
            Name::Reparam => self.reparam()?,
            Name::ReducedBatch => Kind::ReducedBatch { fraction: self.number("fraction", [1e-6, 1.0], false, None)? },
            Name::Es => Kind::Es {
                sigma: self.number("sigma", [1e-6, 1e3], false, Some(0.01))?,
                pairs: self.number("pairs", [1.0, 1024.0], true, Some(8.0))?,
            },
            Name::HalfPrecision => Kind::HalfPrecision,
            Name::NormaliseGradient => Kind::NormaliseGradient,
            Name::GradientNoise => {
                Kind::GradientNoise { deviation: self.number("deviation", [0.0, 1e6], false, None)? }
            }
            Name::Directions => Kind::Directions {
                count: self.number("count", [1.0, 65536.0], true, None)?,
                sign: self.choice("sign", "true or false", Some(false))?,
            },
            Name::Delay => Kind::Delay { steps: self.number("steps", [1.0, 64.0], true, None)? },
        };
        match self.values.keys().next() {
            Some(key) => Err(self.refuse(key, "is not a setting of this kind")),
            None => Ok(Entry { kind, probability }),
        }
    }

    fn reparam(&mut self) -> Result<Kind, String> {
        let level = self.choice("level", "none, global, tensor or parameter", None)?;
        let range: Choice<[f64; 2]> = self.choice("range", "two numbers [a, b]", None)?;
        // Beyond, squares of f32 gradients overflow or vanish.
        let fits = |[low, high]: &[f64; 2]| 1e-9 <= *low && low <= high && *high <= 1e9;
        if let Some([low, high]) = range.values().iter().find(|range| !fits(range)) {
            let reason = format!("must be [a, b] with 1e-9 ≤ a ≤ b ≤ 1e9 (got [{low}, {high}])");
            return Err(self.refuse("range", &reason));
        }
        Ok(Kind::Reparam { level, range })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_as_the_same() {
        for batch in [false, true] {
            let velo = parse(&json!("velo"), batch).unwrap();
            assert_eq!(velo.len(), if batch { 7 } else { 6 });
            assert_eq!(parse(&written(&velo), batch).unwrap(), velo);
        }
        for info in augmentations() {
            let mut entry = info.settings.as_object().unwrap().clone();
            entry.insert("kind".into(), info.kind.into());
            let entries = parse(&json!([entry]), true).unwrap();
            assert!(!entries[0].is_drawn(), "{}", info.kind);
            assert_eq!(parse(&written(&entries), true).unwrap(), entries);
        }
    }
}
