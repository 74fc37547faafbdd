//! A warning, and a list of them.

use std::fmt;

use serde::Serialize;

/// A legal, but suspicious value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Warning {
    /// RFC 6901 JSON pointer to the value, in the envelope.
    pub pointer: String,
    /// What is suspicious and what follows from it. The text continues the pointer.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.pointer, self.message)
    }
}

/// An amount with thousands separators.
pub(super) fn grouped(amount: f64) -> String {
    let text = amount.to_string();
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), None), |(w, f)| (w, Some(f)));
    let digits = whole.trim_start_matches('-');
    let mut grouped = whole[..whole.len() - digits.len()].to_owned();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    fraction.map_or(grouped.clone(), |fraction| format!("{grouped}.{fraction}"))
}

/// Warnings with paths relative to the args.
#[derive(Default)]
pub(super) struct WarningList(Vec<Warning>);

impl WarningList {
    /// Adds a warning on the value at `path`.
    pub fn push(&mut self, path: &str, message: impl Into<String>) {
        self.0.push(Warning { pointer: format!("/args{path}"), message: message.into() });
    }

    /// The warnings in the order in which they were added.
    pub fn into_warnings(self) -> Vec<Warning> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn amounts_have_thousands_separators() {
        let amounts = [0.0, 999.0, 1000.0, 1_234_567.25, -1000.5];
        assert_eq!(amounts.map(grouped), ["0", "999", "1,000", "1,234,567.25", "-1,000.5"]);
    }
}
