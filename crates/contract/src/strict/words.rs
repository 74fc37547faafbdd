//! How ranges, choices and given values are written in a message. Decides nothing.

use std::ops::{Bound, RangeInclusive};

use super::MAX_NUMBER;

/// `"cpu", "gpu" or "any"`
pub fn listed<T>(choices: &[(&str, T)]) -> String {
    let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// A given string for a message, escaped and cut to 64 characters.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &text[..end], text.len()),
        None => format!("{text:?}"),
    }
}

/// "a whole number from 1 to 9"; "of at least 1" where the range ends beyond every number that is read.
pub fn wanted_integer(range: &RangeInclusive<u64>) -> String {
    if *range.end() >= MAX_NUMBER as u64 {
        format!("a whole number of at least {}", range.start())
    } else {
        format!("a whole number from {} to {}", range.start(), range.end())
    }
}

/// The two ends of a range of numbers.
pub type Bounds = (Bound<f64>, Bound<f64>);

/// "a number from 0 to 1".
pub fn wanted_number(range: &Bounds) -> String {
    match range {
        (Bound::Unbounded, Bound::Unbounded) => "a number".to_owned(),
        _ => format!("a number {}", bounds(range)),
    }
}

/// "from 0 to 1", "greater than 0 and at most 8", "at least 0".
pub fn bounds(range: &Bounds) -> String {
    let lower = match range.0 {
        Bound::Included(bound) => Some(format!("at least {}", shown(bound))),
        Bound::Excluded(bound) => Some(format!("greater than {}", shown(bound))),
        Bound::Unbounded => None,
    };
    let upper = match range.1 {
        Bound::Included(bound) => Some(format!("at most {}", shown(bound))),
        Bound::Excluded(bound) => Some(format!("less than {}", shown(bound))),
        Bound::Unbounded => None,
    };
    match (range, lower, upper) {
        ((Bound::Included(from), Bound::Included(to)), ..) => {
            format!("from {} to {}", shown(*from), shown(*to))
        }
        (_, Some(lower), Some(upper)) => format!("{lower} and {upper}"),
        (_, lower, upper) => lower.or(upper).unwrap_or_default(),
    }
}

/// A number as people write it: without a long row of zeros.
pub fn shown(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 || (1e-6..1e21).contains(&magnitude) { value.to_string() } else { format!("{value:e}") }
}
