//! Counts the deliveries of each message that ended in a panic of its handler, in this process
//! alone: another process may have the fault that panics, or not.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// Upper bound on the messages that are counted. Beyond it, the count of the oldest is lost.
const MAX_MESSAGES: usize = 1024;

/// Panics by message, which its sequence in the stream identifies.
#[derive(Debug, Default)]
pub struct PanicCounts(Mutex<BTreeMap<u64, u32>>);

impl PanicCounts {
    /// Counts a delivery that ended in a panic, and returns the number of such deliveries.
    pub fn add(&self, sequence: u64) -> u32 {
        let mut counts = self.0.lock();
        let count = counts.entry(sequence).or_default();
        *count += 1;
        let count = *count;
        if counts.len() > MAX_MESSAGES {
            counts.pop_first();
        }
        count
    }

    /// Forgets a message that is not delivered again.
    pub fn remove(&self, sequence: u64) {
        self.0.lock().remove(&sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_counted_by_message_until_it_is_removed() {
        let counts = PanicCounts::default();
        assert_eq!([7, 8, 7].map(|sequence| counts.add(sequence)), [1, 1, 2]);
        counts.remove(7);
        assert_eq!((counts.add(7), counts.add(8)), (1, 2));
    }

    #[test]
    fn number_of_counted_messages_is_bounded() {
        let counts = PanicCounts::default();
        let last = 2 * MAX_MESSAGES as u64;
        (0..=last).for_each(|sequence| assert_eq!(counts.add(sequence), 1));
        assert_eq!(counts.0.lock().len(), MAX_MESSAGES);
        assert_eq!((counts.add(last), counts.add(0)), (2, 1));
    }
}
