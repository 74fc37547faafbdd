//! Strict reading of JSON that strangers wrote: bounded size and depth, no duplicate keys, no number that another
//! reader could take for a different one, no unknown keys, and every error with its place, all at once.
//!
//! [`parse`] makes a tree of [`Node`]s out of bytes; [`ObjectReader`] reads the fields of one JSON object; both collect
//! errors in [`Errors`]. No meaning of any field is known here.

mod object;
mod parse;
mod suggest;
#[cfg(test)]
mod tests;
mod words;

use serde_json::{Map, Number, Value};

pub use self::{
    object::ObjectReader,
    parse::{MAX_DEPTH, MAX_DOCUMENT_BYTES, from_object, parse},
};
use crate::error::{FieldError, InvalidDocument};

/// The largest magnitude of a number: 2^53. Beyond it the integers are not exact in every JSON reader (RFC 7493).
pub const MAX_NUMBER: f64 = 9_007_199_254_740_992.0;

/// Errors kept for one document; the rest are counted, so that an answer stays small whatever was sent.
pub const MAX_ERRORS: usize = 64;

const MAX_POINTER_BYTES: usize = 1024;

/// A JSON value as it was written, apart from number spelling: 1e6 and 1000000 are the same number.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A finite number of magnitude at most [`MAX_NUMBER`]; never −0.
    Number(f64),
    /// A string.
    String(String),
    /// The elements in order.
    Array(Vec<Node>),
    /// The members in document order; keys are unique.
    Object(Vec<(String, Node)>),
}

impl Node {
    /// What the value is, for a message: "a string", "null".
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// The same value for serde, with numbers as [`number_to_value`] gives them.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(value) => number_to_value(*value),
            Self::String(text) => Value::String(text.clone()),
            Self::Array(items) => items.iter().map(Node::to_value).collect(),
            Self::Object(members) => {
                let members = members.iter().map(|(key, value)| (key.clone(), value.to_value()));
                Value::Object(members.collect::<Map<_, _>>())
            }
        }
    }
}

/// A number in the form in which serde_json reads its own canonical text: an integer where the value is one, so that
/// what was normalised and what was read back from storage compare equal. `null` if it is not finite.
pub fn number_to_value(value: f64) -> Value {
    let whole = value.trunc() == value && value.abs() <= MAX_NUMBER;
    match whole {
        true if value < 0.0 => Value::from(value as i64),
        true => Value::from(value as u64),
        false => Number::from_f64(value).map_or(Value::Null, Value::Number),
    }
}

/// The pointer of a member or element: `token` is escaped (RFC 6901) and appended to `parent`.
pub fn child_pointer(parent: &str, token: &str) -> String {
    let mut pointer = parent.to_owned();
    append_token(&mut pointer, token);
    pointer
}

fn append_token(pointer: &mut String, token: &str) {
    pointer.push('/');
    pointer.push_str(&token.replace('~', "~0").replace('/', "~1"));
}

/// Collects everything that is wrong with a document, in the order of discovery.
///
/// An error that is already there is not added again. At most [`MAX_ERRORS`] are kept and the rest are counted.
#[derive(Debug, Default)]
pub struct Errors {
    errors: Vec<FieldError>,
    left_out: usize,
}

impl Errors {
    /// Without errors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records that the value at `pointer` (RFC 6901; "" is the whole document) is wrong.
    pub fn push(&mut self, pointer: &str, message: impl Into<String>) {
        let error = FieldError { pointer: cut(pointer), message: message.into() };
        if self.errors.contains(&error) {
            return;
        }
        if self.errors.len() == MAX_ERRORS {
            self.left_out += 1;
        } else {
            self.errors.push(error);
        }
    }

    /// Whether nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// Whether an error is recorded at exactly this pointer.
    pub fn has_error_at(&self, pointer: &str) -> bool {
        self.errors.iter().any(|error| error.pointer == pointer)
    }

    /// The value, or everything that is wrong. Placeholders that readers returned are in `value` only if there are
    /// errors, so they are never used.
    pub fn into_result<T>(mut self, value: T) -> Result<T, InvalidDocument> {
        if self.left_out > 0 {
            let message = format!("has {} more errors, left out here", self.left_out);
            self.errors.push(FieldError { pointer: String::new(), message });
        }
        InvalidDocument::from_errors(self.errors).map_or(Ok(value), Err)
    }
}

fn cut(pointer: &str) -> String {
    if pointer.len() <= MAX_POINTER_BYTES {
        return pointer.to_owned();
    }
    format!("{}…", &pointer[..pointer.floor_char_boundary(MAX_POINTER_BYTES)])
}
