//! Fields that several parts of the args have: names, references to names, amounts and fractions.

use std::ops::{
    Bound::{Excluded, Included},
    RangeInclusive,
};

use forge_contract::strict::{Node, ObjectReader};

use super::{families::MAX_MINOR_UNITS, resolve::millionths};

/// Smallest minor units, by the number of decimals.
const MINOR_UNITS: [f64; 5] = [1.0, 0.1, 0.01, 0.001, 0.0001];

/// What the fields of args refer to.
///
/// Names are those that args list, also where their objects have errors, so that names of nothing
/// are found nevertheless. They are `None` where an element has no valid name, which may be one
/// that others refer to, and where there must be some but are none.
pub(super) struct References {
    /// One minor unit; the smallest there is where `decimals` has an error.
    pub minor_unit: f64,
    /// Largest amount; the largest there is where `decimals` has an error.
    pub largest: f64,
    /// Names of the lines.
    pub lines: Option<Vec<String>>,
    /// Names of the groups.
    pub groups: Option<Vec<String>>,
    /// Names of the indices.
    pub indices: Option<Vec<String>>,
}

impl References {
    /// What the fields of these args refer to. `decimals` are 0 to 4; `None` with an error
    /// recorded.
    pub fn new(object: &mut ObjectReader<'_, '_>, decimals: Option<u32>) -> Self {
        let is_some = |names: &Vec<String>| !names.is_empty();
        Self {
            minor_unit: MINOR_UNITS[decimals.unwrap_or(4) as usize],
            largest: MAX_MINOR_UNITS / f64::from(10_u32.pow(decimals.unwrap_or(0))),
            lines: listed_names(object.node("lines")).filter(is_some),
            groups: listed_names(object.node("groups")).filter(is_some),
            indices: listed_names(object.node("indices")),
        }
    }

    /// The range of an amount above 0.
    pub fn positive_amount(&self) -> RangeInclusive<f64> {
        self.minor_unit..=self.largest
    }

    /// Reads the name of an existing line.
    pub fn read_line(&self, object: &mut ObjectReader<'_, '_>) -> String {
        let Some(lines) = &self.lines else { return object.required_string("line").to_owned() };
        let choices: Vec<_> = lines.iter().map(|name| (name.as_str(), name)).collect();
        object.required_choice("line", &choices).clone()
    }

    /// Reads the name of an existing index.
    pub fn read_index(&self, object: &mut ObjectReader<'_, '_>) -> Option<String> {
        match &self.indices {
            None => object.optional_string("index").map(str::to_owned),
            Some(indices) if indices.is_empty() => {
                let index = object.optional_string("index")?.to_owned();
                object.error("index", "must be the name of an index, and `indices` has none");
                Some(index)
            }
            Some(indices) => {
                let choices: Vec<_> = indices.iter().map(|name| (name.as_str(), name)).collect();
                object.optional_choice("index", &choices).cloned()
            }
        }
    }
}

/// The distinct names in a list of names, or of objects with a name. `None` where one is invalid.
fn listed_names(list: Option<&Node>) -> Option<Vec<String>> {
    let items = match list {
        None => &[][..],
        Some(Node::Array(items)) => items,
        Some(_) => return None,
    };
    let mut names = Vec::new();
    for item in items {
        let name = match item {
            Node::Object(members) => members.iter().find(|(key, _)| key == "name").map(|(_, name)| name),
            other => Some(other),
        };
        match name {
            Some(Node::String(name)) if names.contains(name) => {}
            Some(Node::String(name)) if is_name(name) => names.push(name.clone()),
            _ => return None,
        }
    }
    Some(names)
}

/// The names of one kind of thing, which must differ.
pub(super) struct Names {
    kind: &'static str,
    taken: Vec<String>,
}

/// What a name is.
pub(super) const NAME: &str = "a string of 1 to 64 characters, none of them a control character";

/// Whether a text is a valid name.
pub(super) fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

impl Names {
    /// No names so far.
    pub fn new(kind: &'static str) -> Self {
        Self { kind, taken: Vec::new() }
    }

    /// Reads the field `name` of the next thing.
    pub fn read(&mut self, object: &mut ObjectReader<'_, '_>) -> String {
        let name = object.required_parsed("name", NAME, |text| is_name(text).then(|| text.to_owned()));
        let Some(name) = name else { return String::new() };
        if self.taken.contains(&name) {
            object.error("name", format!("is the name of an earlier {} too: names must differ", self.kind));
        }
        self.taken.push(name.clone());
        name
    }
}

/// Reads a fraction with at most six decimals, above 0 and at most 1.
pub(super) fn optional_fraction(object: &mut ObjectReader<'_, '_>, name: &'static str) -> Option<f64> {
    let x = object.optional_number(name, (Excluded(0.0), Included(1.0)))?;
    check_decimals(object, name, x);
    Some(x)
}

/// Records an error on a number with more than six decimals.
pub(super) fn check_decimals(object: &mut ObjectReader<'_, '_>, name: &str, x: f64) {
    if millionths(x).is_none() && !object.has_error(name) {
        object.error(name, too_many_decimals(x));
    }
}

/// The message for a number with more than six decimals.
pub(super) fn too_many_decimals(x: f64) -> String {
    format!("must have at most six decimals; it is {x}")
}
