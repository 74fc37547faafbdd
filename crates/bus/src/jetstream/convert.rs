//! Conversion between the messages of this crate and those of async-nats.

use std::str::FromStr;

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;

use crate::{
    error::BusError,
    message::{Headers, Message},
};

/// Prefix of the headers that the server adds.
const SERVER_HEADER_PREFIX: &str = "Nats-";

/// Returns a message id of 128 random bits. async-nats' own ids follow one another: a client that
/// has seen one could publish under the next ones, and the server would drop the messages that
/// carry them.
pub(super) fn random_message_id() -> Result<String, BusError> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits)
        .map_err(|error| BusError::Unusable(format!("the system has no randomness: {error}")))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bits)))
}

/// Converts headers for sending; fails on names or values that NATS does not allow.
pub(super) fn encode_headers(headers: &Headers) -> Result<HeaderMap, BusError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter() {
        let invalid = || BusError::Unusable(format!("{name:?}: {value:?} is not a valid NATS header"));
        let key = HeaderName::from_str(name).map_err(|_| invalid())?;
        map.insert(key, HeaderValue::from_str(value).map_err(|_| invalid())?);
    }
    Ok(map)
}

/// Builds a message from its received parts, without the server's own headers.
pub(super) fn decode_message(subject: &str, headers: Option<&HeaderMap>, payload: Bytes) -> Message {
    let mut message = Message::new(subject, payload);
    for (name, values) in headers.iter().flat_map(|headers| headers.iter()) {
        if let Some(value) = values.last()
            && !name.to_string().starts_with(SERVER_HEADER_PREFIX)
        {
            message.headers.set(name.to_string(), value.as_str());
        }
    }
    message
}

/// Converts a received message.
pub(super) fn from_nats(message: async_nats::Message) -> Message {
    decode_message(&message.subject, message.headers.as_ref(), message.payload)
}

/// Checks that payload and encoded headers together stay within `limit` bytes.
pub(super) fn check_size(headers: &HeaderMap, payload: &Bytes, limit: usize) -> Result<(), BusError> {
    // Each header is a line `name: value\r\n`; the block starts with `NATS/1.0\r\n` and ends with
    // an empty line.
    let header_lines = headers.iter().flat_map(|(name, values)| {
        let name = name.to_string().len();
        values.iter().map(move |value| name + value.as_str().len() + 4)
    });
    let header_bytes: usize = header_lines.sum();
    let size = payload.len() + if header_bytes == 0 { 0 } else { header_bytes + 12 };
    if size > limit { Err(BusError::TooLarge { size, limit }) } else { Ok(()) }
}

/// Metadata of a consumer's delivery, from the reply subject that acknowledges it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeliveryInfo {
    /// Number of deliveries of the message so far, this one included.
    pub(super) attempt: u64,
    /// Position in the stream.
    pub(super) stream_sequence: u64,
    /// Position among the consumer's deliveries.
    pub(super) consumer_sequence: u64,
    /// Time of storing, in nanoseconds since the Unix epoch.
    pub(super) stored_at: u64,
}

impl DeliveryInfo {
    /// Parses a subject of `$JS.ACK.`, an optional `<domain>.<account>.`, and
    /// `<stream>.<consumer>.<attempt>.<stream sequence>.<consumer sequence>.<time>.<pending>`.
    pub(super) fn parse(reply: &str) -> Option<Self> {
        let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
        let start = if tokens.len() >= 9 { 4 } else { 2 };
        let number = |index: usize| tokens.get(start + index)?.parse::<u64>().ok();
        Some(Self {
            attempt: number(0)?,
            stream_sequence: number(1)?,
            consumer_sequence: number(2)?,
            stored_at: number(3)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_subjects_are_parsed_with_and_without_a_domain() {
        let expected = DeliveryInfo { attempt: 2, stream_sequence: 30, consumer_sequence: 4, stored_at: 500 };
        assert_eq!(DeliveryInfo::parse("$JS.ACK.S.c.2.30.4.500.6"), Some(expected));
        assert_eq!(DeliveryInfo::parse("$JS.ACK._.hash.S.c.2.30.4.500.6.token"), Some(expected));
        assert_eq!(DeliveryInfo::parse("$JS.ACK.S.c.2"), None);
        assert_eq!(DeliveryInfo::parse("x"), None);
    }
}
