//! Between the wire and the model.
//!
//! ```text
//!  pb::LeaseKey { run: "a b", … } ── TryFrom ──► ProtocolError::Invalid { field: "lease.run", reason: "…" }
//!                                                     └─► Fault::FieldsInvalid ─► INVALID_ARGUMENT FIELD_INVALID
//! ```
//!
//! The receiver checks: `TryFrom<pb::…>` is the only door into the model and names the field it stops at, with the whole
//! dotted path. Leaving the model cannot fail, so that direction is `From`. What a *run* may be is a longer question with
//! many answers at once: see [`crate::model::RunSpec::validate`].

mod checkpoint;
mod evaluation;
mod lease;
mod mixture;
mod run;
mod spec;
mod token;
mod worker;

#[cfg(test)]
pub(crate) mod strategies;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use paceline_optimizer_core::ThetaHash;

pub use evaluation::{MAX_CONTENDERS, MAX_SPANS};

use crate::fault::{Fault, FieldFault};
use crate::model::{RunId, Token, WorkerId};

/// Most antithetic pairs in one result.
pub const MAX_PAIRS: usize = 4096;
/// Most leases named in one call.
pub const MAX_LEASES: usize = 64;
/// Most runs a worker may say it holds something of.
pub const MAX_HOLDINGS: usize = 64;
/// Most task families a worker may say it can run.
pub const MAX_FAMILIES: usize = 256;
/// Most slots in an outer step.
pub const MAX_SLOTS: usize = 4096;
/// Most task families in one mixture.
pub const MAX_TASKS: usize = 64;
/// Largest vector that travels inside one message, in bytes: theta with a lease, a dense gradient with a result.
pub const MAX_VECTOR_BYTES: usize = 16 << 20;
/// Longest short text (a version, a device, a name), in bytes.
pub const MAX_TEXT: usize = 128;
/// Longest explanation in words that is kept, in characters; the rest is cut.
pub const MAX_REASON: usize = 2000;

/// A message that does not say what it must.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A required field was left out.
    #[error("{field}: is required")]
    Missing {
        /// Dotted path of the field.
        field: String,
    },
    /// A field holds something it must not.
    #[error("{field}: {reason}")]
    Invalid {
        /// Dotted path of the field.
        field: String,
        /// What it must satisfy and what was given.
        reason: String,
    },
    /// A vector of a result is not as long as its siblings.
    #[error("{field}: expected {expected} values, got {got}")]
    Shape {
        /// Dotted path of the field.
        field: String,
        /// Length wanted.
        expected: usize,
        /// Length given.
        got: usize,
    },
}

/// Result of a conversion.
pub type Converted<T> = Result<T, ProtocolError>;

impl ProtocolError {
    /// A field that holds something it must not.
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), reason: reason.into() }
    }

    /// The same error, seen from the message that holds the failing one in its field `outer`.
    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        let (Self::Missing { field } | Self::Invalid { field, .. } | Self::Shape { field, .. }) = &mut self;
        field.insert(0, '.');
        field.insert_str(0, outer);
        self
    }
}

impl From<ProtocolError> for Fault {
    fn from(error: ProtocolError) -> Self {
        match error {
            ProtocolError::Missing { field } => {
                Self::FieldsInvalid(vec![FieldFault { field, reason: "is required".into() }])
            }
            ProtocolError::Invalid { field, reason } => Self::FieldsInvalid(vec![FieldFault { field, reason }]),
            ProtocolError::Shape { field, expected, got } => Self::ResultShape { field, expected, got },
        }
    }
}

/// Converts a nested message that must be there.
pub(crate) fn nested<P, M>(message: Option<P>, field: &str) -> Converted<M>
where
    M: TryFrom<P, Error = ProtocolError>,
{
    let message = message.ok_or_else(|| ProtocolError::Missing { field: field.into() })?;
    M::try_from(message).map_err(|error| error.within(field))
}

/// Converts a nested message that may be left out.
pub(crate) fn optional<P, M>(message: Option<P>, field: &str) -> Converted<Option<M>>
where
    M: TryFrom<P, Error = ProtocolError>,
{
    message.map(|message| M::try_from(message).map_err(|error| error.within(field))).transpose()
}

/// Converts every message of a list of at most `max`.
pub(crate) fn list<P, M>(messages: Vec<P>, max: usize, field: &str) -> Converted<Vec<M>>
where
    M: TryFrom<P, Error = ProtocolError>,
{
    at_most(messages.len(), max, field)?;
    let convert = |(index, message)| M::try_from(message).map_err(|error| error.within(&format!("{field}[{index}]")));
    messages.into_iter().enumerate().map(convert).collect()
}

pub(crate) fn at_most(count: usize, max: usize, field: &str) -> Converted<()> {
    if count > max {
        return Err(ProtocolError::invalid(field, format!("holds at most {max} entries, got {count}")));
    }
    Ok(())
}

pub(crate) fn short_text(text: String, field: &str) -> Converted<String> {
    if text.len() > MAX_TEXT {
        return Err(ProtocolError::invalid(field, format!("is at most {MAX_TEXT} bytes long, got {}", text.len())));
    }
    Ok(text)
}

/// Explanations are for people: a long one is cut, never refused.
pub(crate) fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_REASON) {
        text.truncate(end);
    }
    text
}

/// A run's id in the field `field`.
///
/// # Errors
/// [`ProtocolError`] if it is no id.
pub fn run_id(text: &str, field: &str) -> Converted<RunId> {
    if text.is_empty() {
        return Err(ProtocolError::Missing { field: field.into() });
    }
    text.parse().map_err(|error: crate::model::InvalidId| ProtocolError::invalid(field, error.to_string()))
}

pub(crate) fn worker_id(text: &str, field: &str) -> Converted<WorkerId> {
    if text.is_empty() {
        return Err(ProtocolError::Missing { field: field.into() });
    }
    text.parse().map_err(|error: crate::model::InvalidId| ProtocolError::invalid(field, error.to_string()))
}

fn exactly<const N: usize>(bytes: &Bytes, field: &str) -> Converted<[u8; N]> {
    if bytes.is_empty() {
        return Err(ProtocolError::Missing { field: field.into() });
    }
    let wrong = |_| ProtocolError::invalid(field, format!("is {N} bytes long, got {}", bytes.len()));
    bytes.as_ref().try_into().map_err(wrong)
}

pub(crate) fn token(bytes: &Bytes, field: &str) -> Converted<Token> {
    exactly(bytes, field).map(Token)
}

pub(crate) fn sha256(bytes: &Bytes, field: &str) -> Converted<[u8; 32]> {
    exactly(bytes, field)
}

pub(crate) fn theta_hash(bytes: &Bytes, field: &str) -> Converted<ThetaHash> {
    exactly(bytes, field).map(ThetaHash)
}

/// Bytes that hold whole f32 values and fit a message.
pub(crate) fn vector(bytes: &Bytes, field: &str) -> Converted<()> {
    if bytes.len() > MAX_VECTOR_BYTES {
        let reason = format!("is at most {MAX_VECTOR_BYTES} bytes long, got {}", bytes.len());
        return Err(ProtocolError::invalid(field, reason));
    }
    if !bytes.len().is_multiple_of(4) {
        let reason = format!("holds little-endian f32 values, so its length divides by 4; got {} bytes", bytes.len());
        return Err(ProtocolError::invalid(field, reason));
    }
    Ok(())
}

/// A duration in whole milliseconds, as far as 32 bits carry it (49 days).
pub(crate) fn millis(duration: std::time::Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// NaN travels for "nothing yet".
pub(crate) fn from_nan(value: f64) -> Option<f64> {
    (!value.is_nan()).then_some(value)
}

pub(crate) fn to_nan(value: Option<f64>) -> f64 {
    value.unwrap_or(f64::NAN)
}
