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

use safetensors::tensor::{SafeTensors, TensorView};
use serde::Serialize;
use sha2::{Digest, Sha256};

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
    let digest = digest(document, &tensors);
    let metadata = HashMap::from([(key.to_owned(), format!("{DIGEST_PREFIX}{digest}\",{}", &document[1..]))]);
    safetensors::serialize(tensors, Some(metadata)).map_err(|error| error.to_string())
}

/// A file whose content has not yet been compared with its digest.
#[derive(Debug)]
pub(crate) struct Sealed<'a> {
    file: SafeTensors<'a>,
    stated: String,
    text: String,
}

impl<'a> Sealed<'a> {
    /// Finds the document of this `key`. Allocates in proportion to the header, and nothing for the tensors.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(crate) fn read(key: &str, bytes: &'a [u8]) -> Result<Self, String> {
        let unreadable = |error: safetensors::SafeTensorError| format!("not a whole safetensors file: {error}");
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(unreadable)?;
        let file = SafeTensors::deserialize(bytes).map_err(unreadable)?;
        let metadata = header.metadata().as_ref().and_then(|metadata| metadata.get(key));
        let metadata = metadata.ok_or_else(|| format!("no {key:?} metadata: not written by paceline"))?;
        let split = metadata.strip_prefix(DIGEST_PREFIX).and_then(|rest| rest.split_once("\","));
        let (stated, rest) = split.ok_or("metadata does not begin with its digest")?;
        Ok(Self { file, stated: stated.to_owned(), text: format!("{{{rest}") })
    }

    /// The document, not yet trusted: for the one thing that must be known before, the version of the format.
    pub(crate) fn unverified(&self) -> &str {
        &self.text
    }

    /// The document and the tensors, as they were sealed.
    ///
    /// # Errors
    /// The two digests.
    pub(crate) fn verified(self) -> Result<(String, SafeTensors<'a>), String> {
        let Self { file, stated, text } = self;
        let found = digest(&text, &file.tensors());
        if found != stated {
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

/// Hex SHA-256 over the document and everything about the tensors, in the order of their names.
fn digest(text: &str, tensors: &[(String, TensorView<'_>)]) -> String {
    let mut hasher = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(text.as_bytes());
    let mut ordered: Vec<_> = tensors.iter().collect();
    ordered.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (name, view) in ordered {
        part(name.as_bytes());
        part(format!("{:?} {:?}", view.dtype(), view.shape()).as_bytes());
        part(view.data());
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
