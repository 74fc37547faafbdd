//! Random bytes from the operating system, for secrets, nonces and ids.

/// Returns `N` random bytes.
///
/// # Panics
/// When the system has no source of randomness, without which no service can run.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has a source of randomness");
    bytes
}

/// Returns an id for a message, of which 128 bits are random. A predictable id would let another
/// client suppress the message: JetStream drops a message whose id it has seen.
pub fn message_id(kind: &str) -> String {
    format!("{kind}.{:032x}", u128::from_le_bytes(bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_message_ids_are_equal_and_each_names_its_kind() {
        let (a, b) = (message_id("result"), message_id("result"));
        assert_ne!(a, b);
        assert!(a.starts_with("result.") && a.len() == "result.".len() + 32, "{a}");
    }
}
