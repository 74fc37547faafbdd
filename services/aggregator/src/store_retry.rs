//! Retrying operations of the object store for a limited time.

use std::time::Duration;

use forge_bus::retry::RetryPolicy;
use forge_store::StoreError;
use tokio::time::{Instant, sleep, timeout};

/// Delays between two attempts.
const POLICY: RetryPolicy = RetryPolicy::new(Duration::from_millis(500), Duration::from_secs(5));
/// The time that every attempt gets, also the last one within the patience.
const MIN_ATTEMPT_TIME: Duration = Duration::from_secs(1);

/// Runs `attempt` until it succeeds, fails for good, or `patience` is over, at least once. An
/// attempt that the store does not answer is cancelled at the end of the patience. Without patience
/// there is one attempt, which gets all the time that it needs: a slow disk is no failure. Every
/// failure is logged with `operation`, a phrase such as "storing artifacts".
///
/// # Errors
/// Returns the error of the last attempt.
pub(crate) async fn retry_within<T, F>(
    patience: Duration,
    operation: &str,
    mut attempt: impl FnMut() -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    if patience.is_zero() {
        return attempt().await;
    }
    let started = Instant::now();
    let mut failures = 0;
    loop {
        let time_left = patience.saturating_sub(started.elapsed()).max(MIN_ATTEMPT_TIME);
        let error = match timeout(time_left, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_) => StoreError::Unavailable {
                path: "the store".to_owned(),
                reason: format!("no answer within {:.0} s", time_left.as_secs_f64()),
            },
        };
        let elapsed = started.elapsed();
        if !error.class().is_retryable() || elapsed >= patience {
            return Err(error);
        }
        failures += 1;
        let delay = POLICY.delay(failures).min(patience - elapsed);
        tracing::warn!(%error, ?delay, "{operation} failed; retrying");
        sleep(delay).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn unavailable() -> StoreError {
        StoreError::Unavailable { path: "x".to_owned(), reason: "away".to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn unavailable_store_is_retried_until_the_patience_is_over() {
        let (started, attempts) = (Instant::now(), Cell::new(0));
        let fail = || {
            attempts.set(attempts.get() + 1);
            future::ready(Err::<(), _>(unavailable()))
        };
        let error = retry_within(PATIENCE, "test", fail).await.unwrap_err();
        assert_eq!(error.to_string(), "x: away");
        assert!((PATIENCE..PATIENCE + MIN_ATTEMPT_TIME).contains(&started.elapsed()));
        assert!(attempts.get() > 10, "{attempts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn store_that_comes_back_is_used() {
        let attempts = Cell::new(0);
        let succeed_third = || {
            attempts.set(attempts.get() + 1);
            future::ready(if attempts.get() < 3 { Err(unavailable()) } else { Ok(attempts.get()) })
        };
        assert_eq!(retry_within(PATIENCE, "test", succeed_third).await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn permanent_error_is_not_retried() {
        let started = Instant::now();
        let corrupt = || {
            let error = StoreError::Corrupt { path: "x".to_owned(), reason: "other bytes".to_owned() };
            future::ready(Err::<(), _>(error))
        };
        assert!(matches!(retry_within(PATIENCE, "test", corrupt).await, Err(StoreError::Corrupt { .. })));
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn attempt_without_an_answer_ends_with_the_patience() {
        let started = Instant::now();
        let hang = future::pending::<Result<(), StoreError>>;
        let error = retry_within(PATIENCE, "test", hang).await.unwrap_err();
        assert_eq!(error.to_string(), "the store: no answer within 60 s");
        assert_eq!(started.elapsed().as_secs(), PATIENCE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn one_attempt_without_patience_takes_as_long_as_it_needs() {
        let slow = || async {
            sleep(PATIENCE).await;
            Err::<(), _>(unavailable())
        };
        let started = Instant::now();
        assert_eq!(retry_within(Duration::ZERO, "test", slow).await.unwrap_err().to_string(), "x: away");
        assert_eq!(started.elapsed(), PATIENCE);
    }
}
