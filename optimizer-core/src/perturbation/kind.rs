//! How perturbations are drawn, as in a recipe:
//!
//! ```toml
//! [estimator]
//! noise = { kind = "low_rank", rank = 1 }                   # or dense (the default), orthogonal
//! ```

use serde::{Deserialize, Serialize};

use super::plan::Plan;
use crate::params::Layout;
use crate::{Error, Result};

/// Largest rank of low-rank noise. Beyond it the factors of most matrices cost more than the matrix.
pub const MOST_RANK: u32 = 64;

/// How a perturbation is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "RecipeForm", into = "RecipeForm")]
pub enum Noise {
    /// Every entry of theta independent and standard normal.
    #[default]
    Dense,
    /// As dense, but the directions of a slot's pairs in one outer step are orthogonal to each other. Each by itself is
    /// distributed exactly as a dense one (Choromanski et al., arXiv 1804.02395).
    Orthogonal,
    /// A matrix `[m, n]` of theta is perturbed by `A Bᵀ / √rank`, A `[m, rank]` and B `[n, rank]` standard normal, where
    /// that takes fewer normals than m · n; every other tensor as in dense (EGGROLL, arXiv 2511.16652).
    LowRank {
        /// Columns of A and B, 1 to [`MOST_RANK`].
        rank: u32,
    },
}

impl Noise {
    /// The name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Orthogonal => "orthogonal",
            Self::LowRank { .. } => "low_rank",
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`Error::Setting`] that names `estimator.noise.rank`.
    pub fn validate(self) -> Result<()> {
        match self {
            Self::LowRank { rank } if !(1..=MOST_RANK).contains(&rank) => {
                Err(Error::setting("estimator.noise.rank", format!("must be 1 to {MOST_RANK}"), rank))
            }
            Self::Dense | Self::Orthogonal | Self::LowRank { .. } => Ok(()),
        }
    }

    /// Checks that a slot may have this many pairs, for a theta of `size` values.
    ///
    /// # Errors
    /// [`Error::Setting`] that names `outer.pairs_per_slot`: no space has more orthogonal directions than dimensions.
    pub fn check_pairs(self, pairs: u32, size: usize) -> Result<()> {
        match self {
            Self::Orthogonal if pairs as usize > size => {
                let reason = format!("must not exceed the {size} values of theta, whose directions are orthogonal");
                Err(Error::setting("outer.pairs_per_slot", reason, pairs))
            }
            Self::Dense | Self::Orthogonal | Self::LowRank { .. } => Ok(()),
        }
    }

    /// Normals of one pair's stream, for a theta of this layout.
    pub fn normals(self, layout: &Layout) -> u64 {
        Plan::new(self, layout).normals
    }

    /// What one term of a weighted sum costs on average, where a slot has `pairs` pairs.
    pub fn term_cost(self, pairs: u32, layout: &Layout) -> TermCost {
        let plan = Plan::new(self, layout);
        let normals = plan.normals as f64;
        match self {
            Self::Dense => TermCost { normals, adds: normals, products: 0.0 },
            // The Gram matrix has a row for each pair; the raw normals are drawn for it and again for the sum.
            Self::Orthogonal => {
                let row = (f64::from(pairs) + 1.0) / 2.0;
                TermCost { normals: 2.0 * normals, adds: normals, products: row * normals }
            }
            Self::LowRank { .. } => {
                let products = plan.factored().map(|matrix| matrix.rank * matrix.rows * matrix.columns).sum::<usize>();
                let factors = plan.factored().map(|matrix| matrix.rank * (matrix.rows + matrix.columns)).sum::<usize>();
                TermCost { normals, adds: normals - factors as f64, products: products as f64 }
            }
        }
    }
}

/// What one term of a weighted sum costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TermCost {
    /// Normals drawn.
    pub normals: f64,
    /// Multiply-adds into the sum.
    pub adds: f64,
    /// Multiply-adds inside matrix products.
    pub products: f64,
}

/// The flat form: with an internally tagged enum serde would ignore a rank beside `kind = "dense"`.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecipeForm {
    kind: KindName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rank: Option<u32>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindName {
    Dense,
    Orthogonal,
    LowRank,
}

impl TryFrom<RecipeForm> for Noise {
    type Error = &'static str;

    fn try_from(form: RecipeForm) -> Result<Self, &'static str> {
        match (form.kind, form.rank) {
            (KindName::Dense, None) => Ok(Self::Dense),
            (KindName::Orthogonal, None) => Ok(Self::Orthogonal),
            (KindName::LowRank, Some(rank)) => Ok(Self::LowRank { rank }),
            (KindName::LowRank, None) => Err("kind = \"low_rank\" needs `rank`, 1 is the cheapest"),
            (KindName::Dense | KindName::Orthogonal, Some(_)) => Err("`rank` belongs to kind = \"low_rank\""),
        }
    }
}

impl From<Noise> for RecipeForm {
    fn from(noise: Noise) -> Self {
        let (kind, rank) = match noise {
            Noise::Dense => (KindName::Dense, None),
            Noise::Orthogonal => (KindName::Orthogonal, None),
            Noise::LowRank { rank } => (KindName::LowRank, Some(rank)),
        };
        Self { kind, rank }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_are_read_and_written_and_wrong_keys_named() {
        for (noise, text) in [
            (Noise::Dense, r#"{"kind":"dense"}"#),
            (Noise::Orthogonal, r#"{"kind":"orthogonal"}"#),
            (Noise::LowRank { rank: 3 }, r#"{"kind":"low_rank","rank":3}"#),
        ] {
            assert_eq!(serde_json::to_string(&noise).unwrap(), text);
            assert_eq!(serde_json::from_str::<Noise>(text).unwrap(), noise);
        }
        for (text, word) in [
            (r#"{"kind":"dense","rank":1}"#, "low_rank"),
            (r#"{"kind":"low_rank"}"#, "rank"),
            (r#"{"kind":"low_rank","rank":1,"ranks":1}"#, "ranks"),
            (r#"{"kind":"sparse"}"#, "sparse"),
        ] {
            let error = serde_json::from_str::<Noise>(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error} should name {word}");
        }
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let field = |result: Result<()>| match result {
            Err(Error::Setting { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        for rank in [0, MOST_RANK + 1, u32::MAX] {
            assert_eq!(field(Noise::LowRank { rank }.validate()), "estimator.noise.rank");
        }
        Noise::LowRank { rank: MOST_RANK }.validate().unwrap();
        assert_eq!(field(Noise::Orthogonal.check_pairs(8, 7)), "outer.pairs_per_slot");
        Noise::Orthogonal.check_pairs(7, 7).unwrap();
        Noise::Dense.check_pairs(8, 7).unwrap();
    }
}
