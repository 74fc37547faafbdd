//! A job's deadline: `policy.timeout_ms` after its record was created, whichever planner drives it.
//! The time that a submission spends in its queue before a planner first receives it does not
//! count.

use std::{future::pending, time::Duration};

use forge_service::clock::Clock;
use tokio::time::sleep;

use super::dispatch_failure::DispatchFailure;
use crate::admitted_job::AdmittedJob;

/// Returns when the job's deadline has passed; never, if it has none. If the record's time is
/// malformed or in the future, the full timeout remains.
pub async fn wait_for_deadline(admitted: &AdmittedJob, clock: Clock) -> DispatchFailure {
    let timeout_ms = admitted.policy().timeout_ms;
    match remaining_time(timeout_ms, clock.elapsed_since(&admitted.record.submitted_at)) {
        Some(remaining) => sleep(remaining).await,
        None => pending().await,
    }
    DispatchFailure::timeout(timeout_ms)
}

/// Time until the deadline when `elapsed` has passed since the record was created; zero after the
/// deadline. `None` if `timeout_ms` is 0, which means no deadline.
pub fn remaining_time(timeout_ms: u64, elapsed: Duration) -> Option<Duration> {
    (timeout_ms != 0).then(|| Duration::from_millis(timeout_ms).saturating_sub(elapsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn remaining_time_counts_from_the_submission() {
        for (elapsed, remaining) in [(0, 1000), (400, 600), (1000, 0), (86_400_000, 0)] {
            let found = remaining_time(1000, elapsed * MILLISECOND);
            assert_eq!(found, Some(remaining * MILLISECOND), "{elapsed}");
        }
    }

    #[test]
    fn zero_timeout_means_no_deadline() {
        assert_eq!(remaining_time(0, Duration::ZERO), None);
        assert_eq!(remaining_time(0, Duration::MAX), None);
    }
}
