//! Backoff of the receive loop while the bus returns errors. Logs an error once, not on every
//! attempt.

use std::{mem, time::Duration};

use forge_bus::{BusError, retry::RetryPolicy, topology::Queue};

/// Delays between attempts.
const POLICY: RetryPolicy = RetryPolicy::new(Duration::from_millis(100), Duration::from_secs(5));

pub(super) struct ReceiveBackoff {
    queue: Queue,
    /// `None` after a success.
    failure: Option<ReceiveFailure>,
}

struct ReceiveFailure {
    /// The kind of the last error.
    kind: mem::Discriminant<BusError>,
    /// Failures in a row.
    count: u64,
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
        let failure = self.failure.get_or_insert(ReceiveFailure { kind, count: 0 });
        failure.kind = kind;
        failure.count += 1;
        POLICY.delay(failure.count)
    }
}
