//! The text of a JSON document, and where in it the values are that messages name by pointer.
//! Reads invalid documents too: it finds what stands before the error.

use std::borrow::Cow;

use forge_contract::error::{FieldError, FieldErrorCode};
use serde::Serialize;
use serde_json::Value;

/// A place in a text, both counted from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TextPosition {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// The text of a document.
pub struct SourceText<'a> {
    bytes: &'a [u8],
    /// The text, with replacements where it is not UTF-8.
    text: Cow<'a, str>,
}

/// A member of an object, or an element of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MemberOffsets {
    /// Offset of the key; that of the value for an element.
    key: usize,
    /// Offset of the value.
    value: usize,
}

impl<'a> SourceText<'a> {
    /// The text of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, text: String::from_utf8_lossy(bytes) }
    }

    /// Where an error is: at the key if the key is wrong, else at the value. An error of a field
    /// that does not exist is at the object in which it is missing.
    pub fn position_of_error(&self, error: &FieldError) -> TextPosition {
        match error.code {
            FieldErrorCode::Syntax => self.position_of_syntax_error(),
            FieldErrorCode::DuplicateKey => {
                let found = self.find_all(&error.pointer);
                let repeated = found.get(1).or(found.first()).map(|found| found.key);
                self.position(repeated.unwrap_or_else(|| self.offset_of(&error.pointer)))
            }
            FieldErrorCode::UnknownKey => {
                let key = self.find_all(&error.pointer).first().map(|found| found.key);
                self.position(key.unwrap_or_else(|| self.offset_of(&error.pointer)))
            }
            FieldErrorCode::Missing | FieldErrorCode::InvalidValue => self.position_of(&error.pointer),
        }
    }

    /// Where the value of a pointer is, or else the innermost value around it that exists.
    pub fn position_of(&self, pointer: &str) -> TextPosition {
        self.position(self.offset_of(pointer))
    }

    /// Where the text ceases to be JSON; the beginning if it is JSON.
    fn position_of_syntax_error(&self) -> TextPosition {
        if let Err(error) = std::str::from_utf8(self.bytes) {
            return self.position(error.valid_up_to());
        }
        let Err(error) = serde_json::from_str::<Value>(&self.text) else { return self.position(0) };
        let lines = self.text.split_inclusive('\n').take(error.line().saturating_sub(1));
        let start: usize = lines.map(str::len).sum();
        // An error at the end of a line is reported at column 0 of the next one.
        self.position(start + error.column().saturating_sub(1))
    }

    fn offset_of(&self, pointer: &str) -> usize {
        let mut pointer = pointer;
        loop {
            if let Some(found) = self.find_all(pointer).first() {
                return found.value;
            }
            match pointer.rsplit_once('/') {
                Some((parent, _)) => pointer = parent,
                None => return 0,
            }
        }
    }

    /// The values of a pointer in document order: several where keys are given more than once. A
    /// pointer that ends in `…` was cut, and means the first values that begin so.
    fn find_all(&self, pointer: &str) -> Vec<MemberOffsets> {
        let mut found = Vec::new();
        let tokens: Vec<_> = pointer.split('/').skip(1).map(Token::new).collect();
        // Of a text that is not JSON only the part before the error is read.
        let _ = Scanner { bytes: self.text.as_bytes(), at: 0 }.find(&tokens, None, &mut found);
        found
    }

    fn position(&self, offset: usize) -> TextPosition {
        let before = String::from_utf8_lossy(&self.bytes[..offset.min(self.bytes.len())]);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        TextPosition { line, column }
    }
}

/// One token of a pointer.
struct Token {
    text: String,
    /// Whether the text is only the beginning of the key.
    is_cut: bool,
}

impl Token {
    fn new(escaped: &str) -> Self {
        let text = escaped.replace("~1", "/").replace("~0", "~");
        match text.strip_suffix('…') {
            Some(beginning) => Self { text: beginning.to_owned(), is_cut: true },
            None => Self { text, is_cut: false },
        }
    }

    fn matches(&self, key: &str) -> bool {
        if self.is_cut { key.starts_with(&self.text) } else { key == self.text }
    }
}

/// Reads JSON from the front; `None` where the text is not JSON. No deeper than the pointer that is
/// searched for, so that nesting costs no stack.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    /// Reads a value, and adds what is at the end of the tokens. `key` is the offset of its key.
    fn find(&mut self, tokens: &[Token], key: Option<usize>, found: &mut Vec<MemberOffsets>) -> Option<()> {
        let first = self.next_byte()?;
        let Some((token, rest)) = tokens.split_first() else {
            found.push(MemberOffsets { key: key.unwrap_or(self.at), value: self.at });
            return self.skip_value();
        };
        match first {
            b'{' => self.find_in_object(token, rest, found),
            b'[' => self.find_in_array(token, rest, found),
            _ => self.skip_value(),
        }
    }

    fn find_in_object(
        &mut self,
        token: &Token,
        rest: &[Token],
        found: &mut Vec<MemberOffsets>,
    ) -> Option<()> {
        self.at += 1;
        while self.next_byte()? != b'}' {
            let start = self.at;
            self.skip_string()?;
            let key: String = serde_json::from_slice(&self.bytes[start..self.at]).ok()?;
            self.expect(b':')?;
            match token.matches(&key) {
                true => self.find(rest, Some(start), found)?,
                false => self.skip_value()?,
            }
            self.skip_comma()?;
        }
        self.at += 1;
        Some(())
    }

    fn find_in_array(&mut self, token: &Token, rest: &[Token], found: &mut Vec<MemberOffsets>) -> Option<()> {
        self.at += 1;
        let mut index = 0_usize;
        while self.next_byte()? != b']' {
            match token.matches(&index.to_string()) {
                true => self.find(rest, None, found)?,
                false => self.skip_value()?,
            }
            index += 1;
            self.skip_comma()?;
        }
        self.at += 1;
        Some(())
    }

    /// The next byte that is no white space, which is not read.
    fn next_byte(&mut self) -> Option<u8> {
        while self.bytes.get(self.at)?.is_ascii_whitespace() {
            self.at += 1;
        }
        Some(self.bytes[self.at])
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next_byte()? == byte).then(|| self.at += 1)
    }

    fn skip_comma(&mut self) -> Option<()> {
        match self.next_byte()? {
            b',' => self.at += 1,
            b'}' | b']' => {}
            _ => return None,
        }
        Some(())
    }

    fn skip_string(&mut self) -> Option<()> {
        if *self.bytes.get(self.at)? != b'"' {
            return None;
        }
        self.at += 1;
        loop {
            match *self.bytes.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(())
    }

    /// Skips a value of any depth.
    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.next_byte()? {
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => self.at += 1,
                b'"' => self.skip_string()?,
                _ => {
                    let is_of_word = |byte: &u8| !byte.is_ascii_whitespace() && !b",:{}[]\"".contains(byte);
                    let length = self.bytes[self.at..].iter().take_while(|byte| is_of_word(byte)).count();
                    if length == 0 {
                        return None;
                    }
                    self.at += length;
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(text: &str, pointer: &str) -> (usize, usize) {
        let TextPosition { line, column } = SourceText::new(text.as_bytes()).position_of(pointer);
        (line, column)
    }

    fn error_position(bytes: &[u8], pointer: &str, code: FieldErrorCode) -> (usize, usize) {
        let error = FieldError { code, ..FieldError::new(pointer, "") };
        let TextPosition { line, column } = SourceText::new(bytes).position_of_error(&error);
        (line, column)
    }

    #[test]
    fn values_are_found_by_pointer_with_columns_in_characters() {
        let text = "{\n  \"é\": [1, {\"a/b\": true}],\n  \"x\": {\"y\\u0041\": null, \"s\": \"}\\\"]\"}, \"z\": 3\n}\n";
        assert_eq!(position(text, ""), (1, 1));
        assert_eq!(position(text, "/é"), (2, 8));
        assert_eq!(position(text, "/é/0"), (2, 9));
        assert_eq!(position(text, "/é/1/a~1b"), (2, 20));
        assert_eq!(position(text, "/x/yA"), (3, 20));
        assert_eq!(position(text, "/x/s"), (3, 31));
        assert_eq!(position(text, "/z"), (3, 45));
        // The innermost value that exists.
        assert_eq!(position(text, "/x/missing/deeper"), (3, 8));
        assert_eq!(position(text, "/é/7"), (2, 8));
        assert_eq!(position(text, "/absent"), (1, 1));
        // A pointer that was cut.
        assert_eq!(position(text, "/x/y…"), (3, 20));
    }

    #[test]
    fn errors_of_keys_are_at_the_key() {
        let text = b"{\"a\": 1,\n \"b\": {\"c\": 2, \"c\": 3}}";
        assert_eq!(error_position(text, "/b/c", FieldErrorCode::UnknownKey), (2, 8));
        assert_eq!(error_position(text, "/b/c", FieldErrorCode::DuplicateKey), (2, 16));
        assert_eq!(error_position(text, "/b/c", FieldErrorCode::InvalidValue), (2, 13));
        assert_eq!(error_position(text, "/b/d", FieldErrorCode::Missing), (2, 7));
    }

    #[test]
    fn syntax_errors_are_where_the_text_ceases_to_be_json() {
        let syntax = |bytes: &[u8]| error_position(bytes, "", FieldErrorCode::Syntax);
        assert_eq!(syntax(b"{\n  \"op\": }"), (2, 9));
        assert_eq!(syntax("{\"é\": }".as_bytes()), (1, 7));
        assert_eq!(syntax(b"{\"a\": \"two\nlines\"}"), (2, 1));
        assert_eq!(syntax(b"{\"a\":\n \"\xff\"}"), (2, 3));
        assert_eq!(syntax(b""), (1, 1));
        assert_eq!(syntax(b"{\"a\": 1"), (1, 7));
    }

    #[test]
    fn text_that_is_no_json_is_read_up_to_the_error() {
        assert_eq!(position("{\"a\": 1, \"b\": tru", "/a"), (1, 7));
        for text in ["{\"a\" 1}", "{\"a\": \"x", "{\"a\": [1 2]}", "[", "", "{\"a\": }", "\\", "{\"a\\"] {
            assert!(position(text, "/a/b").0 == 1, "{text}");
        }
        let deep = "[".repeat(1 << 20);
        assert_eq!(position(&deep, "/a"), (1, 1));
    }
}
