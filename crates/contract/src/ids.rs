//! Identifiers used in subjects, object keys and documents: job id, submitter, replay key.
//!
//! Parsing and formatting only. The parser of each type accepts exactly the texts that its JSON
//! Schema accepts.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;

/// A job's id: 1 to 64 of `A–Z a–z 0–9 _ -`. Safe as a subject token and within an object key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct JobId(String);

/// Error: the text is not a job id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a job id is 1 to 64 of the characters A-Z, a-z, 0-9, _ and -")]
pub struct InvalidJobId;

impl JobId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a submitter: 1 to 32 of `A–Z a–z 0–9 _ -`. It is a token of the submission subject,
/// so NATS permissions can bind a user to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Submitter(String);

/// Error: the text is not a submitter's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a submitter's name is 1 to 32 of the characters A-Z, a-z, 0-9, _ and -")]
pub struct InvalidSubmitter;

impl Submitter {
    /// The name used for a submission without a submitter.
    pub const DEFAULT: &str = "default";

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name is [`DEFAULT`](Self::DEFAULT).
    pub fn is_default(&self) -> bool {
        self.0 == Self::DEFAULT
    }
}

impl Default for Submitter {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

/// Implements parsing, formatting, deserialisation and JSON Schema for a name that is a subject
/// token of at most `$max_bytes` bytes.
macro_rules! subject_token {
    ($name:ident, $invalid:ident, $max_bytes:literal, $description:literal) => {
        impl FromStr for $name {
            type Err = $invalid;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                if text.len() <= $max_bytes && is_subject_token(text) { Ok(Self(text.to_owned())) } else { Err($invalid) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "pattern": concat!("^[A-Za-z0-9_-]{1,", $max_bytes, "}$"),
                    "description": $description
                })
            }
        }
    };
}

subject_token!(JobId, InvalidJobId, 64, "The job's id: 1 to 64 of A-Z, a-z, 0-9, _ and -.");
subject_token!(Submitter, InvalidSubmitter, 32, "Name of a submitter: 1 to 32 of A-Z, a-z, 0-9, _ and -.");

/// Whether `text` is non-empty and safe as a subject token.
fn is_subject_token(text: &str) -> bool {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    !text.is_empty() && text.bytes().all(safe)
}

/// Identifies a computation: jobs with equal replay keys have byte-identical results. Its text form
/// is `fr1-` followed by 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplayKey(pub Digest);

impl fmt::Display for ReplayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fr1-{}", self.0)
    }
}

/// Error: the text is not a replay key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a replay key is `fr1-` followed by 64 lower-case hexadecimal digits")]
pub struct InvalidReplayKey;

impl FromStr for ReplayKey {
    type Err = InvalidReplayKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digest = text.strip_prefix("fr1-").ok_or(InvalidReplayKey)?;
        digest.parse().map(Self).map_err(|_| InvalidReplayKey)
    }
}

impl Serialize for ReplayKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ReplayKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for ReplayKey {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ReplayKey".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^fr1-[0-9a-f]{64}$",
            "description": "Identifies the computation: equal replay keys have byte-identical result documents."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_ids_are_subject_tokens_of_at_most_64_bytes() {
        assert!("quickstart-001".parse::<JobId>().is_ok());
        assert!("a".repeat(64).parse::<JobId>().is_ok());
        for bad in ["", "a.b", "a/b", "a b", "é", &"a".repeat(65)] {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn submitters_are_subject_tokens_of_at_most_32_bytes() {
        assert!("alice-2_B".parse::<Submitter>().is_ok());
        assert!("a".repeat(32).parse::<Submitter>().is_ok());
        assert!(Submitter::DEFAULT.parse::<Submitter>().unwrap().is_default());
        for bad in ["", "a.b", "*", ">", "a b", "é", &"a".repeat(33)] {
            assert!(bad.parse::<Submitter>().is_err(), "{bad}");
        }
    }

    #[test]
    fn replay_keys_round_trip() {
        let key = ReplayKey(Digest::hash_parts(&[b"x"]));
        assert_eq!(key.to_string().parse(), Ok(key));
        assert!("fr2-00".parse::<ReplayKey>().is_err());
    }
}
