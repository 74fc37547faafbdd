//! What a job is about, in the submitter's words. No influence on the result.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::strict::ObjectReader;

/// What a job is about, in the submitter's words: for readers of the report. It has no influence on
/// the result, but is part of the envelope: another text under the same job id is a conflict.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Title of the report: 1 to 200 characters in one line. No control characters, and none that
    /// separate lines or change the direction of text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]{1,200}$"))]
    pub title: Option<String>,
    /// What the job is for and what the model leaves out: 1 to 4,000 characters. Line ends are
    /// kept; otherwise as the title.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(
        pattern = r"^[^\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]{1,4000}$"
    ))]
    pub description: Option<String>,
    /// Currency of the amounts: a code of three letters as in ISO 4217, such as `EUR`. Not checked
    /// against the list of currencies.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[A-Z]{3}$"))]
    pub currency: Option<String>,
    /// Who answers for the model: 1 to 200 characters, as the title.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]{1,200}$"))]
    pub author: Option<String>,
    /// Date to which the model refers, such as the valuation date: `YYYY-MM-DD` (ISO 8601), from
    /// the year 1 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"))]
    pub as_of: Option<String>,
}

/// Limits in characters, as in the JSON Schema of [`About`].
const MAX_LINE_CHARS: usize = 200;
const MAX_DESCRIPTION_CHARS: usize = 4000;

impl About {
    /// Reads the object `about`; `None` if it says nothing.
    pub(super) fn read(mut object: ObjectReader) -> Option<Self> {
        let line = "a string of 1 to 200 characters without control characters, line separators and \
                    characters that change the direction of text";
        let text = "a string of 1 to 4000 characters without control characters other than line ends, \
                    line separators and characters that change the direction of text";
        let read_line = |text: &str| read_text(text, MAX_LINE_CHARS, is_plain);
        let about = Self {
            title: object.optional_parsed("title", line, read_line),
            description: object.optional_parsed("description", text, |text| {
                read_text(text, MAX_DESCRIPTION_CHARS, |c| c == '\n' || is_plain(c))
            }),
            currency: object.optional_parsed(
                "currency",
                "a currency code of three capital letters, such as \"EUR\"",
                |text| read_text(text, 3, |c| c.is_ascii_uppercase()).filter(|code| code.len() == 3),
            ),
            author: object.optional_parsed("author", line, read_line),
            as_of: object.optional_parsed(
                "as_of",
                "a date of the calendar as YYYY-MM-DD, such as \"2026-12-31\"",
                |text| is_date(text).then(|| text.to_owned()),
            ),
        };
        object.finish();
        (about != Self::default()).then_some(about)
    }
}

/// The text, if it has 1 to `max_chars` characters and all of them are allowed.
fn read_text(text: &str, max_chars: usize, allowed: impl Fn(char) -> bool) -> Option<String> {
    ((1..=max_chars).contains(&text.chars().count()) && text.chars().all(allowed)).then(|| text.to_owned())
}

/// Neither a control character, nor one that separates lines or changes the direction of text.
fn is_plain(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a text is a date `YYYY-MM-DD` of the Gregorian calendar.
fn is_date(text: &str) -> bool {
    let is_shaped = text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    if !is_shaped {
        return false;
    }
    let number = |range: std::ops::Range<usize>| text[range].parse::<u32>().unwrap_or(0);
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let is_leap_year = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap_year => 29,
        2 => 28,
        _ => 0,
    };
    year > 0 && (1..=days).contains(&day)
}
