//! Why a value has no canonical JSON.

/// Largest magnitude of an integer that every JSON reader represents exactly: 2^53.
pub const MAX_INTEGER: u64 = 1 << 53;

/// Error: a value has no canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalJsonError {
    /// A float is infinite or NaN; JSON has neither.
    #[error("a number is not finite, so it has no canonical JSON")]
    NotFinite,
    /// An integer that some JSON readers would round. Carries its decimal digits.
    #[error("the integer {0} exceeds 2^53, so it has no canonical JSON")]
    IntegerTooLarge(String),
    /// The value does not serialise to JSON: a key that is not a string, a duplicate key, raw JSON
    /// text, or an error of its own `Serialize` implementation.
    #[error("the value has no canonical JSON: {0}")]
    NotJson(String),
}
