//! Backoff of the receive loop while the bus returns errors. Logs an error once, not on every attempt.

use std::{mem, time::Duration};

use forge_bus::{BusError, topology::Queue};

/// Delay after the first error.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Upper bound of every delay.
const MAX_DELAY: Duration = Duration::from_secs(5);

pub(super) struct ReceiveBackoff {
    queue: Queue,
    /// The kind of the last error; `None` after a success.
    last_error: Option<mem::Discriminant<BusError>>,
    delay: Duration,
}

impl ReceiveBackoff {
    pub(super) fn new(queue: Queue) -> Self {
        Self { queue, last_error: None, delay: FIRST_DELAY }
    }

    /// Resets the backoff after a success.
    pub(super) fn reset(&mut self) {
        self.delay = FIRST_DELAY;
        if self.last_error.take().is_some() {
            tracing::info!(queue = self.queue.label(), "receiving messages again");
        }
    }

    /// Returns the delay before the next attempt, and logs the error if the previous one was of another kind.
    pub(super) fn next_delay(&mut self, error: &BusError) -> Duration {
        let kind = mem::discriminant(error);
        if self.last_error.replace(kind) != Some(kind) {
            tracing::warn!(queue = self.queue.label(), %error, "receiving messages failed; retrying");
        }
        let delay = self.delay;
        self.delay = (delay * 2).min(MAX_DELAY);
        delay
    }
}
