//! The JSON tree that the parser produces. It represents values and knows no document's fields.

use serde_json::{Map, Number, Value};

/// Largest magnitude of a number: 2^53. Beyond it, some JSON readers cannot represent integers
/// exactly (RFC 7493).
pub const MAX_NUMBER: f64 = 9_007_199_254_740_992.0;

/// A JSON value as written, except that numbers lose their spelling: 1e6 and 1000000 are equal.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A finite number; never −0. Its magnitude is at most [`MAX_NUMBER`], except in results.
    Number(f64),
    /// A string.
    String(String),
    /// The elements in order.
    Array(Vec<Node>),
    /// The members in document order; keys are unique.
    Object(Vec<(String, Node)>),
}

impl Node {
    /// The JSON type with its article, for messages: "a string", "null".
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// Converts the tree to a serde_json value, with numbers converted by [`number_to_value`].
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

/// Converts a number to the form in which serde_json reads its canonical text: an integer if the
/// value is whole. A normalised value therefore equals the same value read back from storage. A
/// number that is not finite becomes `null`.
pub fn number_to_value(value: f64) -> Value {
    let whole = value.trunc() == value && value.abs() <= MAX_NUMBER;
    match whole {
        true if value < 0.0 => Value::from(value as i64),
        true => Value::from(value as u64),
        false => Number::from_f64(value).map_or(Value::Null, Value::Number),
    }
}
