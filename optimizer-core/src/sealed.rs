//! Safetensors files that any tool can open and only the right bytes load from.
//!
//! ```text
//!  header   "__metadata__": { KEY: "{\"digest\":…, a document of JSON with sorted keys }" }
//!  data     tensors, by type and name
//! ```
//!
//! The digest is the SHA-256 of the document (without the digest itself) and of name, type, shape and data of every
//! tensor, so a flipped bit anywhere is found, and equal content is equal bytes. It is no signature: whoever can write a
//! file can seal it. So what a document and its tensors mean is checked by the one who reads them.

use std::collections::HashMap;

use safetensors::tensor::TensorView;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::tensor_file::TensorFile;

const DIGEST_PREFIX: &str = "{\"digest\":\"";

/// The document as a text that is the same for equal documents: JSON without spaces, keys sorted.
///
/// # Errors
/// What serde says of a value that is no JSON.
pub(crate) fn document(content: &impl Serialize) -> Result<String, String> {
    let value = serde_json::to_value(content).map_err(|error| format!("metadata: {error}"))?;
    Ok(canonical(&value))
}

/// The bytes of a sealed file. `key` is the only entry of the metadata: a header with several has no fixed order.
///
/// # Errors
/// What safetensors refuses, in words.
pub(crate) fn seal(key: &str, document: &str, tensors: Vec<(String, TensorView<'_>)>) -> Result<Vec<u8>, String> {
    let mut ordered: Vec<_> = tensors.iter().collect();
    ordered.sort_by(|(a, _), (b, _)| a.cmp(b));
    let parts = ordered.into_iter().map(|(name, view)| Part {
        name,
        dtype: format!("{:?}", view.dtype()),
        shape: view.shape(),
        data: view.data(),
    });
    let digest = digest(document, parts);
    let metadata = HashMap::from([(key.to_owned(), format!("{DIGEST_PREFIX}{digest}\",{}", &document[1..]))]);
    safetensors::serialize(tensors, Some(metadata)).map_err(|error| error.to_string())
}

/// A file whose content has not yet been compared with its digest.
#[derive(Debug)]
pub(crate) struct Sealed<'a> {
    file: TensorFile<'a>,
    stated: String,
    text: String,
}

impl<'a> Sealed<'a> {
    /// Finds the document of this `key`. Allocates in proportion to the header, and nothing for the tensors.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(crate) fn read(key: &str, bytes: &'a [u8]) -> Result<Self, String> {
        let file = TensorFile::parse(bytes).map_err(|reason| format!("not a whole safetensors file: {reason}"))?;
        let metadata = file.metadata(key);
        let metadata = metadata.ok_or_else(|| format!("no {key:?} metadata: not written by paceline"))?;
        let split = metadata.strip_prefix(DIGEST_PREFIX).and_then(|rest| rest.split_once("\","));
        let (stated, rest) = split.ok_or("metadata does not begin with its digest")?;
        let (stated, text) = (stated.to_owned(), format!("{{{rest}"));
        Ok(Self { file, stated, text })
    }

    /// The document, not yet trusted: for the one thing that must be known before, the version of the format.
    pub(crate) fn unverified(&self) -> &str {
        &self.text
    }

    /// The document and the tensors, as they were sealed.
    ///
    /// # Errors
    /// The two digests.
    pub(crate) fn verified(self) -> Result<(String, TensorFile<'a>), String> {
        let Self { file, stated, text } = self;
        let parts = file.tensors().map(|(name, tensor)| Part {
            name,
            dtype: format!("{:?}", tensor.dtype),
            shape: tensor.shape,
            data: tensor.data,
        });
        let found = digest(&text, parts);
        // A fuzzer that had to guess a digest would see nothing of what follows.
        if found != stated && !cfg!(fuzzing) {
            return Err(format!("digest {found} of the content is not the stated {stated}: bytes were changed"));
        }
        Ok((text, file))
    }
}

/// JSON without spaces, keys sorted whatever order the map keeps.
fn canonical(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let entry =
                |(key, value): &(&String, &Value)| format!("{}:{}", Value::from(key.as_str()), canonical(value));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// What of a tensor enters the digest.
struct Part<'a> {
    name: &'a str,
    dtype: String,
    shape: &'a [usize],
    data: &'a [u8],
}

/// Hex SHA-256 over the document and everything about the tensors, which come in the order of their names.
fn digest<'a>(text: &str, tensors: impl Iterator<Item = Part<'a>>) -> String {
    let mut hasher = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(text.as_bytes());
    for Part { name, dtype, shape, data } in tensors {
        part(name.as_bytes());
        part(format!("{dtype} {shape:?}").as_bytes());
        part(data);
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
