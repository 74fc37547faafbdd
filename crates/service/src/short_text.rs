//! The form of texts that an agent states about itself, such as the name of its device: they end
//! up in records, logs and artifacts.

/// Upper bound of such a text, in bytes.
pub const MAX_TEXT_BYTES: usize = 128;

/// The text without control characters, cut to [`MAX_TEXT_BYTES`] at the end of a character;
/// `unknown` if nothing is left.
pub fn shorten(text: &str) -> String {
    let mut plain: String = text.chars().filter(|character| !character.is_control()).collect();
    plain.truncate(plain.floor_char_boundary(MAX_TEXT_BYTES));
    if plain.is_empty() { "unknown".to_owned() } else { plain }
}

/// Whether a text is within [`MAX_TEXT_BYTES`], not empty and without control characters.
pub fn is_plain(text: &str) -> bool {
    (1..=MAX_TEXT_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(shorten("a card"), "a card");
        let long = shorten(&"é".repeat(80));
        assert_eq!((long.chars().count(), is_plain(&long)), (64, true));
        assert_eq!(shorten(&format!("a{}", "é".repeat(80))).len(), 127);
        assert!(!is_plain(&"a".repeat(129)));
    }

    #[test]
    fn control_characters_and_empty_texts_are_not_plain() {
        for (text, plain) in
            [("a\u{1b}[2Jb", "a[2Jb"), ("a\nb\0", "ab"), ("\u{9b}", "unknown"), ("", "unknown")]
        {
            assert!(!is_plain(text), "{text:?}");
            assert_eq!(shorten(text), plain);
            assert!(is_plain(plain));
        }
    }
}
