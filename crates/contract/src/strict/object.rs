//! Reading the fields of one JSON object. Knows how to say what is wrong, not what any field means.

use std::{
    fmt::Write as _,
    ops::{Bound, RangeBounds, RangeInclusive},
};

use super::{
    Errors, MAX_NUMBER, Node, child_pointer, suggest,
    words::{Bounds, bounds, listed, quoted, shown, wanted_integer, wanted_number},
};

/// Reads one JSON object field by field and collects what is wrong.
///
/// A reading method that records an error still returns a value: a placeholder that is inside the allowed range, so
/// that reading can go on and find the rest. [`Errors::into_result`] makes sure that no placeholder is ever used. An
/// `optional_…` method returns `None` only where the field is absent or `null`, and a placeholder where it is wrong,
/// so "is it given?" can be asked of its answer. The two `…_parsed` methods have no placeholder and return `None`.
///
/// Call [`finish`](Self::finish) at the end: it rejects the keys that nobody asked for.
#[derive(Debug)]
#[must_use = "call finish() to reject unknown keys"]
pub struct ObjectReader<'n, 'e> {
    members: &'n [(String, Node)],
    pointer: String,
    errors: &'e mut Errors,
    known: Vec<&'static str>,
}

impl<'n, 'e> ObjectReader<'n, 'e> {
    /// Opens the object at `pointer`; `None`, with an error recorded, if the node is something else.
    pub fn open(node: &'n Node, pointer: &str, errors: &'e mut Errors) -> Option<Self> {
        match node {
            Node::Object(members) => Some(Self::new(members, pointer, errors)),
            other => {
                errors.push(pointer, not_an_object(other));
                None
            }
        }
    }

    /// Opens an object that may be left out: absent and `null` read as an object without members, and so does
    /// something else than an object, with an error recorded.
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

    /// The value of a field for someone else to read. `None` if it is absent or `null`. The key counts as known.
    pub fn node(&mut self, name: &'static str) -> Option<&'n Node> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        let (_, value) = self.members.iter().find(|(key, _)| key == name)?;
        (*value != Node::Null).then_some(value)
    }

    /// The pointer of a field of this object.
    pub fn pointer_of(&self, name: &str) -> String {
        child_pointer(&self.pointer, name)
    }

    /// Records an error on a field.
    pub fn error(&mut self, name: &str, message: impl Into<String>) {
        self.errors.push(&self.pointer_of(name), message);
    }

    /// Whether an error is recorded on a field, so that its value is a placeholder and not worth comparing.
    pub fn has_error(&self, name: &str) -> bool {
        self.errors.has_error_at(&self.pointer_of(name))
    }

    /// Opens a nested object that must be given; `None`, with an error recorded, if it is missing or something else.
    pub fn required_object(&mut self, name: &'static str) -> Option<ObjectReader<'n, '_>> {
        let Some(node) = self.node(name) else {
            self.missing(name, "an object");
            return None;
        };
        ObjectReader::open(node, &self.pointer_of(name), self.errors)
    }

    /// Opens a nested object that may be left out; see [`open_optional`](Self::open_optional).
    pub fn optional_object(&mut self, name: &'static str) -> ObjectReader<'n, '_> {
        let node = self.node(name);
        ObjectReader::open_optional(node, &self.pointer_of(name), self.errors)
    }

    /// A number whose value is an integer in `range`, however it is spelled (1e6, 1000000.0).
    pub fn required_integer(&mut self, name: &'static str, range: RangeInclusive<u64>) -> u64 {
        self.optional_integer(name, range.clone()).unwrap_or_else(|| {
            self.missing(name, &wanted_integer(&range));
            *range.start()
        })
    }

    /// Like [`required_integer`](Self::required_integer), for a field that may be left out.
    pub fn optional_integer(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let message = match self.node(name)? {
            Node::Number(value) => match whole(*value) {
                Some(integer) if range.contains(&integer) => return Some(integer),
                _ => format!("must be {}; it is {}", wanted_integer(&range), shown(*value)),
            },
            other => format!("must be {}, not {}", wanted_integer(&range), other.kind()),
        };
        self.error(name, message);
        Some(*range.start())
    }

    /// A number in `range`: `0.0..=1.0`, `0.0..`, or a pair of bounds for "greater than".
    pub fn required_number(&mut self, name: &'static str, range: impl RangeBounds<f64>) -> f64 {
        let range = (range.start_bound().cloned(), range.end_bound().cloned());
        self.optional_number(name, range).unwrap_or_else(|| {
            self.missing(name, &wanted_number(&range));
            placeholder(&range)
        })
    }

    /// Like [`required_number`](Self::required_number), for a field that may be left out.
    pub fn optional_number(&mut self, name: &'static str, range: impl RangeBounds<f64>) -> Option<f64> {
        let range = (range.start_bound().cloned(), range.end_bound().cloned());
        let message = match self.node(name)? {
            Node::Number(value) if range.contains(value) => return Some(*value),
            Node::Number(value) => format!("must be {}; it is {}", bounds(&range), shown(*value)),
            other => format!("must be {}, not {}", wanted_number(&range), other.kind()),
        };
        self.error(name, message);
        Some(placeholder(&range))
    }

    /// `true` or `false`. The placeholder is `false`.
    pub fn optional_bool(&mut self, name: &'static str) -> Option<bool> {
        match self.node(name)? {
            Node::Bool(value) => Some(*value),
            other => {
                self.error(name, format!("must be true or false, not {}", other.kind()));
                Some(false)
            }
        }
    }

    /// Any string. The placeholder is empty.
    pub fn required_string(&mut self, name: &'static str) -> &'n str {
        self.optional_string(name).unwrap_or_else(|| {
            self.missing(name, "a string");
            ""
        })
    }

    /// Like [`required_string`](Self::required_string), for a field that may be left out.
    pub fn optional_string(&mut self, name: &'static str) -> Option<&'n str> {
        match self.node(name)? {
            Node::String(text) => Some(text),
            other => {
                self.error(name, format!("must be a string, not {}", other.kind()));
                Some("")
            }
        }
    }

    /// A string that `parse` takes. `wanted` says which ones: "a string of 1 to 64 characters". `None` if it is
    /// missing or wrong, with an error recorded.
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

    /// Like [`required_parsed`](Self::required_parsed), for a field that may be left out. `None` if it is left out, or
    /// wrong, with an error recorded.
    pub fn optional_parsed<T>(
        &mut self,
        name: &'static str,
        wanted: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let message = match self.node(name)? {
            Node::String(text) => match parse(text) {
                Some(value) => return Some(value),
                None => format!("must be {wanted}; it is {}", quoted(text)),
            },
            other => format!("must be {wanted}, not {}", other.kind()),
        };
        self.error(name, message);
        None
    }

    /// One of the named choices. The placeholder is the first, so `choices` must not be empty.
    pub fn required_choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> T {
        self.optional_choice(name, choices).unwrap_or_else(|| {
            self.missing(name, &listed(choices));
            choices[0].1
        })
    }

    /// Like [`required_choice`](Self::required_choice), for a field that may be left out.
    pub fn optional_choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let chosen = choice(self.node(name)?, choices);
        Some(chosen.unwrap_or_else(|message| {
            self.error(name, message);
            choices[0].1
        }))
    }

    /// A list of named choices without repetition, which may be left out or empty. An element that is wrong is left
    /// out of the answer.
    pub fn optional_choices<T: Copy + PartialEq>(
        &mut self,
        name: &'static str,
        choices: &[(&str, T)],
    ) -> Option<Vec<T>> {
        let items = match self.node(name)? {
            Node::Array(items) => items,
            other => {
                self.error(name, format!("must be a list of {}, not {}", listed(choices), other.kind()));
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
                        format!("repeats {}: leave one of them out", pointer_of(*first))
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

    /// Records an error for every key that was never asked for, with the nearest known key if there is one.
    pub fn finish(self) {
        for (key, _) in self.members {
            if self.known.contains(&key.as_str()) {
                continue;
            }
            let message = match suggest::nearest(key, self.known.iter().copied()) {
                Some(name) => format!("is not a known key: did you mean `{name}`?"),
                None if self.known.is_empty() => "is not a known key: no keys are allowed here".to_owned(),
                None => format!("is not a known key: the known keys are `{}`", self.known.join("`, `")),
            };
            self.errors.push(&child_pointer(&self.pointer, key), message);
        }
    }

    fn missing(&mut self, name: &str, wanted: &str) {
        self.error(name, format!("is missing: {wanted} is required"));
    }
}

fn not_an_object(node: &Node) -> String {
    format!("must be an object, not {}", node.kind())
}

fn choice<T: Copy>(node: &Node, choices: &[(&str, T)]) -> Result<T, String> {
    let Node::String(text) = node else {
        return Err(format!("must be {}, not {}", listed(choices), node.kind()));
    };
    if let Some((_, value)) = choices.iter().find(|(name, _)| name == text) {
        return Ok(*value);
    }
    let mut message = format!("must be {}; it is {}", listed(choices), quoted(text));
    if let Some(name) = suggest::nearest(text, choices.iter().map(|(name, _)| *name)) {
        // Writing to a String cannot fail.
        let _ = write!(message, ": did you mean \"{name}\"?");
    }
    Err(message)
}

fn whole(value: f64) -> Option<u64> {
    ((0.0..=MAX_NUMBER).contains(&value) && value.trunc() == value).then_some(value as u64)
}

/// Some number inside the range.
fn placeholder(range: &Bounds) -> f64 {
    match *range {
        (Bound::Included(bound), _) | (_, Bound::Included(bound)) => bound,
        (Bound::Excluded(from), Bound::Excluded(to)) => from + (to - from) / 2.0,
        (Bound::Excluded(from), Bound::Unbounded) => from + 1.0,
        (Bound::Unbounded, Bound::Excluded(to)) => to - 1.0,
        (Bound::Unbounded, Bound::Unbounded) => 0.0,
    }
}
