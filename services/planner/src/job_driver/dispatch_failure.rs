//! The reasons for which the job driver fails a job.

use std::time::Duration;

use forge_bus::{
    BusError,
    topology::{Bucket, target_token},
};
use forge_contract::{
    artifact::Phase,
    envelope::{Policy, Target},
    error::FailureCode,
    ids::{JobId, JobUid},
    task::EndOrder,
};

use super::dispatcher::{FatalShard, MAX_VERIFIER_FAILURES};

/// Why a job cannot continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DispatchFailure {
    pub code: FailureCode,
    phase: Phase,
    message: String,
}

impl DispatchFailure {
    /// The job's deadline has passed.
    pub fn timeout(timeout_ms: u64) -> Self {
        let message = format!("the job did not end within policy.timeout_ms ({timeout_ms} ms)");
        Self { code: FailureCode::Timeout, phase: Phase::Execute, message }
    }

    /// Fewer live agents for `target`, the hardware that executes the job, than
    /// `policy.min_agents` after `waited`.
    pub fn insufficient_agents(policy: &Policy, target: Target, live: u32, waited: Duration) -> Self {
        let message = format!(
            "policy.min_agents is {}, but after {} s the number of live agents for target {} is {live}",
            policy.min_agents,
            waited.as_secs(),
            target_token(target),
        );
        Self { code: FailureCode::InsufficientAgents, phase: Phase::Plan, message }
    }

    /// A shard cannot be executed.
    pub fn fatal_shard(fatal: &FatalShard) -> Self {
        let message = match fatal {
            FatalShard::Exhausted(shard) => format!(
                "shard {shard} has no valid result: {MAX_VERIFIER_FAILURES} attempts of verifiers have failed"
            ),
            FatalShard::Crashed { shard, reason } => {
                format!("executing shard {shard} crashed a verifier or its isolated process: {reason}")
            }
            FatalShard::Oversized { shard, reason } => format!(
                "the result of shard {shard} is too large: {reason}; set report.allocation to false, use fewer \
                 lines, treaties or steps, or use `forge run`"
            ),
        };
        Self { code: FailureCode::ExecutionFailed, phase: Phase::Execute, message }
    }

    /// The same failure of a job that was waiting, for this reason.
    #[must_use]
    pub fn while_waiting(mut self, reason: &str) -> Self {
        self.message = format!("{}; the job was waiting: {reason}", self.message);
        self
    }

    /// The bus does not accept what the job needs, and never will.
    pub fn refused(operation: &str, error: &BusError) -> Self {
        let message = format!("{operation} failed: {error}");
        Self { code: FailureCode::Internal, phase: Phase::Plan, message }
    }

    /// The order that ends the job; `bucket` holds its record.
    pub fn into_order(self, job: JobId, uid: JobUid, bucket: &Bucket) -> EndOrder {
        EndOrder::new(job, uid, bucket.name(), self.code, self.phase, self.message)
    }
}

#[cfg(test)]
mod tests {
    use forge_contract::shard::ShardId;

    use super::*;

    const UID: JobUid = JobUid([1; 16]);

    #[test]
    fn order_states_the_reason_and_where_the_record_is() {
        let policy = Policy { min_agents: 3, ..Policy::default() };
        let shard = ShardId { height: 0, index: 7 };
        let cases = [
            (DispatchFailure::timeout(500), FailureCode::Timeout, Phase::Execute, "(500 ms)"),
            (
                DispatchFailure::timeout(500).while_waiting("it needs 1 live worker"),
                FailureCode::Timeout,
                Phase::Execute,
                "(500 ms); the job was waiting: it needs 1 live worker",
            ),
            (
                DispatchFailure::insufficient_agents(&policy, Target::Cpu, 1, Duration::from_secs(30)),
                FailureCode::InsufficientAgents,
                Phase::Plan,
                "policy.min_agents is 3, but after 30 s the number of live agents for target cpu is 1",
            ),
            (
                DispatchFailure::fatal_shard(&FatalShard::Exhausted(shard)),
                FailureCode::ExecutionFailed,
                Phase::Execute,
                "shard 0-7 has no valid result: 4 attempts of verifiers have failed",
            ),
            (
                DispatchFailure::fatal_shard(&FatalShard::Crashed { shard, reason: "signal 11".to_owned() }),
                FailureCode::ExecutionFailed,
                Phase::Execute,
                "executing shard 0-7 crashed a verifier or its isolated process: signal 11",
            ),
            (
                DispatchFailure::fatal_shard(&FatalShard::Oversized {
                    shard,
                    reason: "9 of 8 bytes".to_owned(),
                }),
                FailureCode::ExecutionFailed,
                Phase::Execute,
                "the result of shard 0-7 is too large: 9 of 8 bytes; set report.allocation",
            ),
        ];
        for (failure, code, phase, part) in cases {
            let order = failure.into_order("a".parse().unwrap(), UID, &Bucket::default_jobs());
            assert_eq!((order.job_id.as_str(), order.job_uid, order.namespace.as_str()), ("a", UID, "jobs"));
            assert_eq!((order.code, order.phase), (code, phase));
            assert!(order.message.contains(part), "{}", order.message);
        }
    }
}
