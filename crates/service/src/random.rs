//! Random bytes from the operating system, for secrets, nonces and ids.

/// Returns `N` random bytes.
///
/// # Panics
/// When the system has no source of randomness, without which no service can run.
pub fn bytes<const N: usize>() -> [u8; N] {
    #[cfg(feature = "testing")]
    if let Some(bytes) = seeded::bytes() {
        return bytes;
    }
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the system's randomness")]
fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system has a source of randomness");
}

/// Returns an id for a message, of which 128 bits are random. A predictable id would let another
/// client suppress the message: JetStream drops a message whose id it has seen.
pub fn message_id(kind: &str) -> String {
    format!("{kind}.{:032x}", u128::from_le_bytes(bytes()))
}

/// Reproducible bytes for simulations, which run in one thread.
#[cfg(feature = "testing")]
mod seeded {
    use std::cell::Cell;

    use forge_contract::digest::Digest;

    thread_local! {
        /// The seed of this thread, and the number of draws so far.
        static SOURCE: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
    }

    pub(super) fn seed(seed: u64) {
        SOURCE.set(Some((seed, 0)));
    }

    pub(super) fn bytes<const N: usize>() -> Option<[u8; N]> {
        let (seed, draws) = SOURCE.get()?;
        SOURCE.set(Some((seed, draws + 1)));
        let digest = Digest::hash_parts(&[&seed.to_le_bytes(), &draws.to_le_bytes()]);
        Some(*digest.0.first_chunk().expect("no caller draws more than 32 bytes"))
    }
}

/// Derives all bytes that this thread draws from now on from a seed. Never call it in production:
/// keys and ids become predictable.
#[cfg(feature = "testing")]
pub fn seed_thread(seed: u64) {
    seeded::seed(seed);
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

    #[cfg(feature = "testing")]
    #[test]
    fn a_seeded_thread_draws_the_same_bytes_again() {
        let draw = |seed| {
            std::thread::spawn(move || {
                seed_thread(seed);
                [bytes::<16>(), bytes::<16>()]
            })
            .join()
            .unwrap()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_ne!(draw(1)[0], draw(1)[1]);
    }
}
