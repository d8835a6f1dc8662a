//! What settings must satisfy, named as in a recipe.

use crate::{Error, Result};

/// The decay of a moving average: in `[0, 1)`, also once it is rounded to the f32 that counts.
pub(super) fn decay(field: &str, value: f64) -> Result<()> {
    let rounded = value as f32;
    require(field, value, value >= 0.0 && (0.0..1.0).contains(&rounded), "must lie in [0, 1), as an f32 too")
}

/// At least 0 and finite.
pub(super) fn non_negative(field: &str, value: f64) -> Result<()> {
    require(field, value, value >= 0.0 && value.is_finite(), "must be at least 0 and finite")
}

/// Above 0 and finite.
pub(super) fn positive(field: &str, value: f64) -> Result<()> {
    require(field, value, value > 0.0 && value.is_finite(), "must be positive and finite")
}

/// Whatever `holds` says.
pub(super) fn require(field: &str, value: f64, holds: bool, reason: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::setting(field, reason, value)) }
}
