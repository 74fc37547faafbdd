//! Identifiers used in subjects, object keys and documents: job id, job uid, task id, submitter,
//! pool, replay key.
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

/// The name of a pool: the workers that share one NATS credential. 1 to 32 of `A–Z a–z 0–9 _ -`. It
/// is a token of the subjects that its workers publish, so NATS permissions tie a credential to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PoolName(String);

/// Error: the text is not a pool's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a pool's name is 1 to 32 of the characters A-Z, a-z, 0-9, _ and -")]
pub struct InvalidPoolName;

impl PoolName {
    /// The pool of workers without a setting.
    pub const DEFAULT: &str = "default";
    /// The pool of verifiers that execute shards in place of workers. Workers may not use it.
    pub const VERIFIERS: &str = "verifiers";

    /// The pool named [`VERIFIERS`](Self::VERIFIERS).
    pub fn verifiers() -> Self {
        Self(Self::VERIFIERS.to_owned())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for PoolName {
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

subject_token!(
    PoolName,
    InvalidPoolName,
    32,
    "Name of a pool of workers: 1 to 32 of A-Z, a-z, 0-9, _ and -."
);

/// Implements parsing, formatting, serialisation and JSON Schema for an identifier of `$bytes`
/// bytes that is written as lower-case hexadecimal digits.
macro_rules! hexadecimal_id {
    ($name:ident, $invalid:ident, $bytes:literal, $pattern:literal, $description:literal) => {
        impl FromStr for $name {
            type Err = $invalid;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut bytes = [0; $bytes];
                let is_lower_case = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                match hex::decode_to_slice(text, &mut bytes) {
                    Ok(()) if is_lower_case => Ok(Self(bytes)),
                    _ => Err($invalid),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
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
                    "pattern": $pattern,
                    "description": $description
                })
            }
        }
    };
}

/// Identifies one submission of a job: 16 random bytes, written as 32 lower-case hexadecimal
/// digits. A client chooses job ids and may use one again; a uid is never used twice. Messages
/// about a job are addressed by its uid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobUid(pub [u8; 16]);

/// Error: the text is not a job uid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a job uid is 32 lower-case hexadecimal digits")]
pub struct InvalidJobUid;

hexadecimal_id!(
    JobUid,
    InvalidJobUid,
    16,
    "^[0-9a-f]{32}$",
    "Identifies one submission of a job: 32 lower-case hexadecimal digits, chosen at random."
);

/// Identifies one hand-out of a shard: a random nonce (16 bytes) and a code (16 bytes) that only
/// holders of the job's key can compute. Written as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub [u8; 32]);

/// Error: the text is not a task id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a task id is 64 lower-case hexadecimal digits")]
pub struct InvalidTaskId;

hexadecimal_id!(
    TaskId,
    InvalidTaskId,
    32,
    "^[0-9a-f]{64}$",
    "Identifies one hand-out of a shard: 64 lower-case hexadecimal digits."
);

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
    fn pools_are_subject_tokens_and_have_a_default() {
        assert_eq!(PoolName::DEFAULT.parse(), Ok(PoolName::default()));
        assert_eq!(PoolName::VERIFIERS.parse(), Ok(PoolName::verifiers()));
        assert!("a.b".parse::<PoolName>().is_err() && "".parse::<PoolName>().is_err());
    }

    #[test]
    fn hexadecimal_ids_have_one_text_form() {
        let uid = JobUid([0xab; 16]);
        assert_eq!(uid.to_string(), "ab".repeat(16));
        assert_eq!(uid.to_string().parse(), Ok(uid));
        let task = TaskId([0x0c; 32]);
        assert_eq!(task.to_string().parse(), Ok(task));
        for bad in ["", "ab", &"AB".repeat(16), &"ab".repeat(17), &"g".repeat(32)] {
            assert!(bad.parse::<JobUid>().is_err() && bad.parse::<TaskId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn replay_keys_round_trip() {
        let key = ReplayKey(Digest::hash_parts(&[b"x"]));
        assert_eq!(key.to_string().parse(), Ok(key));
        assert!("fr2-00".parse::<ReplayKey>().is_err());
    }
}
