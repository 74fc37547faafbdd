//! The version of the messages between services, and the bytes that signatures cover.
//!
//! Every message states its version. A service that reads another version refuses the message and
//! leaves it to a service of that version, so a cluster of mixed versions fails no job.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::canonical::to_canonical_json;

/// Version of the messages that this software writes and reads.
pub const PROTOCOL: u32 = 1;

/// Error: a message that this software cannot read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableMessage {
    /// The message has another version. A service of that version may read it.
    #[error("the message has protocol version {0}, but this software reads version {PROTOCOL}")]
    OtherVersion(u32),
    /// The message is malformed; no service can read it.
    #[error("the message is malformed: {0}")]
    Malformed(String),
}

/// Parses the JSON of a message that has a member `protocol`.
///
/// # Errors
/// [`UnreadableMessage::OtherVersion`] when `protocol` is not [`PROTOCOL`], whatever the rest of
/// the message; otherwise [`UnreadableMessage::Malformed`].
pub fn parse_message<T: DeserializeOwned>(json: &[u8]) -> Result<T, UnreadableMessage> {
    #[derive(Deserialize)]
    struct Version {
        protocol: u32,
    }
    let malformed = |error: serde_json::Error| UnreadableMessage::Malformed(error.to_string());
    let Version { protocol } = serde_json::from_slice(json).map_err(malformed)?;
    if protocol != PROTOCOL {
        return Err(UnreadableMessage::OtherVersion(protocol));
    }
    serde_json::from_slice(json).map_err(malformed)
}

/// The bytes that a signature of `statement` covers: `domain`, NUL, and the statement's canonical
/// JSON. `None` if a number in it exceeds 2^53: it has no canonical JSON, and no signature is
/// valid. The domain prevents that a signature of one kind of statement passes for another.
pub(crate) fn signing_payload(domain: &str, statement: &impl Serialize) -> Option<Vec<u8>> {
    let json = to_canonical_json(statement).ok()?;
    Some([domain.as_bytes(), b"\0", &json].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        protocol: u32,
        shard: u32,
    }

    #[test]
    fn another_version_is_told_apart_from_a_malformed_message() {
        let read = |json: &str| parse_message::<Example>(json.as_bytes());
        assert_eq!(read(r#"{"protocol": 1, "shard": 3}"#), Ok(Example { protocol: 1, shard: 3 }));
        let newer = read(r#"{"protocol": 2, "shards": [3]}"#);
        assert_eq!(newer, Err(UnreadableMessage::OtherVersion(2)));
        for malformed in [r#"{"protocol": 1, "shards": [3]}"#, r#"{"shard": 3}"#, "", "[]"] {
            assert!(matches!(read(malformed), Err(UnreadableMessage::Malformed(_))), "{malformed}");
        }
    }

    #[test]
    fn payload_is_domain_and_canonical_json() {
        let example = Example { protocol: 1, shard: 3 };
        assert_eq!(signing_payload("a", &example).unwrap(), b"a\0{\"protocol\":1,\"shard\":3}");
        assert_eq!(signing_payload("a", &u64::MAX), None);
    }
}
