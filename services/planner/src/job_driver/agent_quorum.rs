//! Waits for the `policy.min_agents` live agents without which a job must not start.

use std::time::Duration;

use forge_contract::envelope::Policy;
use tokio::time::{Instant, sleep};

use super::dispatch_failure::DispatchFailure;

/// First interval between two reads of the registry. Short, because a planner that has just started
/// needs a moment to receive the agents that are registered.
const FIRST_POLL_INTERVAL: Duration = Duration::from_millis(1);
/// The interval doubles up to this.
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(64);

/// Returns once `live_agents` reaches `policy.min_agents`, the number of live agents for the job's
/// target.
///
/// # Errors
/// `insufficient_agents` if it does not within `patience`.
pub async fn wait_for_quorum(
    policy: &Policy,
    patience: Duration,
    live_agents: impl Fn() -> u32,
) -> Result<(), DispatchFailure> {
    let started = Instant::now();
    let mut interval = FIRST_POLL_INTERVAL;
    loop {
        let live = live_agents();
        if live >= policy.min_agents {
            return Ok(());
        }
        if started.elapsed() >= patience {
            return Err(DispatchFailure::insufficient_agents(policy, live, patience));
        }
        sleep(interval).await;
        interval = (interval * 2).min(MAX_POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use forge_contract::error::FailureCode;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Waits for `min_agents`; from `joined` after the start on there are two live agents. Returns
    /// the result and how long it took.
    async fn wait(min_agents: u32, joined: Duration) -> (Result<(), DispatchFailure>, Duration) {
        let started = Instant::now();
        let policy = Policy { min_agents, ..Policy::default() };
        let live_agents = || if started.elapsed() >= joined { 2 } else { 0 };
        let result = wait_for_quorum(&policy, PATIENCE, live_agents).await;
        (result, started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn job_without_minimum_or_with_enough_agents_starts_at_once() {
        assert_eq!(wait(0, Duration::MAX).await, (Ok(()), Duration::ZERO));
        assert_eq!(wait(2, Duration::ZERO).await, (Ok(()), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn job_starts_as_soon_as_enough_agents_have_joined() {
        let joined = Duration::from_secs(20);
        let (result, elapsed) = wait(2, joined).await;
        assert_eq!(result, Ok(()));
        assert!(elapsed >= joined && elapsed <= joined + MAX_POLL_INTERVAL, "{elapsed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn job_fails_when_too_few_agents_join_within_patience() {
        let (result, elapsed) = wait(3, Duration::ZERO).await;
        assert_eq!(result.unwrap_err().code, FailureCode::InsufficientAgents);
        assert!(elapsed >= PATIENCE && elapsed <= PATIENCE + MAX_POLL_INTERVAL, "{elapsed:?}");
    }
}
