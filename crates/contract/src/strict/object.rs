//! Reads the fields of one JSON object and words the errors. Does not know the meaning of any
//! field.

use std::{
    cell::Cell,
    fmt::Write as _,
    ops::{Bound, RangeBounds, RangeInclusive},
};

use super::{
    errors::{Errors, child_pointer},
    message::{
        NumberBounds, describe_bounds, describe_integer, describe_number, format_number, join_choices,
        quote_excerpt,
    },
    node::{MAX_NUMBER, Node},
    suggest,
};
use crate::error::FieldErrorCode;

/// Reads one JSON object field by field and collects its errors.
///
/// A method that records an error still returns a value: a placeholder inside the allowed range, so
/// that reading continues and finds the remaining errors. [`Errors::into_result`] guarantees that
/// placeholders are never used. An `optional_…` method returns `None` only if the field is absent
/// or `null`; for an invalid field it returns a placeholder, so `is_some()` means that the field
/// was given. The two `…_parsed` methods have no placeholder and return `None` for an invalid
/// field.
///
/// Call [`finish`](Self::finish) at the end to reject unknown keys.
#[derive(Debug)]
#[must_use = "call finish() to reject unknown keys"]
pub struct ObjectReader<'n, 'e> {
    members: &'n [(String, Node)],
    pointer: String,
    pub(super) errors: &'e mut Errors,
    known: Vec<&'static str>,
}

impl<'n, 'e> ObjectReader<'n, 'e> {
    /// Opens the object at `pointer`. If the node is not an object, records an error and returns
    /// `None`.
    pub fn open(node: &'n Node, pointer: &str, errors: &'e mut Errors) -> Option<Self> {
        match node {
            Node::Object(members) => Some(Self::new(members, pointer, errors)),
            other => {
                errors.push(pointer, not_an_object(other));
                None
            }
        }
    }

    /// Opens an optional object. An absent node, `null` and, with an error recorded, any node that
    /// is not an object read as an object without members.
    pub fn open_optional(node: Option<&'n Node>, pointer: &str, errors: &'e mut Errors) -> Self {
        let members: &[_] = match node {
            Some(Node::Object(members)) => members,
            None | Some(Node::Null) => &[],
            Some(other) => {
                errors.push(pointer, not_an_object(other));
                &[]
            }
        };
        Self::new(members, pointer, errors)
    }

    fn new(members: &'n [(String, Node)], pointer: &str, errors: &'e mut Errors) -> Self {
        Self { members, pointer: pointer.to_owned(), errors, known: Vec::new() }
    }

    /// The value of a field, to be read by the caller; `None` if it is absent or `null`. Marks the
    /// key as known.
    pub fn node(&mut self, name: &'static str) -> Option<&'n Node> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        let (_, value) = self.members.iter().find(|(key, _)| key == name)?;
        (*value != Node::Null).then_some(value)
    }

    /// The JSON pointer of a field of this object.
    pub fn pointer_of(&self, name: &str) -> String {
        child_pointer(&self.pointer, name)
    }

    /// Records an error on a field, which is missing if it is absent.
    pub fn error(&mut self, name: &str, message: impl Into<String>) {
        let is_given = self.members.iter().any(|(key, _)| key == name);
        let code = if is_given { FieldErrorCode::InvalidValue } else { FieldErrorCode::Missing };
        self.errors.push_as(code, &self.pointer_of(name), message, None);
    }

    /// Records an error on the value at `path`, a pointer relative to this object.
    pub fn error_at(&mut self, path: &str, message: impl Into<String>) {
        self.errors.push(&format!("{}{path}", self.pointer), message);
    }

    /// Whether an error is recorded on the value at `path`, a pointer relative to this object, or
    /// inside it.
    pub fn has_error_within(&self, path: &str) -> bool {
        self.errors.has_error_within(&format!("{}{path}", self.pointer))
    }

    /// Whether an error is recorded on the value at `path` itself, a pointer relative to this
    /// object.
    pub fn has_error_at(&self, path: &str) -> bool {
        self.errors.has_error_at(&format!("{}{path}", self.pointer))
    }

    /// Whether an error is recorded on a field. Its value is then a placeholder and must not be
    /// compared.
    pub fn has_error(&self, name: &str) -> bool {
        self.errors.has_error_at(&self.pointer_of(name))
    }

    /// Opens a required nested object. If it is missing or not an object, records an error and
    /// returns `None`.
    pub fn required_object(&mut self, name: &'static str) -> Option<ObjectReader<'n, '_>> {
        let Some(node) = self.node(name) else {
            self.missing(name, "an object");
            return None;
        };
        ObjectReader::open(node, &self.pointer_of(name), self.errors)
    }

    /// Opens an optional nested object; see [`open_optional`](Self::open_optional).
    pub fn optional_object(&mut self, name: &'static str) -> ObjectReader<'n, '_> {
        let node = self.node(name);
        ObjectReader::open_optional(node, &self.pointer_of(name), self.errors)
    }

    /// Reads a number with an integral value in `range`, in any spelling (1e6, 1000000.0).
    pub fn required_integer(&mut self, name: &'static str, range: RangeInclusive<u64>) -> u64 {
        self.optional_integer(name, range.clone()).unwrap_or_else(|| {
            self.missing(name, &describe_integer(&range));
            *range.start()
        })
    }

    /// Optional form of [`required_integer`](Self::required_integer).
    pub fn optional_integer(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let message = match self.node(name)? {
            Node::Number(value) => match exact_integer(*value) {
                Some(integer) if range.contains(&integer) => return Some(integer),
                _ => format!("must be {}; it is {}", describe_integer(&range), format_number(*value)),
            },
            other => format!("must be {}, not {}", describe_integer(&range), other.type_name()),
        };
        self.error(name, message);
        Some(*range.start())
    }

    /// Reads a number in `range`: `0.0..=1.0`, `0.0..`, or a pair of bounds for "greater than".
    pub fn required_number(&mut self, name: &'static str, range: impl RangeBounds<f64>) -> f64 {
        let range = (range.start_bound().cloned(), range.end_bound().cloned());
        self.optional_number(name, range).unwrap_or_else(|| {
            self.missing(name, &describe_number(&range));
            placeholder(&range)
        })
    }

    /// Optional form of [`required_number`](Self::required_number).
    pub fn optional_number(&mut self, name: &'static str, range: impl RangeBounds<f64>) -> Option<f64> {
        let range = (range.start_bound().cloned(), range.end_bound().cloned());
        let message = match self.node(name)? {
            Node::Number(value) if range.contains(value) => return Some(*value),
            Node::Number(value) => {
                format!("must be {}; it is {}", describe_bounds(&range), format_number(*value))
            }
            other => format!("must be {}, not {}", describe_number(&range), other.type_name()),
        };
        self.error(name, message);
        Some(placeholder(&range))
    }

    /// Reads a boolean. The placeholder is `false`.
    pub fn optional_bool(&mut self, name: &'static str) -> Option<bool> {
        match self.node(name)? {
            Node::Bool(value) => Some(*value),
            other => {
                self.error(name, format!("must be true or false, not {}", other.type_name()));
                Some(false)
            }
        }
    }

    /// Reads a string. The placeholder is empty.
    pub fn required_string(&mut self, name: &'static str) -> &'n str {
        self.optional_string(name).unwrap_or_else(|| {
            self.missing(name, "a string");
            ""
        })
    }

    /// Optional form of [`required_string`](Self::required_string).
    pub fn optional_string(&mut self, name: &'static str) -> Option<&'n str> {
        match self.node(name)? {
            Node::String(text) => Some(text),
            other => {
                self.error(name, format!("must be a string, not {}", other.type_name()));
                Some("")
            }
        }
    }

    /// Reads a string with `parse`. `wanted` describes the accepted strings: "a string of 1 to 64
    /// characters". If the field is missing or invalid, records an error and returns `None`.
    pub fn required_parsed<T>(
        &mut self,
        name: &'static str,
        wanted: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        if self.node(name).is_none() {
            self.missing(name, wanted);
        }
        self.optional_parsed(name, wanted, parse)
    }

    /// Optional form of [`required_parsed`](Self::required_parsed). `None` if the field is absent
    /// or, with an error recorded, invalid.
    pub fn optional_parsed<T>(
        &mut self,
        name: &'static str,
        wanted: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let message = match self.node(name)? {
            Node::String(text) => match parse(text) {
                Some(value) => return Some(value),
                None => format!("must be {wanted}; it is {}", quote_excerpt(text)),
            },
            other => format!("must be {wanted}, not {}", other.type_name()),
        };
        self.error(name, message);
        None
    }

    /// Reads one of the named choices. The placeholder is the first, so `choices` must not be
    /// empty.
    pub fn required_choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> T {
        self.optional_choice(name, choices).unwrap_or_else(|| {
            self.missing(name, &join_choices(choices));
            choices[0].1
        })
    }

    /// Optional form of [`required_choice`](Self::required_choice).
    pub fn optional_choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let chosen = choice(self.node(name)?, choices);
        Some(chosen.unwrap_or_else(|message| {
            self.error(name, message);
            choices[0].1
        }))
    }

    /// Reads an optional list of distinct named choices, which may be empty. Invalid elements are
    /// omitted from the returned list.
    pub fn optional_choices<T: Copy + PartialEq>(
        &mut self,
        name: &'static str,
        choices: &[(&str, T)],
    ) -> Option<Vec<T>> {
        let items = match self.node(name)? {
            Node::Array(items) => items,
            other => {
                self.error(
                    name,
                    format!("must be a list of {}, not {}", join_choices(choices), other.type_name()),
                );
                return Some(Vec::new());
            }
        };
        let pointer = self.pointer_of(name);
        let pointer_of = |index: usize| child_pointer(&pointer, &index.to_string());
        let mut chosen: Vec<(usize, T)> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let message = match choice(item, choices) {
                Err(message) => message,
                Ok(value) => match chosen.iter().find(|(_, earlier)| *earlier == value) {
                    Some((first, _)) => {
                        format!("repeats {}: remove one of them", pointer_of(*first))
                    }
                    None => {
                        chosen.push((index, value));
                        continue;
                    }
                },
            };
            self.errors.push(&pointer_of(index), message);
        }
        Some(chosen.into_iter().map(|(_, value)| value).collect())
    }

    /// Records an error for every unknown key, with the nearest known key as a suggestion if there
    /// is one.
    pub fn finish(self) {
        let known = self.known.clone();
        let is_listed = Cell::new(false);
        self.report_unknown_keys(|key| {
            let hint = match suggest::nearest_name(key, known.iter().copied()) {
                Some(name) => Some(format!("did you mean `{name}`?")),
                None if known.is_empty() => Some("no keys are allowed here".to_owned()),
                // The list is the same for every key of the object.
                None if is_listed.replace(true) => None,
                None => Some(format!("the known keys are `{}`", known.join("`, `"))),
            };
            ("is not a known key".to_owned(), hint)
        });
    }

    /// Whether the object has a key that has not been read so far.
    pub fn has_unknown_key(&self) -> bool {
        self.members.iter().any(|(key, _)| !self.known.contains(&key.as_str()))
    }

    /// As [`finish`](Self::finish), with the message that `describe` has for an unknown key.
    pub fn finish_with(self, describe: impl Fn(&str) -> String) {
        self.report_unknown_keys(|key| (describe(key), None));
    }

    /// Records an error for every unknown key, with the message and the hint of `describe`.
    fn report_unknown_keys(self, describe: impl Fn(&str) -> (String, Option<String>)) {
        for (key, _) in self.members {
            if !self.known.contains(&key.as_str()) {
                let (message, hint) = describe(key);
                let pointer = child_pointer(&self.pointer, key);
                self.errors.push_as(FieldErrorCode::UnknownKey, &pointer, message, hint);
            }
        }
    }

    /// Records that a required field is missing; `wanted` describes its value.
    pub fn missing(&mut self, name: &str, wanted: &str) {
        let (pointer, hint) = (self.pointer_of(name), Some(format!("{wanted} is required")));
        self.errors.push_as(FieldErrorCode::Missing, &pointer, "is missing", hint);
    }
}

fn not_an_object(node: &Node) -> String {
    format!("must be an object, not {}", node.type_name())
}

fn choice<T: Copy>(node: &Node, choices: &[(&str, T)]) -> Result<T, String> {
    let Node::String(text) = node else {
        return Err(format!("must be {}, not {}", join_choices(choices), node.type_name()));
    };
    if let Some((_, value)) = choices.iter().find(|(name, _)| name == text) {
        return Ok(*value);
    }
    let mut message = format!("must be {}; it is {}", join_choices(choices), quote_excerpt(text));
    if let Some(name) = suggest::nearest_name(text, choices.iter().map(|(name, _)| *name)) {
        // Writing to a String cannot fail.
        let _ = write!(message, ": did you mean \"{name}\"?");
    }
    Err(message)
}

fn exact_integer(value: f64) -> Option<u64> {
    ((0.0..=MAX_NUMBER).contains(&value) && value.trunc() == value).then_some(value as u64)
}

/// A number inside the range.
fn placeholder(range: &NumberBounds) -> f64 {
    match *range {
        (Bound::Included(bound), _) | (_, Bound::Included(bound)) => bound,
        (Bound::Excluded(from), Bound::Excluded(to)) => from + (to - from) / 2.0,
        (Bound::Excluded(from), Bound::Unbounded) => from + 1.0,
        (Bound::Unbounded, Bound::Excluded(to)) => to - 1.0,
        (Bound::Unbounded, Bound::Unbounded) => 0.0,
    }
}
