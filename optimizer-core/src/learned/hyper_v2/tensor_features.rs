//! What the LSTM is told about a tensor.
//!
//! ```text
//!  index   0 … 8           9 … 17          18         19 … 23   24 … 26   27 … 29    (30)
//!          time            loss features   mean_rms   rank      var_m     var_rms    validation
//! ```
//!
//! All statistics are of the parameters and accumulators *before* this step's gradient enters. With
//! `s = 1/√max(1e-9, mean p²)`, momenta and the second moment are multiplied by `s` (the second moment too, although it
//! is a square), and `var_rms` is centred on the means of the momenta: quirks of the reference that its weights rely on.

use crate::learned::course::Course;
use crate::learned::float::{log_magnitude, safe_rsqrt};
use crate::learned::hyper_v2::statistics::Statistics;

/// Number of features without the validation flag.
pub(super) const FEATURES: usize = 30;

/// Axes longer than one that are told apart; more give no signal at all.
const RANKS: usize = 5;

/// Features that all tensors of a lane share.
#[derive(Debug)]
pub(super) struct SharedFeatures {
    /// Of time and loss.
    pub(super) course: Course,
    /// The validation flag, where there is one.
    pub(super) validation: Option<f32>,
}

/// `½ clip(ln(1e-8 + |10 x|), ±5)`.
fn log_size(x: f32) -> f32 {
    0.5 * log_magnitude(10.0 * x)
}

/// Appends the features of one tensor: parameters `p` `[size]`, momenta `m` `[3, size]`, second moment `rms` `[size]`.
pub(super) fn append(
    features: &mut Vec<f32>,
    shared: &SharedFeatures,
    shape: &[usize],
    p: &[f32],
    m: &[f32],
    rms: &[f32],
) {
    let statistics = Statistics::of(p, m, rms);
    let scale = safe_rsqrt(statistics.mean_square as f32);
    let scaled = |x: f64, scale: f32| x * f64::from(scale);
    let centres = statistics.m.map(|m| scaled(m.mean, scale));
    let square = f64::from(scale) * f64::from(scale);
    features.extend(shared.course);
    features.push(log_size(scaled(statistics.rms.mean, scale) as f32));
    let rank = shape.iter().filter(|&&axis| axis > 1).count();
    features.extend((0..RANKS).map(|candidate| if candidate == rank { 1.0 } else { 0.0 }));
    features.extend(statistics.m.map(|m| log_size((m.variance * square) as f32)));
    features.extend(centres.map(|centre| {
        let apart = scaled(statistics.rms.mean, scale) - centre;
        log_size((statistics.rms.variance * square + apart * apart) as f32)
    }));
    features.extend(shared.validation);
}
