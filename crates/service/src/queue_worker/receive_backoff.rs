//! Backoff of the receive loop while the bus returns errors. Logs an error once, not on every
//! attempt.

use std::{mem, time::Duration};

use forge_bus::{BusError, retry, topology::Queue};

/// Upper bound of the first delay.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Upper bound of every delay.
const MAX_DELAY: Duration = Duration::from_secs(5);

pub(super) struct ReceiveBackoff {
    queue: Queue,
    /// The kind of the last error, and the delays that follow it; `None` after a success.
    failure: Option<ReceiveFailure>,
}

struct ReceiveFailure {
    kind: mem::Discriminant<BusError>,
    delays: Box<dyn Iterator<Item = Duration> + Send>,
}

impl ReceiveBackoff {
    pub(super) fn new(queue: Queue) -> Self {
        Self { queue, failure: None }
    }

    /// Resets the backoff after a success.
    pub(super) fn reset(&mut self) {
        if self.failure.take().is_some() {
            tracing::info!(queue = self.queue.label(), "receiving messages again");
        }
    }

    /// Returns the delay before the next attempt, and logs the error if the previous one was of
    /// another kind.
    pub(super) fn next_delay(&mut self, error: &BusError) -> Duration {
        let kind = mem::discriminant(error);
        if self.failure.as_ref().is_none_or(|failure| failure.kind != kind) {
            tracing::warn!(queue = self.queue.label(), %error, "receiving messages failed; retrying");
        }
        let delays = || Box::new(retry::delays(FIRST_DELAY, MAX_DELAY)) as Box<_>;
        let failure = self.failure.get_or_insert_with(|| ReceiveFailure { kind, delays: delays() });
        failure.kind = kind;
        failure.delays.next().unwrap_or(MAX_DELAY)
    }
}
