//! The file of tokens, and files only their owner may read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use paceline_proto::access::TokenHash;
use serde::{Deserialize, Serialize};

use super::{CredentialsError, Record};

/// The form of the file.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    format: u32,
    tokens: Vec<Kept>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    id: String,
    holder: String,
    role: String,
    sha256: String,
    created: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked: Option<u64>,
}

impl From<&Record> for Kept {
    fn from(record: &Record) -> Self {
        Self {
            id: record.id.to_string(),
            holder: record.holder.to_string(),
            role: record.role.to_string(),
            sha256: record.hash.0.iter().map(|byte| format!("{byte:02x}")).collect(),
            created: record.created,
            expires: record.expires,
            revoked: record.revoked,
        }
    }
}

impl Kept {
    fn into_record(self) -> Result<Record, String> {
        let hash =
            bytes(&self.sha256).ok_or_else(|| format!("token {}: sha256 is not 64 hexadecimal digits", self.id))?;
        let named = |error: String| format!("token {}: {error}", self.id);
        Ok(Record {
            id: self.id.parse().map_err(|_| format!("id {:?} is not 8 hexadecimal digits", self.id))?,
            holder: self.holder.parse().map_err(|error| named(format!("{error}")))?,
            role: self.role.parse().map_err(|error| named(format!("{error}")))?,
            hash: TokenHash(hash),
            created: self.created,
            expires: self.expires,
            revoked: self.revoked,
        })
    }
}

fn bytes(digits: &str) -> Option<[u8; 32]> {
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Vec<u8> = digits.as_bytes().chunks(2).map(pair).collect::<Option<_>>()?;
    bytes.try_into().ok().filter(|_| digits.len() == 64)
}

/// All tokens of the file; none if it does not exist.
pub(super) fn read(path: &Path) -> Result<Vec<Record>, CredentialsError> {
    let damaged = |reason: String| CredentialsError::Damaged { path: path.into(), reason };
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(CredentialsError::Io { path: path.into(), reason: error.to_string() }),
    };
    let whole: Whole = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if whole.format != FORMAT {
        return Err(damaged(format!("it has format {}, this program reads {FORMAT}", whole.format)));
    }
    whole.tokens.into_iter().map(Kept::into_record).collect::<Result<_, _>>().map_err(damaged)
}

/// Replaces the file.
pub(super) fn write(path: &Path, records: &[&Record]) -> Result<(), CredentialsError> {
    let whole = Whole { format: FORMAT, tokens: records.iter().map(|record| Kept::from(*record)).collect() };
    let failed = |error: io::Error| CredentialsError::Io { path: path.into(), reason: error.to_string() };
    let text = serde_json::to_vec_pretty(&whole).map_err(|error| failed(error.into()))?;
    replace(path, &text).map_err(failed)
}

/// Writes a file that only its owner may read: whole, or not at all.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let part = path.with_file_name(name);
    // What a crash left behind may have other rights.
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
