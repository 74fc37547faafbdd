//! Text from elsewhere, such as names in a manifest, made safe to print: a terminal would execute
//! escape sequences, and control characters could hide or reorder what stands around them.

/// Text for a part of one line: every control character is written as `\u{…}`.
pub fn escape_line(text: &str) -> String {
    escape(text, |_| false)
}

/// Text of several lines: as [`escape_line`], but line ends are kept.
pub fn escape_lines(text: &str) -> String {
    escape(text, |c| c == '\n')
}

fn escape(text: &str, is_kept: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) && !is_kept(c) {
            escaped.extend(c.escape_unicode());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Control characters (C0, DEL, C1), and the format characters that are invisible or change the
/// direction of text.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_format_characters_are_written_out() {
        assert_eq!(escape_line("a\x1b[2Jb\nc\u{9b}\u{202e}d é 保"), r"a\u{1b}[2Jb\u{a}c\u{9b}\u{202e}d é 保");
        assert_eq!(escape_lines("one\ntwo\r\x07"), "one\ntwo\\u{d}\\u{7}");
    }
}
