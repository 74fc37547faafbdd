//! Messages as they are sent, received and stored. Payloads are opaque here.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Headers of a message: printable ASCII names and values. Names are case-sensitive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(BTreeMap<String, String>);

impl Headers {
    /// Creates an empty set of headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the value of the header `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Sets the value of the header `name`, replacing any former value.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// Iterates over names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// A message to publish, or a received one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Subject of the message, without wildcards. Empty in the reply to a request.
    pub subject: String,
    /// Headers; those that the server adds (`Nats-…`) are left out.
    pub headers: Headers,
    /// Content, at most [`Bus::max_payload`](crate::Bus::max_payload) bytes together with the
    /// headers.
    pub payload: Bytes,
}

impl Message {
    /// Creates a message without headers.
    pub fn new(subject: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self { subject: subject.into(), headers: Headers::new(), payload: payload.into() }
    }

    /// Size of payload and headers as NATS encodes them, with a message id or without.
    pub(crate) fn encoded_size(&self, id: Option<&str>) -> usize {
        let id_line = id.map_or(0, |id| "Nats-Msg-Id: \r\n".len() + id.len());
        let lines: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        let block = if lines + id_line == 0 { 0 } else { "NATS/1.0\r\n\r\n".len() + lines + id_line };
        self.payload.len() + block
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.set(name, value);
        self
    }
}

/// A message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// Position in the stream. Later messages have higher sequences, and no sequence is ever
    /// reused.
    pub sequence: u64,
    /// The message.
    pub message: Message,
}
