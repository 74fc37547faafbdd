//! Fields that several parts of the args have: names, references to names, amounts and fractions.

use std::ops::{
    Bound::{Excluded, Included},
    RangeInclusive,
};

use forge_contract::strict::ObjectReader;

use super::{families::MAX_MINOR_UNITS, resolve::millionths};

/// Smallest minor units, by the number of decimals.
const MINOR_UNITS: [f64; 5] = [1.0, 0.1, 0.01, 0.001, 0.0001];

/// What the fields of args refer to.
pub(super) struct References {
    /// One minor unit.
    pub minor_unit: f64,
    /// Largest amount.
    pub largest: f64,
    /// Names of the lines; empty where they have errors.
    pub lines: Vec<String>,
    /// Names of the indices; `None` where they have errors.
    pub indices: Option<Vec<String>>,
}

impl References {
    /// References of args with this number of decimals, 0 to 4, that name nothing so far.
    pub fn new(decimals: u32) -> Self {
        Self {
            minor_unit: MINOR_UNITS[decimals as usize],
            largest: MAX_MINOR_UNITS / f64::from(10_u32.pow(decimals)),
            lines: Vec::new(),
            indices: None,
        }
    }

    /// The range of an amount above 0.
    pub fn positive_amount(&self) -> RangeInclusive<f64> {
        self.minor_unit..=self.largest
    }

    /// Reads the name of an existing line.
    pub fn read_line(&self, object: &mut ObjectReader<'_, '_>) -> String {
        if self.lines.is_empty() {
            return object.required_string("line").to_owned();
        }
        let choices: Vec<_> = self.lines.iter().map(|name| (name.as_str(), name)).collect();
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
