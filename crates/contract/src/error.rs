//! What can go wrong, in words a submitter can act on: the errors of one document, and the codes with which a job
//! fails. No reading happens here, and nothing here knows a service's internals.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One thing that is wrong with a document, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldError {
    /// RFC 6901 JSON pointer to the offending value; empty for the whole document. A pointer of more than 1,024 bytes
    /// is cut and ends in `…`.
    pub pointer: String,
    /// What is wrong, what was given and what is allowed; reads on from the pointer: "must be …", "is missing: …".
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.pointer.is_empty() { "document" } else { &self.pointer };
        write!(f, "{place}: {}", self.message)
    }
}

/// A document is invalid: everything that is wrong with it, at once. Displays one line for each error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidDocument {
    errors: Vec<FieldError>,
}

impl InvalidDocument {
    /// A document with a single error. `pointer` is "" for the whole document.
    pub fn single(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { errors: vec![FieldError { pointer: pointer.into(), message: message.into() }] }
    }

    /// A document with these errors; `None` if there are none, since then it is not invalid.
    pub fn from_errors(errors: Vec<FieldError>) -> Option<Self> {
        (!errors.is_empty()).then_some(Self { errors })
    }

    /// The errors in the order of discovery; at least one.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// The errors, for a record or an answer.
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

/// Why a job failed. Part of the contract: the codes of a version never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The envelope is malformed, or its op or args are not accepted. Submitting it again unchanged fails again.
    InvalidRequest,
    /// The submitter may not submit this job.
    Unauthorized,
    /// The submitter's quota is used up.
    QuotaExceeded,
    /// The job id already names a job with another envelope. Choose another id.
    Conflict,
    /// Fewer live agents than `policy.min_agents`.
    InsufficientAgents,
    /// The job did not end within `policy.timeout_ms`.
    Timeout,
    /// A shard could not be executed, also after retries.
    ExecutionFailed,
    /// Workers returned different results for a shard and no execution could decide between them.
    VerificationFailed,
    /// The shard results could not be reduced to a result.
    AggregationFailed,
    /// The object store did not take or return an artifact, also after retries.
    StorageFailed,
    /// The job was cancelled on request.
    Cancelled,
    /// A fault of the system itself. Worth a report.
    Internal,
}

impl FailureCode {
    /// The code as it is written in documents, such as `invalid_request`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::Unauthorized => "unauthorized",
            Self::QuotaExceeded => "quota_exceeded",
            Self::Conflict => "conflict",
            Self::InsufficientAgents => "insufficient_agents",
            Self::Timeout => "timeout",
            Self::ExecutionFailed => "execution_failed",
            Self::VerificationFailed => "verification_failed",
            Self::AggregationFailed => "aggregation_failed",
            Self::StorageFailed => "storage_failed",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_one_line_per_error() {
        let errors = [("/args/claim_freq", "must be a number, not a string"), ("", "is too large")]
            .map(|(pointer, message)| FieldError { pointer: pointer.into(), message: message.into() });
        let invalid = InvalidDocument::from_errors(errors.to_vec()).unwrap();
        assert_eq!(
            invalid.to_string(),
            "/args/claim_freq: must be a number, not a string\ndocument: is too large"
        );
        assert_eq!(InvalidDocument::from_errors(Vec::new()), None);
    }

    #[test]
    fn codes_are_written_as_they_are_serialised() {
        use FailureCode::*;
        let codes = [
            InvalidRequest,
            Unauthorized,
            QuotaExceeded,
            Conflict,
            InsufficientAgents,
            Timeout,
            ExecutionFailed,
            VerificationFailed,
            AggregationFailed,
            StorageFailed,
            Cancelled,
            Internal,
        ];
        for code in codes {
            assert_eq!(serde_json::to_value(code).unwrap(), code.to_string());
        }
        let schema = schemars::schema_for!(FailureCode).to_value();
        let described = schema["oneOf"].as_array().unwrap();
        assert_eq!(described.len(), codes.len());
        assert!(described.iter().all(|variant| variant["description"].is_string()));
    }
}
