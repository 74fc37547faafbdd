//! Failures of single attempts: their classification into transient and permanent, and the budget
//! of retries. Does no I/O but waiting.

use std::{fmt::Display, future::Future, time::Duration};

use async_nats::jetstream::{self, ErrorCode};
use tokio::time::{Instant, sleep};

use crate::{error::BusError, retry::RetryPolicy};

/// How long an operation is retried before its failure becomes an error. Covers the restart of a
/// server.
const RETRY_PERIOD: Duration = Duration::from_secs(10);
/// Delays between attempts.
const RETRY_POLICY: RetryPolicy = RetryPolicy::new(Duration::from_millis(20), Duration::from_secs(1));

/// Why one attempt at an operation failed.
#[derive(Debug)]
pub(super) enum AttemptFailure {
    /// Another attempt may succeed. Holds the reason.
    Transient(String),
    /// Another attempt would fail too.
    Permanent(BusError),
}

impl AttemptFailure {
    /// The error for callers that do not retry.
    pub(super) fn into_error(self) -> BusError {
        match self {
            Self::Transient(reason) => BusError::Unavailable(reason),
            Self::Permanent(error) => error,
        }
    }

    /// A transient failure with the text of an error.
    pub(super) fn transient(error: impl Display) -> Self {
        Self::Transient(error.to_string())
    }

    /// Classifies an error reply of JetStream's API to a request on `subject` (without `$JS.API.`).
    pub(super) fn from_api(subject: &str, error: &jetstream::Error) -> Self {
        match error.error_code() {
            ErrorCode::STREAM_NOT_FOUND | ErrorCode::CONSUMER_NOT_FOUND => {
                Self::Permanent(BusError::Missing(describe_object(subject)))
            }
            ErrorCode::STREAM_STORE_FAILED
            | ErrorCode::INSUFFICIENT_RESOURCES
            | ErrorCode::STORAGE_RESOURCES_EXCEEDED
            | ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED
            // The end of a job frees its consumers.
            | ErrorCode::MAXIMUM_CONSUMERS_LIMIT
            | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED => {
                Self::Permanent(BusError::Full(format!("{subject}: {error}")))
            }
            ErrorCode::JETSTREAM_NOT_ENABLED => Self::Permanent(jetstream_disabled("on this server")),
            ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
                Self::Permanent(jetstream_disabled("for this account"))
            }
            // Servers of a cluster that has just started do not know each other yet.
            ErrorCode::CLUSTER_NO_PEERS => Self::transient(error),
            _ if error.code() == 503 => Self::transient(error),
            _ => Self::Permanent(BusError::Unusable(format!("{subject}: {error}"))),
        }
    }
}

/// The error for a server or account without JetStream.
pub(super) fn jetstream_disabled(place: &str) -> BusError {
    BusError::Unusable(format!(
        "JetStream is disabled {place}: start nats-server with -js, or with a jetstream block"
    ))
}

/// Describes the object of an API request for error texts.
fn describe_object(subject: &str) -> String {
    let tokens: Vec<&str> = subject.split('.').collect();
    match tokens.as_slice() {
        ["CONSUMER", "MSG", "NEXT", stream, consumer, ..] | ["CONSUMER", _, stream, consumer, ..] => {
            format!("the consumer {consumer} of stream {stream}")
        }
        [_, _, name, ..] => match name.strip_prefix("KV_") {
            Some(bucket) => format!("the bucket {bucket}"),
            None => format!("the stream {name}"),
        },
        _ => subject.to_owned(),
    }
}

/// Paces the attempts at one operation, and ends them after [`RETRY_PERIOD`]. The period starts
/// with the first failure after a success.
#[derive(Default)]
pub(super) struct RetryBudget(Option<Outage>);

/// A series of failures without a success between them.
struct Outage {
    since: Instant,
    failures: u64,
}

impl RetryBudget {
    /// Restores the full budget after a success.
    pub(super) fn reset(&mut self) {
        self.0 = None;
    }

    /// Waits before the next attempt at `operation`.
    ///
    /// Returns [`BusError::Unavailable`] with `reason` if the budget is spent, and restores it.
    pub(super) async fn back_off(&mut self, operation: &str, reason: String) -> Result<(), BusError> {
        let outage = self.0.get_or_insert_with(|| Outage { since: Instant::now(), failures: 0 });
        if outage.since.elapsed() > RETRY_PERIOD {
            self.reset();
            return Err(BusError::Unavailable(format!("{operation}: {reason}")));
        }
        outage.failures += 1;
        sleep(RETRY_POLICY.delay(outage.failures)).await;
        Ok(())
    }
}

/// Repeats `attempt` until it succeeds, fails permanently, or the retry budget is spent.
pub(super) async fn retry_transient<T, F, R>(operation: &str, mut attempt: F) -> Result<T, BusError>
where
    F: FnMut() -> R,
    R: Future<Output = Result<T, AttemptFailure>>,
{
    let mut budget = RetryBudget::default();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(AttemptFailure::Permanent(error)) => return Err(error),
            Err(AttemptFailure::Transient(reason)) => budget.back_off(operation, reason).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_api_requests_are_named() {
        assert_eq!(describe_object("CONSUMER.INFO.FORGE_SHARDS.w"), "the consumer w of stream FORGE_SHARDS");
        assert_eq!(describe_object("STREAM.INFO.KV_jobs"), "the bucket jobs");
    }

    #[tokio::test(start_paused = true)]
    async fn transient_failures_become_an_error_after_the_retry_period() {
        let start = Instant::now();
        let mut attempts = 0;
        let failed: Result<(), BusError> = retry_transient("reading", || {
            attempts += 1;
            async { Err(AttemptFailure::transient("no server")) }
        })
        .await;
        assert_eq!(failed, Err(BusError::Unavailable("reading: no server".to_owned())));
        assert!(start.elapsed() > RETRY_PERIOD && start.elapsed() < RETRY_PERIOD * 2);
        assert!(attempts > 10, "{attempts} attempts");
    }
}
