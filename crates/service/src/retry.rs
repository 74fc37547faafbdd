//! Retrying a bus operation with exponential backoff, and the retry policies of the services.

use std::time::Duration;

use forge_bus::{BusError, retry::RetryPolicy};
use forge_contract::error::ErrorClass;
use tokio_util::sync::CancellationToken;

/// Between the attempts at an operation whose caller waits for it.
pub const OPERATION_POLICY: RetryPolicy = RetryPolicy::new(Duration::from_millis(50), Duration::from_secs(5));
/// Between the deliveries of a message that could not be handled.
pub const REDELIVERY_POLICY: RetryPolicy = RetryPolicy::new(Duration::from_secs(1), Duration::from_secs(60));

/// Runs `attempt` until it succeeds; returns `None` once `stop` is cancelled. Every failure is
/// logged with `operation`, a phrase such as "publishing shards".
///
/// Every bus error is retried. So this is for operations that belong to no job, such as the
/// registration of a service: there a permanent error looks the same as a server that an operator
/// is still setting up, and no resource waits.
pub async fn retry_until_stopped<T, F>(
    stop: &CancellationToken,
    operation: &str,
    attempt: impl FnMut() -> F,
) -> Option<T>
where
    F: Future<Output = Result<T, BusError>>,
{
    retry(stop, operation, attempt, |_| true).await?.ok()
}

/// Runs `attempt` until it succeeds or fails in a way that no later attempt changes by itself;
/// returns `None` once `stop` is cancelled.
///
/// The caller decides about an error that is not transient: see [`ErrorClass`]. A message that is
/// handled holds a slot, so it must not be retried here until an operator acts.
pub async fn retry_transient<T, F>(
    stop: &CancellationToken,
    operation: &str,
    attempt: impl FnMut() -> F,
) -> Option<Result<T, BusError>>
where
    F: Future<Output = Result<T, BusError>>,
{
    retry(stop, operation, attempt, |error| error.class() == ErrorClass::Transient).await
}

async fn retry<T, F>(
    stop: &CancellationToken,
    operation: &str,
    mut attempt: impl FnMut() -> F,
    is_retried: fn(&BusError) -> bool,
) -> Option<Result<T, BusError>>
where
    F: Future<Output = Result<T, BusError>>,
{
    let mut failures = 0;
    loop {
        match stop.run_until_cancelled(attempt()).await? {
            Err(error) if is_retried(&error) => {
                failures += 1;
                let delay = OPERATION_POLICY.delay(failures);
                tracing::warn!(%error, ?delay, "{operation} failed; retrying");
                stop.run_until_cancelled(tokio::time::sleep(delay)).await?;
            }
            result => return Some(result),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An operation that fails with `error` until its 20th attempt.
    fn fail_until_20th(error: BusError) -> impl FnMut() -> std::future::Ready<Result<u32, BusError>> {
        let mut attempts = 0;
        move || {
            attempts += 1;
            std::future::ready(if attempts < 20 { Err(error.clone()) } else { Ok(attempts) })
        }
    }

    fn errors() -> [BusError; 2] {
        [BusError::Unavailable("down".to_owned()), BusError::Unusable("denied".to_owned())]
    }

    #[tokio::test(start_paused = true)]
    async fn an_operation_is_retried_until_it_succeeds_or_is_stopped() {
        let stop = CancellationToken::new();
        for error in errors() {
            assert_eq!(retry_until_stopped(&stop, "counting", fail_until_20th(error)).await, Some(20));
        }
        stop.cancel();
        assert_eq!(retry_until_stopped(&stop, "stopped", || async { Ok(1) }).await, None);
        assert_eq!(retry_transient(&stop, "stopped", || async { Ok(1) }).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn only_transient_errors_are_retried_in_place() {
        let stop = CancellationToken::new();
        let [transient, permanent] = errors();
        assert_eq!(retry_transient(&stop, "counting", fail_until_20th(transient)).await, Some(Ok(20)));
        let refusal = BusError::TooLarge { size: 2, limit: 1 };
        for error in [permanent, refusal, BusError::Corrupt("no JSON".to_owned())] {
            let result = retry_transient(&stop, "counting", fail_until_20th(error.clone())).await;
            assert_eq!(result, Some(Err(error)));
        }
    }
}
