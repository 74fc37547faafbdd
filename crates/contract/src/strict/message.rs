//! Formats ranges, choices and given values for error messages. Performs no checks.

use std::ops::{Bound, RangeInclusive};

use super::node::MAX_NUMBER;

/// Joins the names of choices: `"cpu", "gpu" or "any"`.
pub fn join_choices<T>(choices: &[(&str, T)]) -> String {
    let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// Quotes a given string, escaped and truncated to 64 characters.
pub fn quote_excerpt(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &text[..end], text.len()),
        None => format!("{text:?}"),
    }
}

/// Describes an integer in `range`: "a whole number from 1 to 9", or "a whole number of at least 1"
/// if the range has no effective upper end.
pub fn describe_integer(range: &RangeInclusive<u64>) -> String {
    if *range.end() >= MAX_NUMBER as u64 {
        format!("a whole number of at least {}", range.start())
    } else {
        format!("a whole number from {} to {}", range.start(), range.end())
    }
}

/// Both ends of a range of numbers.
pub type NumberBounds = (Bound<f64>, Bound<f64>);

/// Describes a number in `range`: "a number from 0 to 1".
pub fn describe_number(range: &NumberBounds) -> String {
    match range {
        (Bound::Unbounded, Bound::Unbounded) => "a number".to_owned(),
        _ => format!("a number {}", describe_bounds(range)),
    }
}

/// Describes a range: "from 0 to 1", "greater than 0 and at most 8", "at least 0".
pub fn describe_bounds(range: &NumberBounds) -> String {
    let lower = match range.0 {
        Bound::Included(bound) => Some(format!("at least {}", format_number(bound))),
        Bound::Excluded(bound) => Some(format!("greater than {}", format_number(bound))),
        Bound::Unbounded => None,
    };
    let upper = match range.1 {
        Bound::Included(bound) => Some(format!("at most {}", format_number(bound))),
        Bound::Excluded(bound) => Some(format!("less than {}", format_number(bound))),
        Bound::Unbounded => None,
    };
    match (range, lower, upper) {
        ((Bound::Included(from), Bound::Included(to)), ..) => {
            format!("from {} to {}", format_number(*from), format_number(*to))
        }
        (_, Some(lower), Some(upper)) => format!("{lower} and {upper}"),
        (_, lower, upper) => lower.or(upper).unwrap_or_default(),
    }
}

/// Formats a number without long runs of zeros: scientific notation for very large and very small
/// magnitudes.
pub fn format_number(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 || (1e-6..1e21).contains(&magnitude) { value.to_string() } else { format!("{value:e}") }
}
