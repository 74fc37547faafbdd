//! Canonical JSON (RFC 8785): the one text that a value has, so that equal values have equal digests in every
//! language. Refuses values whose canonical text another reader could take for a different value; never rounds.

mod check;
#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::digest::Digest;

/// The largest magnitude of an integer that every JSON reader keeps exact: 2^53.
pub const MAX_INTEGER: u64 = 1 << 53;

/// Why a value has no canonical text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalJsonError {
    /// An infinite float, or not a number. JSON has neither.
    #[error("a number is not finite, so it has no canonical JSON")]
    NotFinite,
    /// An integer that a JSON reader may round to another one. Carries its decimal digits.
    #[error("the integer {0} is beyond 2^53, so it has no canonical JSON")]
    IntegerTooLarge(String),
    /// The type does not serialise to JSON: keys that are no strings, a key twice, raw JSON text, or its own error.
    #[error("the value has no canonical JSON: {0}")]
    NotJson(String),
}

/// The canonical JSON of a value (RFC 8785), in UTF-8.
///
/// Integers and floats of the same value have the same text: JSON has one kind of number.
///
/// # Errors
///
/// A value that holds, anywhere and by any of serde's methods (in a map key also), a float that is not finite or an
/// integer type's value beyond 2^53 in magnitude; or one that is not JSON. Floats beyond 2^53 are allowed here, as
/// in RFC 8785: they are the same double for every reader. (`strict::parse` refuses them, since it cannot tell them
/// from integers.)
pub fn to_canonical_json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CanonicalJsonError> {
    // The crate below writes integers as the nearest double and a NaN inside an array as null, so look first.
    value.serialize(check::Checker)?;
    serde_json_canonicalizer::to_vec(&value).map_err(|error| CanonicalJsonError::NotJson(error.to_string()))
}

/// SHA-256 of the canonical JSON of a value.
///
/// # Errors
///
/// As [`to_canonical_json`].
pub fn canonical_digest<T: Serialize + ?Sized>(value: &T) -> Result<Digest, CanonicalJsonError> {
    Ok(Digest::hash_parts(&[&to_canonical_json(value)?]))
}
