//! Messages: subject, headers, payload.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Headers of a message: names and values in printable ASCII. Names are compared as they are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(BTreeMap<String, String>);

impl Headers {
    /// Without headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value under a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Sets the value under a name.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// All headers, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// A message to send, or as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it goes, or came by.
    pub subject: String,
    /// Its headers.
    pub headers: Headers,
    /// Its content.
    pub payload: Bytes,
}

impl Message {
    /// A message without headers.
    pub fn new(subject: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self { subject: subject.into(), headers: Headers::new(), payload: payload.into() }
    }

    /// The message with a header more.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.set(name, value);
        self
    }
}

/// A message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its number in the stream; numbers grow in the order of storing and are never used again.
    pub sequence: u64,
    /// The message; without payload if only headers were asked for.
    pub message: Message,
}
