//! What the tasks of a family may draw, each its own: the activation and the initial weights.
//!
//! ```text
//!  settings: activation = ["relu", "tanh"], initialiser = "orthogonal", initial_scale = [0.5, 2.0]
//!      └─ seed of a task ─► Choice { tanh, orthogonal, 1.31 }
//! ```
//!
//! One value is what every task has; a list is drawn from, uniformly. The parametric families of the JAX reference draw
//! both (`tasks/parametric/parametric_utils.py`, google/learned_optimization @ 32186aa4).

use std::fmt;

use paceline_optimizer_core::noise::Draws;
use paceline_optimizer_core::{Purpose, Seed};
use serde::{Deserialize, Serialize};

use crate::layers::Nonlinearity;
use crate::problem::{Initial, Parameters};

/// One value, or several to draw from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOf<T> {
    /// Every task has this one.
    One(T),
    /// Each task draws one of these.
    Any(Vec<T>),
}

impl<T: Copy> OneOf<T> {
    fn draw(&self, draws: &mut Draws) -> Option<T> {
        match self {
            Self::One(value) => Some(*value),
            Self::Any(values) => {
                let count = u32::try_from(values.len()).ok().filter(|count| *count > 0)?;
                Some(values[draws.below(count) as usize])
            }
        }
    }
}

/// How weights (tensors of two and more axes) begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Initialiser {
    /// As the model says; most say truncated normal over the root of the fan-in.
    Default,
    /// Orthogonal (Saxe et al., arXiv 1312.6120).
    Orthogonal,
    /// Uniform of variance 1 / fan-in.
    UniformFanIn,
    /// Truncated normal of variance 1 / fan-in.
    FanIn,
    /// Truncated normal of variance 1 / fan-out.
    FanOut,
    /// Truncated normal of variance 2 / (fan-in + fan-out) (Glorot, Bengio 2010).
    FanAverage,
}

/// A scale, or a range to draw one from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Scale {
    /// Every task has this one.
    Fixed(f32),
    /// Uniform between two.
    Between([f32; 2]),
}

/// What a family lets its tasks draw.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Choices {
    /// Hidden activation.
    pub(crate) activation: OneOf<Nonlinearity>,
    /// Initial weights.
    pub(crate) initialiser: OneOf<Initialiser>,
    /// Factor of the initial weights.
    pub(crate) scale: Scale,
}

impl fmt::Display for Choices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.activation {
            OneOf::One(activation) => write!(f, "{activation:?}")?,
            OneOf::Any(activations) => write!(f, "any of {activations:?}")?,
        }
        match &self.initialiser {
            OneOf::One(Initialiser::Default) => {}
            OneOf::One(initialiser) => write!(f, ", {initialiser:?}")?,
            OneOf::Any(initialisers) => write!(f, ", any of {initialisers:?}")?,
        }
        match self.scale {
            Scale::Fixed(1.0) => Ok(()),
            Scale::Fixed(scale) => write!(f, ", weights times {scale}"),
            Scale::Between([low, high]) => write!(f, ", weights times {low} to {high}"),
        }
    }
}

impl Default for Choices {
    fn default() -> Self {
        Self {
            activation: OneOf::One(Nonlinearity::Relu),
            initialiser: OneOf::One(Initialiser::Default),
            scale: Scale::Fixed(1.0),
        }
    }
}

/// What one task drew.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Choice {
    /// Hidden activation.
    pub(crate) activation: Nonlinearity,
    initialiser: Initialiser,
    scale: f32,
}

impl Choices {
    /// What is wrong with them, naming the setting.
    pub(crate) fn fault(&self) -> Option<String> {
        if matches!(&self.activation, OneOf::Any(values) if values.is_empty()) {
            return Some("activation must list at least one".into());
        }
        if matches!(&self.initialiser, OneOf::Any(values) if values.is_empty()) {
            return Some("initialiser must list at least one".into());
        }
        let bounds = match self.scale {
            Scale::Fixed(scale) => [scale, scale],
            Scale::Between(bounds) => bounds,
        };
        let fine = bounds.iter().all(|bound| bound.is_finite() && *bound > 0.0) && bounds[0] <= bounds[1];
        (!fine).then(|| format!("initial_scale must be positive, and a range in order (got {bounds:?})"))
    }

    /// What the task of this seed draws.
    pub(crate) fn draw(&self, seed: Seed) -> Choice {
        let mut draws = Draws::new(seed.purpose(Purpose::Instance));
        let activation = self.activation.draw(&mut draws).unwrap_or(Nonlinearity::Relu);
        let initialiser = self.initialiser.draw(&mut draws).unwrap_or(Initialiser::Default);
        let scale = match self.scale {
            Scale::Fixed(scale) => scale,
            Scale::Between([low, high]) => low + (high - low) * draws.uniform() as f32,
        };
        Choice { activation, initialiser, scale }
    }
}

impl Choice {
    /// How tensor `index` begins.
    pub(crate) fn initial(&self, parameters: &Parameters, index: usize) -> Initial {
        let (spec, default) = (&parameters.layout().tensors()[index], parameters.initial(index));
        let [fan_in @ .., outputs] = spec.shape() else { return default.clone() };
        if fan_in.is_empty() {
            return default.clone();
        }
        let (inputs, outputs) = (fan_in.iter().product::<usize>() as f32, *outputs as f32);
        let receptive = fan_in[..fan_in.len() - 1].iter().product::<usize>() as f32;
        let fan_out = receptive * outputs;
        // The cut at two deviations keeps 0.8796 of a normal's deviation.
        let truncated =
            |variance: f32| Initial::TruncatedNormal { deviation: self.scale * variance.sqrt() / 0.879_626 };
        match self.initialiser {
            Initialiser::Default => default.scaled(self.scale),
            Initialiser::Orthogonal => Initial::Orthogonal { gain: self.scale },
            Initialiser::UniformFanIn => Initial::Uniform { limit: self.scale * (3.0 / inputs).sqrt() },
            Initialiser::FanIn => truncated(1.0 / inputs),
            Initialiser::FanOut => truncated(1.0 / fan_out),
            Initialiser::FanAverage => truncated(2.0 / (inputs + fan_out)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_drawn_from_and_single_values_are_not() {
        let one = Choices::default();
        assert!((0..50).all(|seed| one.draw(Seed::new(seed)) == one.draw(Seed::new(0))));
        let any = Choices {
            activation: OneOf::Any(vec![Nonlinearity::Relu, Nonlinearity::Tanh]),
            initialiser: OneOf::Any(vec![Initialiser::Orthogonal, Initialiser::FanOut]),
            scale: Scale::Between([0.5, 2.0]),
        };
        let drawn: Vec<Choice> = (0..200).map(|seed| any.draw(Seed::new(seed))).collect();
        let tanh = drawn.iter().filter(|choice| choice.activation == Nonlinearity::Tanh).count();
        assert!((70..130).contains(&tanh), "{tanh} of 200");
        assert!(drawn.iter().all(|choice| (0.5..2.0).contains(&choice.scale)));
        assert_eq!(any.draw(Seed::new(3)), drawn[3]);
    }

    #[test]
    fn settings_are_a_word_or_a_list() {
        let read = |text: &str| serde_json::from_str::<OneOf<Nonlinearity>>(text);
        assert_eq!(read("\"tanh\"").unwrap(), OneOf::One(Nonlinearity::Tanh));
        assert_eq!(read("[\"tanh\"]").unwrap(), OneOf::Any(vec![Nonlinearity::Tanh]));
        assert!(read("\"tan\"").is_err() && read("3").is_err());
        for (choices, expected) in [
            (Choices { activation: OneOf::Any(vec![]), ..Choices::default() }, "activation"),
            (Choices { initialiser: OneOf::Any(vec![]), ..Choices::default() }, "initialiser"),
            (Choices { scale: Scale::Between([2.0, 1.0]), ..Choices::default() }, "initial_scale"),
            (Choices { scale: Scale::Fixed(f32::NAN), ..Choices::default() }, "initial_scale"),
        ] {
            assert!(choices.fault().unwrap().contains(expected));
        }
        assert_eq!(Choices::default().fault(), None);
    }
}
