//! Names that travel in subjects, object keys and documents: job id, replay key.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;

/// A job's name: 1 to 64 of `A–Z a–z 0–9 _ -`, safe as a subject token and as part of an object key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct JobId(String);

/// The text is not a job id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a job id is 1 to 64 characters out of A-Z, a-z, 0-9, _ and -")]
pub struct InvalidJobId;

impl JobId {
    /// The text of the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for JobId {
    type Err = InvalidJobId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let safe = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(safe) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidJobId)
        }
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for JobId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "JobId".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[A-Za-z0-9_-]{1,64}$",
            "description": "The job's name: 1 to 64 of A-Z, a-z, 0-9, _ and -."
        })
    }
}

/// Names a computation: two jobs with one replay key have the same result, byte for byte.
/// Text: `fr1-` and 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplayKey(pub Digest);

impl fmt::Display for ReplayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fr1-{}", self.0)
    }
}

/// The text is not a replay key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a replay key is `fr1-` and 64 lower-case hexadecimal digits")]
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
            "description": "Names the computation: equal replay keys have equal result documents, byte for byte."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_ids_are_safe_tokens() {
        assert!("quickstart-001".parse::<JobId>().is_ok());
        assert!("a".repeat(64).parse::<JobId>().is_ok());
        for bad in ["", "a.b", "a/b", "a b", "é", &"a".repeat(65)] {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn replay_keys_round_trip() {
        let key = ReplayKey(Digest::of(&[b"x"]));
        assert_eq!(key.to_string().parse(), Ok(key));
        assert!("fr2-00".parse::<ReplayKey>().is_err());
    }
}
