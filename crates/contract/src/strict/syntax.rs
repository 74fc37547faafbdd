//! Says what is probably meant where a text is not JSON: other encodings, other formats, literals
//! of other languages. Parses nothing.

/// What to do about bytes that are not UTF-8, or are UTF-8 by chance; `None` without a guess.
pub fn encoding_hint(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xef, 0xbb, 0xbf, ..] => Some("starts with a byte order mark: save it as UTF-8 without one"),
        // A byte order mark, or a first character of ASCII in two or four bytes.
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, ..] | [_, 0, ..] => {
            Some("is UTF-16 or UTF-32: save it as UTF-8 without a byte order mark")
        }
        _ => None,
    }
}

/// What is probably meant at `line` and `column` of a text, both counted from 1 and the column in
/// bytes; `None` without a guess.
pub fn syntax_hint(text: &str, line: usize, column: usize) -> Option<&'static str> {
    let start = text.trim_ascii_start();
    if !start.starts_with(['{', '[', '"']) && !start.starts_with("//") && !start.starts_with("/*") {
        return Some("a document starts with `{`; convert YAML, TOML and other formats to JSON first");
    }
    let line = text.split('\n').nth(line.checked_sub(1)?)?;
    // An error within a word is reported at the letter that does not fit, and one at the end of a
    // line behind it.
    let at = column.saturating_sub(1).min(line.len());
    let is_of_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+' | b'.');
    let start = at - line.as_bytes()[..at].iter().rev().take_while(|byte| is_of_word(byte)).count();
    let rest = line.get(start..)?;
    let word: String = rest.chars().take_while(|c| c.is_ascii() && is_of_word(&(*c as u8))).collect();
    match word.trim_start_matches(['-', '+']) {
        "NaN" | "nan" | "Infinity" | "inf" | "Inf" => {
            return Some("JSON has neither NaN nor Infinity: give a number, or leave the key out");
        }
        "None" | "nil" | "undefined" => return Some("write null, or leave the key out"),
        "True" | "False" | "yes" | "no" => return Some("write true or false"),
        _ => {}
    }
    let lower = word.to_ascii_lowercase();
    if lower.len() > 1 && ["true", "false", "null"].iter().any(|literal| literal.starts_with(&lower)) {
        return (word != lower).then_some("write true, false and null in lower case");
    }
    match rest.as_bytes().first()? {
        b'\'' => Some("strings are in double quotes"),
        b'/' | b'#' => Some("JSON has no comments"),
        byte if byte.is_ascii_alphabetic() => Some("keys and strings are in double quotes"),
        _ => None,
    }
}
