//! The limit on texts that an agent states about itself, such as the name of its device: they end
//! up in records, logs and artifacts.

/// Upper bound of such a text, in bytes.
pub const MAX_TEXT_BYTES: usize = 128;

/// Cuts a text to [`MAX_TEXT_BYTES`], at the end of a character.
pub fn shorten(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT_BYTES)].to_owned()
}

/// Whether a text is within [`MAX_TEXT_BYTES`].
pub fn is_short(text: &str) -> bool {
    text.len() <= MAX_TEXT_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(shorten("a card"), "a card");
        let long = shorten(&"é".repeat(80));
        assert_eq!((long.chars().count(), is_short(&long)), (64, true));
        assert_eq!(shorten(&format!("a{}", "é".repeat(80))).len(), 127);
        assert!(!is_short(&"a".repeat(129)));
    }
}
