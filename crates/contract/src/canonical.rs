//! Canonical JSON (RFC 8785): each value has exactly one text, so equal values have equal digests
//! in every language. A value that another reader could misread from its canonical text is
//! rejected; nothing is rounded.

mod check;
mod error;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use self::error::{CanonicalJsonError, MAX_INTEGER};
use crate::digest::Digest;

/// Serialises a value as canonical JSON (RFC 8785), in UTF-8.
///
/// Integers and floats of equal value have the same text, because JSON has a single kind of number.
///
/// # Errors
///
/// Returns an error if the value is not JSON, or if it contains, at any depth and in map keys too,
/// a float that is not finite or a value of an integer type that exceeds 2^53 in magnitude. Floats
/// beyond 2^53 are allowed, as in RFC 8785: every reader decodes them to the same double.
/// (`strict::parse` rejects them, because it cannot distinguish them from integers.)
pub fn to_canonical_json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CanonicalJsonError> {
    // The canonicalizer writes large integers as the nearest double, and a NaN inside an array as
    // null, so every number is checked first.
    value.serialize(check::NumberChecker)?;
    serde_json_canonicalizer::to_vec(&value).map_err(|error| CanonicalJsonError::NotJson(error.to_string()))
}

/// SHA-256 of the canonical JSON of a value.
///
/// # Errors
///
/// Returns the errors of [`to_canonical_json`].
pub fn canonical_digest<T: Serialize + ?Sized>(value: &T) -> Result<Digest, CanonicalJsonError> {
    Ok(Digest::hash_parts(&[&to_canonical_json(value)?]))
}
