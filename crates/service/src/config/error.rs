//! The error of an invalid setting.

use std::fmt;

/// An invalid setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct ConfigError {
    /// The option, such as `--nats-creds`.
    pub field: String,
    /// What is wrong, and what to do about it.
    pub message: String,
}

impl ConfigError {
    /// An error of option `field`.
    pub fn new(field: impl Into<String>, message: impl fmt::Display) -> Self {
        Self { field: field.into(), message: message.to_string() }
    }
}
