//! Errors on which a submitter can act: the errors of a document, and the codes with which jobs
//! fail.
//!
//! Types only: this module reads no documents and exposes no internals of the services.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One error in a document, with its location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldError {
    /// RFC 6901 JSON pointer to the offending value; empty for the whole document. Pointers longer
    /// than 200 characters are truncated and end in `…`.
    pub pointer: String,
    /// The problem, the given value and the accepted values. The text continues the pointer: "must
    /// be …", "is missing: …".
    pub message: String,
    /// Kind of error, for programs. Not stored: an error that was read back has the
    /// default.
    #[serde(skip)]
    pub code: FieldErrorCode,
    /// The end of `message` that says what to do, where it does.
    #[serde(skip)]
    pub hint: Option<String>,
}

/// Kind of an error in a document.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum FieldErrorCode {
    /// The text is not JSON, or cannot be read at all.
    Syntax,
    /// A key is given more than once.
    DuplicateKey,
    /// The object has no such key.
    UnknownKey,
    /// A required field is absent.
    Missing,
    /// The value is not accepted.
    #[default]
    InvalidValue,
}

impl FieldErrorCode {
    /// The code as written in documents, such as `unknown_key`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl FieldError {
    /// An error of kind [`FieldErrorCode::InvalidValue`] without a hint.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        let (pointer, message) = (pointer.into(), message.into());
        Self { pointer, message, code: FieldErrorCode::InvalidValue, hint: None }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.pointer.is_empty() { "document" } else { &self.pointer };
        write!(f, "{place}: {}", self.message)
    }
}

/// Error: a document is invalid. Holds every error found in it; displayed with one line per error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidDocument {
    errors: Vec<FieldError>,
}

impl InvalidDocument {
    /// Creates the error of a document with a single fault. An empty `pointer` means the whole
    /// document.
    pub fn single(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { errors: vec![FieldError::new(pointer, message)] }
    }

    /// Creates it from the given errors; `None` if there are none.
    pub fn from_errors(errors: Vec<FieldError>) -> Option<Self> {
        (!errors.is_empty()).then_some(Self { errors })
    }

    /// The errors in the order of discovery; at least one.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// Returns the errors, for a job record or a reply.
    pub fn into_errors(self) -> Vec<FieldError> {
        self.errors
    }
}

impl fmt::Display for InvalidDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidDocument {}

/// What a caller can do about an error of another part of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// A later attempt may succeed without anybody acting: retry with backoff.
    Transient,
    /// The configuration, the permissions or the location is at fault. Attempts fail until an
    /// operator acts: give resources back and retry with backoff.
    Permanent,
    /// The request itself is not accepted, and never will be: do not retry it.
    Refusal,
    /// Stored data or a program is wrong, which no attempt changes: do not retry.
    Fault,
}

impl ErrorClass {
    /// Whether a later attempt at the same request can succeed.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Transient | Self::Permanent)
    }
}

/// Why a job ended without a result. Part of the contract: the meaning of a code never changes
/// within a version.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::Display,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum FailureCode {
    /// The envelope is malformed, or its op or args are not accepted. Resubmitting it unchanged
    /// fails again.
    InvalidRequest,
    /// The submitter is not permitted to submit this job.
    Unauthorized,
    /// The submitter's quota is exhausted.
    QuotaExceeded,
    /// The job id is in use by a job with a different envelope. Choose another id.
    Conflict,
    /// Fewer agents are live than `policy.min_agents` requires.
    InsufficientAgents,
    /// The job did not end within `policy.timeout_ms`.
    Timeout,
    /// A shard could not be executed, even after all retries.
    ExecutionFailed,
    /// Workers returned different results for a shard, and no re-execution could establish the
    /// correct one.
    VerificationFailed,
    /// The shard results could not be reduced to a job result.
    AggregationFailed,
    /// The object store failed to write or return an artifact, even after all retries.
    StorageFailed,
    /// The job was cancelled on request.
    Cancelled,
    /// An internal error. Please report it.
    Internal,
}

impl FailureCode {
    /// The code as written in documents, such as `invalid_request`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray as _;

    use super::*;

    #[test]
    fn an_invalid_document_displays_one_line_per_error() {
        let errors = [("/args/claim_freq", "must be a number, not a string"), ("", "is too large")]
            .map(|(pointer, message)| FieldError::new(pointer, message));
        let invalid = InvalidDocument::from_errors(errors.to_vec()).unwrap();
        assert_eq!(
            invalid.to_string(),
            "/args/claim_freq: must be a number, not a string\ndocument: is too large"
        );
        assert_eq!(InvalidDocument::from_errors(Vec::new()), None);
    }

    #[test]
    fn codes_display_as_they_serialise() {
        for code in FailureCode::VARIANTS {
            assert_eq!(serde_json::to_value(code).unwrap(), code.to_string());
            assert_eq!(code.as_str(), code.to_string());
        }
        let schema = schemars::schema_for!(FailureCode).to_value();
        let described = schema["oneOf"].as_array().unwrap();
        assert_eq!(described.len(), FailureCode::VARIANTS.len());
        assert!(described.iter().all(|variant| variant["description"].is_string()));
    }
}
