//! Between our messages and those of the client library.

use std::{str::FromStr, time::Duration};

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;

use crate::{
    error::BusError,
    message::{Headers, Message},
};

/// What the server adds to a message begins so; nobody else's headers may.
const SERVERS: &str = "Nats-";

/// Headers to send.
pub(super) fn to_headers(headers: &Headers) -> Result<HeaderMap, BusError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter() {
        let bad = || BusError::Unusable(format!("not a header: {name:?}: {value:?}"));
        let key = HeaderName::from_str(name).map_err(|_| bad())?;
        map.insert(key, HeaderValue::from_str(value).map_err(|_| bad())?);
    }
    Ok(map)
}

/// A message as it was received, without the server's own headers.
pub(super) fn to_message(subject: &str, headers: Option<&HeaderMap>, payload: Bytes) -> Message {
    let mut message = Message::new(subject, payload);
    for (name, values) in headers.iter().flat_map(|headers| headers.iter()) {
        if let Some(value) = values.last()
            && !name.to_string().starts_with(SERVERS)
        {
            message.headers.set(name.to_string(), value.as_str());
        }
    }
    message
}

/// A message as it was received.
pub(super) fn received(message: async_nats::Message) -> Message {
    to_message(&message.subject, message.headers.as_ref(), message.payload)
}

/// Checks the size of what is sent, headers included.
pub(super) fn check_size(headers: &HeaderMap, payload: &Bytes, limit: usize) -> Result<(), BusError> {
    let lines = headers.iter().flat_map(|(name, values)| {
        let name = name.to_string().len();
        values.iter().map(move |value| name + value.as_str().len() + 4)
    });
    let lines: usize = lines.sum();
    let size = payload.len() + if lines == 0 { 0 } else { lines + 12 };
    if size > limit { Err(BusError::TooLarge { size, limit }) } else { Ok(()) }
}

/// What the subject for acknowledgements says about a message of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    /// How many times it has been delivered.
    pub(super) attempt: u64,
    /// Its number in the stream.
    pub(super) sequence: u64,
    /// Its number among the consumer's deliveries.
    pub(super) delivery: u64,
    /// When it was stored: nanoseconds since 1970.
    pub(super) stored: u64,
}

impl Origin {
    /// Reads `$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<attempt>.<sequence>.<delivery>.<time>.<pending>`.
    pub(super) fn read(reply: &str) -> Option<Self> {
        let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
        let start = if tokens.len() >= 9 { 4 } else { 2 };
        let number = |index: usize| tokens.get(start + index)?.parse::<u64>().ok();
        Some(Self { attempt: number(0)?, sequence: number(1)?, delivery: number(2)?, stored: number(3)? })
    }

    /// Time since it was stored, if the clocks agree.
    pub(super) fn age(&self) -> Duration {
        age(self.stored)
    }
}

/// Time since a moment in nanoseconds since 1970; zero if it has yet to come.
pub(super) fn age(nanoseconds: u64) -> Duration {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read() {
        let expected = Origin { attempt: 2, sequence: 30, delivery: 4, stored: 500 };
        assert_eq!(Origin::read("$JS.ACK.S.c.2.30.4.500.6"), Some(expected));
        assert_eq!(Origin::read("$JS.ACK._.hash.S.c.2.30.4.500.6.token"), Some(expected));
        assert_eq!(Origin::read("$JS.ACK.S.c.2"), None);
        assert_eq!(Origin::read("x"), None);
    }
}
