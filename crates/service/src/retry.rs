//! Retrying a bus operation with exponential backoff until it succeeds or the service stops.

use std::time::Duration;

use forge_bus::{BusError, retry};
use tokio_util::sync::CancellationToken;

/// Upper bound of the first delay.
const FIRST_RETRY_DELAY: Duration = Duration::from_millis(50);
/// Upper bound of every delay.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);

/// Runs `attempt` until it succeeds; returns `None` once `stop` is cancelled. Every failure is
/// logged with `operation`, a phrase such as "publishing shards".
///
/// Every bus error is retried: a permanent error looks the same as a server that an operator is
/// still setting up.
pub async fn retry_until_stopped<T, F>(
    stop: &CancellationToken,
    operation: &str,
    mut attempt: impl FnMut() -> F,
) -> Option<T>
where
    F: Future<Output = Result<T, BusError>>,
{
    let mut delays = retry::delays(FIRST_RETRY_DELAY, MAX_RETRY_DELAY);
    loop {
        let delay = delays.next().unwrap_or(MAX_RETRY_DELAY);
        match stop.run_until_cancelled(attempt()).await? {
            Ok(value) => return Some(value),
            Err(error) => tracing::warn!(%error, ?delay, "{operation} failed; retrying"),
        }
        stop.run_until_cancelled(tokio::time::sleep(delay)).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_operation_is_retried_until_it_succeeds_or_is_stopped() {
        let (stop, mut attempts) = (CancellationToken::new(), 0);
        let result = retry_until_stopped(&stop, "counting", || {
            attempts += 1;
            let attempt = attempts;
            async move { if attempt < 20 { Err(BusError::Unavailable("down".to_owned())) } else { Ok(attempt) } }
        });
        assert_eq!(result.await, Some(20));
        stop.cancel();
        assert_eq!(retry_until_stopped(&stop, "stopped", || async { Ok(1) }).await, None);
    }
}
