//! A warning, and a list of them.

use std::fmt;

use serde::Serialize;

/// A legal, but suspicious value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Warning {
    /// RFC 6901 JSON pointer to the value, in the envelope.
    pub pointer: String,
    /// What is suspicious and what follows from it. The text continues the pointer.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.pointer, self.message)
    }
}

/// Warnings with paths relative to the args.
#[derive(Default)]
pub(super) struct WarningList(Vec<Warning>);

impl WarningList {
    /// Adds a warning on the value at `path`.
    pub fn push(&mut self, path: &str, message: impl Into<String>) {
        self.0.push(Warning { pointer: format!("/args{path}"), message: message.into() });
    }

    /// The warnings in the order in which they were added.
    pub fn into_warnings(self) -> Vec<Warning> {
        self.0
    }
}
