//! Parses bytes into a tree and checks size, syntax, depth, duplicate keys and the range of
//! numbers. Knows no fields.

use std::{collections::BTreeSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{
    errors::{Errors, append_token},
    node::{MAX_NUMBER, Node},
    syntax::{encoding_hint, syntax_hint},
};
use crate::{
    canonical::to_canonical_json,
    error::{FieldErrorCode, InvalidDocument},
};

/// Maximum size of a document, in bytes: 1 MiB.
pub const MAX_DOCUMENT_BYTES: usize = 1 << 20;

/// Maximum nesting depth of arrays and objects.
pub const MAX_DEPTH: usize = 64;

/// Parses one JSON document (RFC 8259, with the rules of RFC 7493 for keys and numbers).
///
/// # Errors
///
/// Returns a single error for a document that is too large, not UTF-8, not JSON (with line and
/// column, both counted from 1, the column in characters), or nested too deeply. Also returns every
/// duplicate key, and every number that is not finite or exceeds 2^53 in magnitude.
pub fn parse(bytes: &[u8]) -> Result<Node, InvalidDocument> {
    parse_document(bytes, MAX_DOCUMENT_BYTES, ParseState::default())
}

fn parse_document(bytes: &[u8], max_bytes: usize, mut state: ParseState) -> Result<Node, InvalidDocument> {
    let text = decode_text(bytes, max_bytes).or_else(|message| {
        let mut errors = Errors::new();
        errors.push_as(FieldErrorCode::Syntax, "", message, None);
        errors.into_result("")
    })?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let tree = NodeSeed { state: &mut state, depth: 0 }.deserialize(&mut deserializer);
    let parsed = tree.and_then(|node| deserializer.end().map(|()| node));
    let node = parsed.unwrap_or_else(|error| {
        state.record_fatal(&error, text);
        Node::Null
    });
    state.errors.into_result(node)
}

/// Checks one JSON document of at most `max_bytes` by the rules of [`parse`], without building a
/// tree. A typed reader of the same bytes then sees no duplicate key, no number that it would
/// round, and no deep nesting.
///
/// # Errors
///
/// The same as [`parse`].
pub fn check_document(bytes: &[u8], max_bytes: usize) -> Result<(), InvalidDocument> {
    let state = ParseState { discard: true, ..ParseState::default() };
    parse_document(bytes, max_bytes, state).map(drop)
}

/// Parses a result of at most `max_bytes` by the rules of [`parse`], but for the range of numbers:
/// figures such as variances may exceed 2^53 in magnitude. Such a number must be written as
/// canonical JSON writes the f64 that it is read as, so that every reader of f64 reads the same.
///
/// # Errors
///
/// The same as [`parse`].
pub fn parse_result(bytes: &[u8], max_bytes: usize) -> Result<Node, InvalidDocument> {
    parse_document(bytes, max_bytes, ParseState { large_figures: true, ..ParseState::default() })
}

/// Converts an in-memory object into a [`Node`], with the same checks of numbers and nesting as
/// [`parse`]. `pointer` is the location of the object in its document: errors are reported relative
/// to the document, and the depth of `pointer` counts towards the nesting limit.
///
/// # Errors
///
/// Returns every number that exceeds 2^53 in magnitude, and nesting deeper than [`MAX_DEPTH`].
pub fn from_object(members: &Map<String, Value>, pointer: &str) -> Result<Node, InvalidDocument> {
    let mut state = ParseState { pointer: pointer.to_owned(), ..ParseState::default() };
    let depth = pointer.matches('/').count();
    let tree = NodeSeed { state: &mut state, depth }.deserialize(members.into_deserializer());
    let node = tree.unwrap_or_else(|error: serde_json::Error| {
        state.record_fatal(&error, "");
        Node::Null
    });
    state.errors.into_result(node)
}

fn decode_text(bytes: &[u8], max_bytes: usize) -> Result<&str, String> {
    if bytes.len() > max_bytes {
        return Err(format!("is too large: {} bytes, and at most {max_bytes} are read", bytes.len()));
    }
    if let Some(hint) = encoding_hint(bytes) {
        return Err(hint.into());
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let offset = error.valid_up_to();
        format!("is not UTF-8: byte 0x{:02x} at offset {offset}", bytes[offset])
    })?;
    if text.trim_ascii().is_empty() {
        return Err("is empty: a JSON object is required".into());
    }
    Ok(text)
}

/// Position of the parser, and the errors found so far.
#[derive(Default)]
struct ParseState {
    pointer: String,
    errors: Errors,
    too_deep: bool,
    /// Whether arrays and objects are only checked, and stay empty.
    discard: bool,
    /// Whether numbers beyond 2^53 in magnitude are accepted in their canonical form.
    large_figures: bool,
}

impl ParseState {
    /// Records the error that aborted parsing of `document`. `self.pointer` still points to the
    /// current value.
    fn record_fatal(&mut self, error: &serde_json::Error, document: &str) {
        if self.too_deep {
            return; // Recorded when it was detected.
        }
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let cause = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
        let position = format!("line {line} column {}", column_in_characters(document, line, column));
        if cause == "number out of range" {
            let message = format!("is too large for a finite number, at {position}: {NUMBER_RANGE}");
            self.errors.push(&self.pointer, message);
        } else {
            // Within a string, the letters at the position are no JSON.
            let is_in_string = cause != "key must be a string"
                && ["string", "escape", "surrogate"].iter().any(|word| cause.contains(word));
            let hint = syntax_hint(document, line, column).filter(|_| !is_in_string);
            let message = format!("is not valid JSON: {cause} at {position}");
            self.errors.push_as(FieldErrorCode::Syntax, "", message, hint.map(str::to_owned));
        }
    }

    /// A number of an integer's text.
    fn integer(&mut self, text: impl fmt::Display, value: f64, is_exact: bool) -> Node {
        let is_canonical = || to_canonical_json(&value).is_ok_and(|json| json == text.to_string().as_bytes());
        let allowed = is_exact || (self.large_figures && is_canonical());
        self.number(value, text, allowed)
    }

    fn number(&mut self, value: f64, text: impl fmt::Display, allowed: bool) -> Node {
        if allowed {
            return Node::Number(value + 0.0); // −0 + 0 is 0.
        }
        self.errors.push(&self.pointer, format!("is {text}: {NUMBER_RANGE}"));
        Node::Number(0.0)
    }
}

/// A column that counts bytes, as one that counts characters; both from 1.
fn column_in_characters(document: &str, line: usize, column: usize) -> usize {
    let line = document.split('\n').nth(line.saturating_sub(1)).unwrap_or_default().as_bytes();
    let is_inner = |byte: &&u8| **byte & 0xc0 == 0x80;
    column - line.iter().take(column).filter(is_inner).count()
}

const NUMBER_RANGE: &str =
    "a number must be from -9007199254740992 to 9007199254740992 (2^53), where integers are exact";

/// Parses one value. Implemented as a `DeserializeSeed`, because it carries the parser's state.
struct NodeSeed<'a> {
    state: &'a mut ParseState,
    /// Number of arrays and objects around the value.
    depth: usize,
}

impl NodeSeed<'_> {
    fn check_depth<E: serde::de::Error>(&mut self) -> Result<(), E> {
        if self.depth < MAX_DEPTH {
            return Ok(());
        }
        let message =
            format!("is nested too deeply: at most {MAX_DEPTH} arrays and objects may be inside one another");
        self.state.errors.push(&self.state.pointer, message);
        self.state.too_deep = true;
        Err(E::custom("too deep"))
    }

    /// The seed of a nested value, named `token`.
    fn child(&mut self, token: &str) -> NodeSeed<'_> {
        append_token(&mut self.state.pointer, token);
        NodeSeed { state: self.state, depth: self.depth + 1 }
    }
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(self.state.integer(value, value as f64, value <= MAX_NUMBER as u64))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(self.state.integer(value, value as f64, value.unsigned_abs() <= MAX_NUMBER as u64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        let allowed = self.state.large_figures || value.abs() <= MAX_NUMBER;
        Ok(self.state.number(value, format_args!("{value:e}"), allowed))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Node, E> {
        Ok(Node::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<Node, A::Error> {
        self.check_depth()?;
        let end = self.state.pointer.len();
        let mut items = Vec::new();
        let mut count = 0_usize;
        while let Some(item) = elements.next_element_seed(self.child(&count.to_string()))? {
            count += 1;
            if !self.state.discard {
                items.push(item);
            }
            self.state.pointer.truncate(end);
        }
        self.state.pointer.truncate(end);
        Ok(Node::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Node, A::Error> {
        self.check_depth()?;
        let end = self.state.pointer.len();
        let mut members = Vec::new();
        let mut keys = BTreeSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(self.child(&key))?;
            if keys.insert(key.clone()) {
                if !self.state.discard {
                    members.push((key, value));
                }
            } else {
                let hint = Some("keep one of them".to_owned());
                let message = "is given more than once";
                self.state.errors.push_as(FieldErrorCode::DuplicateKey, &self.state.pointer, message, hint);
            }
            self.state.pointer.truncate(end);
        }
        Ok(Node::Object(members))
    }
}
