//! Decides whether a job may start, must give its submission back to wait for agents, or fails.
//! Pure. A waiting job holds no slot: its submission is redelivered after a delay that grows with
//! the time that the job has waited.

use std::time::Duration;

use forge_bus::topology::target_token;
use forge_contract::{
    envelope::{Policy, Target},
    job::JobState,
};

use super::{deadline::remaining_time, dispatch_failure::DispatchFailure};

/// Bounds of the delay between two deliveries of the submission of a waiting job. It is a polling
/// interval, which follows the job's age and not a number of failures, so that it has no jitter:
/// [`should_warn`] relies on it.
const MIN_RETRY_DELAY: Duration = Duration::from_secs(1);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(15);
/// Waiting time after which a job is first logged as waiting, and interval between repeats.
const WAIT_WARNING_DELAY: Duration = Duration::from_secs(5);
const WAIT_WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// What to do with an admitted job.
#[derive(Debug, PartialEq, Eq)]
pub enum StartDecision {
    /// Prepare and dispatch it.
    Start,
    /// Deliver its submission again after this delay.
    Wait(Duration),
    /// End it.
    Fail(DispatchFailure),
}

/// Decides about a job in `state` that was submitted `waited` ago, when `target`, the hardware that
/// executes it, has `live` agents.
///
/// Before its first dispatch, a job waits for `policy.min_agents`, at most for `patience`. A job
/// without a minimum starts without any live agent: its first shards show an autoscaler that a
/// worker is needed. From then on it waits while it has no live agent.
pub fn decide_start(
    policy: &Policy,
    target: Target,
    state: JobState,
    live: u32,
    waited: Duration,
    patience: Duration,
) -> StartDecision {
    let is_dispatched = state >= JobState::Planned;
    if live >= needed_agents(policy, state) {
        return StartDecision::Start;
    }
    let until_deadline = remaining_time(policy.timeout_ms, waited).unwrap_or(Duration::MAX);
    if until_deadline.is_zero() {
        return StartDecision::Fail(DispatchFailure::timeout(policy.timeout_ms));
    }
    let until_failure = if is_dispatched { Duration::MAX } else { patience.saturating_sub(waited) };
    if until_failure.is_zero() {
        return StartDecision::Fail(DispatchFailure::insufficient_agents(policy, target, live, waited));
    }
    StartDecision::Wait(retry_delay(waited).min(until_deadline).min(until_failure))
}

/// The live agents that a job in `state` needs to be driven.
pub fn needed_agents(policy: &Policy, state: JobState) -> u32 {
    if state >= JobState::Planned { 1 } else { policy.min_agents }
}

/// Why a job waits, for people: it needs more live agents than the `live` ones. `quarantine` names
/// what is in quarantine.
pub fn describe_wait(target: Target, needed: u32, live: u32, quarantine: Option<&str>) -> String {
    let workers = if needed == 1 { "worker" } else { "workers" };
    let quarantine = quarantine.map(|names| format!("; in quarantine: {names}")).unwrap_or_default();
    let target = target_token(target);
    format!("it needs {needed} live {workers} for target {target}, and there are {live}{quarantine}")
}

/// Delay before the next delivery of the submission of a job that has waited for `waited`.
pub fn retry_delay(waited: Duration) -> Duration {
    (waited / 10).clamp(MIN_RETRY_DELAY, MAX_RETRY_DELAY)
}

/// Whether to log that a job waits. The warnings are as far apart as [`WAIT_WARNING_INTERVAL`]
/// although every delivery of the submission may reach another planner.
pub fn should_warn(waited: Duration) -> bool {
    let Some(since_first) = waited.checked_sub(WAIT_WARNING_DELAY) else { return false };
    since_first.as_millis() % WAIT_WARNING_INTERVAL.as_millis() < retry_delay(waited).as_millis()
}

#[cfg(test)]
mod tests {
    use forge_contract::error::FailureCode;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PATIENCE: Duration = Duration::from_secs(30);

    fn decide(min_agents: u32, timeout_ms: u64, state: JobState, live: u32, waited: u32) -> StartDecision {
        let policy = Policy { min_agents, timeout_ms, ..Policy::default() };
        decide_start(&policy, Target::Any, state, live, waited * SECOND, PATIENCE)
    }

    #[track_caller]
    fn assert_fails(decision: StartDecision, code: FailureCode) {
        match decision {
            StartDecision::Fail(failure) => assert_eq!(failure.code, code),
            other => panic!("expected a failure, found {other:?}"),
        }
    }

    #[test]
    fn new_job_waits_for_its_minimum_of_agents_within_patience() {
        use JobState::Accepted;
        assert_eq!(decide(0, 0, Accepted, 0, 0), StartDecision::Start);
        assert_eq!(decide(2, 0, Accepted, 2, 29), StartDecision::Start);
        assert_eq!(decide(2, 0, Accepted, 2, 1000), StartDecision::Start);
        assert_eq!(decide(2, 0, Accepted, 1, 0), StartDecision::Wait(SECOND));
        assert_eq!(decide(2, 0, Accepted, 1, 20), StartDecision::Wait(2 * SECOND));
        assert_eq!(decide(2, 0, Accepted, 1, 29), StartDecision::Wait(SECOND));
        assert_fails(decide(2, 0, Accepted, 1, 30), FailureCode::InsufficientAgents);
        assert_fails(decide(2, 10_000, Accepted, 1, 10), FailureCode::Timeout);
    }

    #[test]
    fn dispatched_job_needs_one_agent_and_waits_until_its_deadline() {
        for state in [JobState::Planned, JobState::Running, JobState::Reducing] {
            assert_eq!(decide(9, 0, state, 1, 0), StartDecision::Start);
            assert_eq!(decide(9, 0, state, 0, 100_000), StartDecision::Wait(MAX_RETRY_DELAY));
            assert_eq!(decide(0, 100_000, state, 0, 99), StartDecision::Wait(SECOND));
            assert_fails(decide(0, 100_000, state, 0, 100), FailureCode::Timeout);
        }
    }

    #[test]
    fn a_waiting_job_says_what_it_needs() {
        let text = describe_wait(Target::Gpu, 1, 0, Some("pool acme, 3 agents"));
        let expected =
            "it needs 1 live worker for target gpu, and there are 0; in quarantine: pool acme, 3 agents";
        assert_eq!(text, expected);
        assert_eq!(
            describe_wait(Target::Any, 2, 1, None),
            "it needs 2 live workers for target any, and there are 1"
        );
    }

    #[test]
    fn waiting_job_is_logged_after_5_seconds_and_about_once_a_minute() {
        let (mut waited, mut warnings) = (Duration::ZERO, Vec::new());
        while waited < 400 * SECOND {
            if should_warn(waited) {
                warnings.push(waited.as_secs());
            }
            waited += retry_delay(waited);
        }
        assert_eq!(warnings.first(), Some(&5), "{warnings:?}");
        let intervals: Vec<_> = warnings.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(intervals.len() >= 4 && intervals.iter().all(|&s| (45..=75).contains(&s)), "{warnings:?}");
    }
}
