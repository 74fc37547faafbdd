//! Reading the vector files of tests/vectors/v1.

use std::{fs, path::PathBuf};

use forge_contract::digest::Digest;
use serde_json::Value;

/// The directory of the vector files.
pub fn directory() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/v1").into()
}

/// The cases of a list in a vector file.
pub fn cases(file: &str, list: &str) -> Vec<Value> {
    let path = directory().join(format!("{file}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let document: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    let cases = document[list].as_array().unwrap_or_else(|| panic!("{file} has no {list}"));
    assert!(!cases.is_empty(), "{file} has no case in {list}");
    cases.clone()
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}

pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("not a number: {value}"))
}

/// An integer, written as a number or, when it is large, as a string.
pub fn integer(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| text(value).parse().unwrap_or_else(|_| panic!("not an integer: {value}")))
}

pub fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value[name].as_array().unwrap_or_else(|| panic!("no list {name}"))
}

pub fn digest(value: &Value) -> Digest {
    text(value).parse().unwrap_or_else(|error| panic!("{error}"))
}

/// A f64 by its bits; `None` for null.
pub fn float(value: &Value) -> Option<f64> {
    if value.is_null() {
        return None;
    }
    let bits = u64::from_str_radix(text(&value["bits"]), 16).expect("bits in hex");
    assert_eq!(f64::from_bits(bits), number(&value["f64"]), "the bits and the number of a vector differ");
    Some(f64::from_bits(bits))
}
