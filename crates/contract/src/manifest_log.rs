//! The log of a bucket: an entry for every stored manifest, each with the hash of the entry before.
//! It shows that a job was replaced or removed, or that entries were.
//!
//! The entry, its canonical bytes, and the checks of one entry after another. Aggregators append
//! entries, and audits read them.

#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    agent::{AgentId, Identity, Signature},
    canonical::to_canonical_json,
    digest::Digest,
    ids::{JobId, JobUid},
    protocol::signing_payload,
    strict,
};

/// Largest entry that is read. One with the longest names has 1 kB.
pub const MAX_LOG_ENTRY_BYTES: usize = 4 << 10;
/// Largest number of an entry, so that every reader of JSON reads it alike.
pub const MAX_LOG_NUMBER: u64 = 1 << 53;
/// Longest name of a namespace.
const MAX_NAMESPACE_BYTES: usize = 64;

/// Object `log/<number>.json`: a manifest that was stored, and the entry before. The number has 20
/// digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Forge log entry")]
pub struct LogEntryDocument {
    /// Always `forge.log-entry.v1`.
    pub schema: String,
    /// Number of the entry. The first one of a bucket has number 1.
    pub number: u64,
    /// SHA-256 of the entry before. Absent in the first entry, and if the entry before could not be
    /// read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// Time at which the entry was written, by the signer's clock: RFC 3339, UTC, as in
    /// `2026-11-23T04:21:23.123Z`.
    pub time: String,
    /// Bucket of the job's record.
    pub namespace: String,
    /// Id of the job.
    pub job_id: JobId,
    /// Uid of the job.
    pub job_uid: JobUid,
    /// SHA-256 of the job's `manifest.json`.
    pub manifest: Digest,
    /// Key of the aggregator that wrote the entry. Another one may have signed the manifest.
    pub signer: AgentId,
    /// Signature over `forge/v1/log-entry`, NUL, and the canonical JSON of the entry without this
    /// field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

/// Error: an object below `log/` is not an entry. The text continues "entry 7 ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidLogEntry(String);

impl LogEntryDocument {
    /// Value of `schema`.
    pub const SCHEMA: &str = "forge.log-entry.v1";
    /// Separates signatures of entries from those of other statements.
    const DOMAIN: &str = "forge/v1/log-entry";

    /// Reads an entry. Its signature is not verified.
    ///
    /// # Errors
    /// [`InvalidLogEntry`] if the bytes are not the canonical JSON of a signed entry.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidLogEntry> {
        let invalid = |reason: String| InvalidLogEntry(format!("cannot be read: {reason}"));
        strict::check_document(bytes, MAX_LOG_ENTRY_BYTES).map_err(|errors| invalid(errors.to_string()))?;
        let entry: Self = serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
        let require = |condition: bool, otherwise: &str| match condition {
            true => Ok(()),
            false => Err(InvalidLogEntry(otherwise.to_owned())),
        };
        require(entry.schema == Self::SCHEMA, "has another schema than forge.log-entry.v1")?;
        require(is_timestamp(&entry.time), "has a time that is not written as 2026-11-23T04:21:23.123Z")?;
        require(is_namespace(&entry.namespace), "names no valid namespace")?;
        require(entry.signature.is_some(), "is not signed")?;
        // Otherwise readers could disagree on the bytes of an entry.
        require(to_canonical_json(&entry).is_ok_and(|json| json == bytes), "is not canonical JSON")?;
        Ok(entry)
    }

    /// Signs the entry as `signer`, and returns it with its bytes in the bucket.
    ///
    /// # Errors
    /// [`InvalidLogEntry`] if its number exceeds [`MAX_LOG_NUMBER`].
    pub fn sign(mut self, identity: &Identity) -> Result<(Self, Vec<u8>), InvalidLogEntry> {
        self.signer = identity.id().clone();
        let too_large = || InvalidLogEntry(format!("has a number beyond {MAX_LOG_NUMBER}"));
        let payload = self.signing_payload().ok_or_else(too_large)?;
        self.signature = Some(identity.sign(&payload));
        let bytes = to_canonical_json(&self).map_err(|_| too_large())?;
        Ok((self, bytes))
    }

    /// Whether the signature is that of `signer` over this entry.
    pub fn is_signature_valid(&self) -> bool {
        let signed = self.signature.as_ref().zip(self.signing_payload());
        signed.is_some_and(|(signature, payload)| self.signer.verify_signature(&payload, signature))
    }

    fn signing_payload(&self) -> Option<Vec<u8>> {
        signing_payload(Self::DOMAIN, &Self { signature: None, ..self.clone() })
    }
}

/// Whether text has the form `2026-11-23T04:21:23.123Z`.
fn is_timestamp(text: &str) -> bool {
    let form = b"dddd-dd-ddTdd:dd:dd.dddZ";
    let matches = |(byte, expected): (u8, &u8)| match expected {
        b'd' => byte.is_ascii_digit(),
        other => byte == *other,
    };
    text.len() == form.len() && text.bytes().zip(form).all(matches)
}

fn is_namespace(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=MAX_NAMESPACE_BYTES).contains(&text.len()) && text.bytes().all(allowed)
}

/// An entry of a log by number and hash, as in `17:8f84…`. It fixes all entries up to this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LogPosition {
    /// Number of the entry.
    pub number: u64,
    /// SHA-256 of its bytes.
    pub hash: Digest,
}

/// Error: the text is not a position in a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a position in a log is the number of an entry, a colon and its SHA-256, as in 17:8f84…")]
pub struct InvalidLogPosition;

impl FromStr for LogPosition {
    type Err = InvalidLogPosition;

    fn from_str(text: &str) -> Result<Self, InvalidLogPosition> {
        let (number, hash) = text.split_once(':').ok_or(InvalidLogPosition)?;
        let is_plain = number.bytes().all(|byte| byte.is_ascii_digit());
        let number = number.parse().ok().filter(|number| is_plain && (1..=MAX_LOG_NUMBER).contains(number));
        Ok(Self {
            number: number.ok_or(InvalidLogPosition)?,
            hash: hash.parse().map_err(|_| InvalidLogPosition)?,
        })
    }
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.hash)
    }
}

/// What is wrong with one entry. The text continues "entry 7 ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogFault {
    /// There are no objects of the numbers before.
    #[error("comes after a gap: {}", gap_text(*.first, *.last))]
    Gap {
        /// First missing number.
        first: u64,
        /// Last missing number.
        last: u64,
    },
    /// The object cannot be read: it is too large, or not a regular file.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// The object is not an entry.
    #[error(transparent)]
    Malformed(#[from] InvalidLogEntry),
    /// The entry states another number: it was copied or moved.
    #[error("states the number {0}")]
    WrongNumber(u64),
    /// The entry names another one as the entry before. That one was changed or replaced, or the
    /// log was written anew from here on.
    #[error("follows an entry with SHA-256 {}, but {}", hash_text(.stated), before_text(.found))]
    BrokenLink {
        /// The hash that the entry states.
        stated: Option<Digest>,
        /// The hash of the entry before; `None` if there is none.
        found: Option<Digest>,
    },
    /// The signature is not valid.
    #[error("is not signed by its signer")]
    InvalidSignature,
}

fn gap_text(first: u64, last: u64) -> String {
    match first == last {
        true => format!("entry {first} is missing"),
        false => format!("entries {first} to {last} are missing"),
    }
}

fn hash_text(hash: &Option<Digest>) -> String {
    hash.map_or_else(|| "that it does not state".to_owned(), |hash| hash.to_string())
}

fn before_text(hash: &Option<Digest>) -> String {
    hash.map_or_else(|| "it is the first one".to_owned(), |hash| format!("the one before has {hash}"))
}

/// Checks the objects of a log, one after another.
#[derive(Debug, Clone, Default)]
pub struct LogChain {
    /// Number of the last object; 0 before the first one.
    number: u64,
    /// Its hash; `None` before the first one, and if it could not be read.
    hash: Option<Digest>,
}

impl LogChain {
    /// A log without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Checks the object of a number: its bytes, or why it cannot be read. Numbers increase, and
    /// those that are left out are missing. Returns the entry, if it is one, and its faults. A link
    /// to an object that is missing or unreadable is not checked: that is a fault of its own.
    pub fn check(
        &mut self,
        number: u64,
        object: Result<&[u8], &str>,
    ) -> (Option<LogEntryDocument>, Vec<LogFault>) {
        let (is_first, expected) = (number == 1, self.number + 1);
        let mut faults = Vec::new();
        if number > expected {
            faults.push(LogFault::Gap { first: expected, last: number - 1 });
            self.hash = None;
        }
        self.number = number;
        let bytes = match object {
            Ok(bytes) => bytes,
            Err(reason) => {
                self.hash = None;
                faults.push(LogFault::Unreadable(reason.to_owned()));
                return (None, faults);
            }
        };
        let before = self.hash.replace(Digest::hash_parts(&[bytes]));
        let entry = match LogEntryDocument::parse(bytes) {
            Ok(entry) => entry,
            Err(invalid) => {
                faults.push(invalid.into());
                return (None, faults);
            }
        };
        if entry.number != number {
            faults.push(LogFault::WrongNumber(entry.number));
        }
        if entry.previous != before && (is_first || before.is_some()) {
            faults.push(LogFault::BrokenLink { stated: entry.previous, found: before });
        }
        if !entry.is_signature_valid() {
            faults.push(LogFault::InvalidSignature);
        }
        (Some(entry), faults)
    }

    /// The position of the last object; `None` if there is none, or it cannot be read.
    pub fn position(&self) -> Option<LogPosition> {
        self.hash.map(|hash| LogPosition { number: self.number, hash })
    }
}
