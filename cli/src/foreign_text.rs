//! Text from elsewhere, such as names in a manifest, made safe to print: a terminal would execute
//! escape sequences, and control characters could hide or reorder what stands around them.

/// Characters of a value that are printed: a name, a key, the text of a field.
const MAX_VALUE_CHARS: usize = 200;
/// Characters of one line that are printed. A document of megabytes would otherwise flood the
/// terminal, and push what was printed before out of sight.
const MAX_LINE_CHARS: usize = 1000;

/// Text for a part of one line: every control character is written as `\u{…}`.
pub fn escape_line(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            escaped.extend(c.escape_unicode());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// As [`escape_line`], for a value of a document or a message: a long one is cut.
pub fn quote_value(text: &str) -> String {
    quote(text, MAX_VALUE_CHARS)
}

/// As [`escape_line`], for a sentence that may hold a whole document: a long one is cut.
pub fn quote_line(text: &str) -> String {
    quote(text, MAX_LINE_CHARS)
}

fn quote(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => {
            let omitted = text.len() - end;
            format!("{}… ({omitted} more bytes)", escape_line(&text[..end]))
        }
        None => escape_line(text),
    }
}

/// Text of several lines: as [`quote_line`], but line ends are kept.
pub fn escape_lines(text: &str) -> String {
    text.split('\n').map(quote_line).collect::<Vec<_>>().join("\n")
}

/// Control characters (C0, DEL, C1), and the format characters that are invisible or change the
/// direction of text.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}')
        || matches!(c, '\u{180b}'..='\u{180f}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_format_characters_are_written_out() {
        assert_eq!(escape_line("a\x1b[2Jb\nc\u{9b}\u{202e}d é 保"), r"a\u{1b}[2Jb\u{a}c\u{9b}\u{202e}d é 保");
        assert_eq!(escape_lines("one\ntwo\r\x07"), "one\ntwo\\u{d}\\u{7}");
        assert_eq!(escape_line("job\u{ad}-\u{3164}1\u{e0100}"), r"job\u{ad}-\u{3164}1\u{e0100}");
    }

    #[test]
    fn long_values_and_lines_are_cut() {
        assert_eq!(quote_value(&"é".repeat(200)), "é".repeat(200));
        assert_eq!(quote_value(&"\u{1b}".repeat(201)), format!("{}… (1 more bytes)", r"\u{1b}".repeat(200)));
        assert_eq!(quote_line(&"é".repeat(MAX_LINE_CHARS)), "é".repeat(MAX_LINE_CHARS));
        let cut = format!("{}… (4 more bytes)", "é".repeat(MAX_LINE_CHARS));
        assert_eq!(quote_line(&"é".repeat(MAX_LINE_CHARS + 2)), cut);
        assert_eq!(escape_lines(&format!("a\n{}", "é".repeat(MAX_LINE_CHARS + 2))), format!("a\n{cut}"));
    }
}
