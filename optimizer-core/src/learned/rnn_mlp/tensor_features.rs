//! What the LSTM is told about a tensor, in the order of the reference's sorted names.
//!
//! ```text
//!  from_lstm [18] │ from_mlp [16] │ g_norm │ is_scalar │ mean_ms_mag, _sign │ mean_rms │ mean_sign (of rms)
//!  mean_v_mag, _sign │ norm_weight │ shape_0 … shape_3 │ train_loss_feat │ valid_loss_feat │ var_ms │ var_rms │ var_v
//! ```
//!
//! Sizes enter as `clip(ln(1e-8 + |x|), ±5)`. Statistics of momenta (`ms`) and second moments are over all elements and
//! all decays together, after this step's gradient has entered; `v` are the parameters before the step.

use crate::learned::float::{ln, log_magnitude, mean, mean_square_around, sign, sum};

/// Number of features beside the messages `from_lstm` and `from_mlp`.
pub(super) const STATISTICS: usize = 18;

/// Axes whose length is told.
const AXES: usize = 4;

/// Features that all tensors of a lane share.
#[derive(Clone, Copy, Debug)]
pub(super) struct SharedFeatures<'a> {
    /// The message of the LSTMs, from the step before.
    pub(super) from_lstm: &'a [f32],
    /// How far the training loss lies from its mean.
    pub(super) train_loss: f32,
    /// How far the mean validation loss lies from the mean training loss.
    pub(super) valid_loss: f32,
}

/// One tensor in one lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct TensorView<'a> {
    /// Shape without lanes.
    pub(super) shape: &'a [usize],
    /// Old parameters, `[size]`.
    pub(super) p: &'a [f32],
    /// Clipped gradient, `[size]`.
    pub(super) g: &'a [f32],
    /// New momenta, `[5, size]`.
    pub(super) m: &'a [f32],
    /// New second moments, `[5, size]`.
    pub(super) rms: &'a [f32],
}

/// Euclidean norm.
pub(super) fn norm(values: &[f32]) -> f32 {
    sum(values, |x| x * x).sqrt() as f32
}

/// Appends the features of one tensor.
pub(super) fn append(features: &mut Vec<f32>, shared: &SharedFeatures<'_>, from_mlp: &[f32], tensor: &TensorView<'_>) {
    let &TensorView { shape, p, g, m, rms } = tensor;
    let [mean_m, mean_rms, mean_p] = [m, rms, p].map(|values| mean(values, |x| x));
    let spread = |values: &[f32], mean: f32| log_magnitude(mean_square_around(values, mean));
    features.extend(shared.from_lstm);
    features.extend(from_mlp);
    features.push(log_magnitude(norm(g)));
    features.push(if shape.is_empty() { 1.0 } else { -1.0 });
    features.extend([log_magnitude(mean_m), sign(mean_m)]);
    features.extend([log_magnitude(mean_rms), sign(mean_rms)]);
    features.extend([log_magnitude(mean_p), sign(mean_p)]);
    features.push(log_magnitude(norm(p)));
    // An axis of length 0 counts as 1: its logarithm would reach the other tensors through the messages.
    let lengths = shape.iter().copied().chain(std::iter::repeat(1)).take(AXES);
    features.extend(lengths.map(|length| ln(length.max(1) as f32) - 1.0));
    features.extend([shared.train_loss, shared.valid_loss]);
    features.extend([spread(m, mean_m), spread(rms, mean_rms), spread(p, mean_p)]);
}
