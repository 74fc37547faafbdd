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

/// Warnings with the same message about more than this many elements of one list become one.
const MAX_ALIKE: usize = 3;

/// The warnings, with one in place of many about the elements of one list that say the same.
pub(crate) fn group_alike(warnings: Vec<Warning>) -> Vec<Warning> {
    let is_alike = |a: &Warning, b: &Warning| {
        a.message == b.message && without_indices(&a.pointer) == without_indices(&b.pointer)
    };
    let mut grouped = Vec::new();
    for (at, warning) in warnings.iter().enumerate() {
        let alike: Vec<_> =
            warnings.iter().enumerate().filter(|(_, other)| is_alike(other, warning)).collect();
        let Warning { pointer, message } = warning.clone();
        match alike[..] {
            [(first, _), .., (_, last)] if alike.len() > MAX_ALIKE => {
                if first == at {
                    let others = alike.len() - 1;
                    let message = format!("{message} (and {others} more, the last of them {})", last.pointer);
                    grouped.push(Warning { pointer, message });
                }
            }
            _ => grouped.push(Warning { pointer, message }),
        }
    }
    grouped
}

/// A pointer without its numbers.
fn without_indices(pointer: &str) -> String {
    pointer
        .split('/')
        .filter(|token| !token.bytes().all(|byte| byte.is_ascii_digit()))
        .collect::<Vec<_>>()
        .join("/")
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
    use super::{Warning, group_alike, grouped};

    #[test]
    fn the_same_message_about_many_elements_is_given_once() {
        let warning = |pointer: String, message: &str| Warning { pointer, message: message.to_owned() };
        let about = |count: usize| {
            let lines = (0..count).map(|line| warning(format!("/args/lines/{line}"), "is empty"));
            lines.chain([warning("/args/groups/0".to_owned(), "is empty")]).collect::<Vec<_>>()
        };
        assert_eq!(group_alike(about(3)), about(3));
        let grouped = group_alike(about(64));
        assert_eq!(grouped.len(), 2);
        assert_eq!(
            grouped[0].to_string(),
            "/args/lines/0: is empty (and 63 more, the last of them /args/lines/63)"
        );
    }

    #[test]
    fn amounts_have_thousands_separators() {
        let amounts = [0.0, 999.0, 1000.0, 1_234_567.25, -1000.5];
        assert_eq!(amounts.map(grouped), ["0", "999", "1,000", "1,234,567.25", "-1,000.5"]);
    }
}
