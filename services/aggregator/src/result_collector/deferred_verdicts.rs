//! Verdicts of verifiers that the registry does not know yet. A verifier may have registered so
//! recently that a deposed leader of the bucket answers without it, and no verifier judges a result
//! twice. So these verdicts wait until a read of the registry is final.

use std::collections::VecDeque;

use forge_contract::{shard::ShardId, verdict::Verdict};
use forge_service::job_records::MISSING_RECORD_GRACE_PERIOD;
use tokio::time::Instant;

/// Upper bound on the verdicts that wait, some kilobyte each. Beyond it, the stream keeps the next
/// ones.
const MAX_DEFERRED: usize = 1000;

/// The waiting verdicts, in the order of their arrival.
#[derive(Debug, Default)]
pub(super) struct DeferredVerdicts(VecDeque<(Instant, ShardId, Verdict)>);

impl DeferredVerdicts {
    /// Lets a verdict wait. The caller must wait until there is room.
    pub fn push(&mut self, shard: ShardId, verdict: Verdict) {
        self.0.push_back((Instant::now() + MISSING_RECORD_GRACE_PERIOD, shard, verdict));
    }

    /// When the oldest verdict is due, if no further one may wait before.
    pub fn full_until(&self) -> Option<Instant> {
        let oldest = self.0.front().filter(|_| self.0.len() >= MAX_DEFERRED)?;
        Some(oldest.0)
    }

    /// Takes a verdict that has waited for the grace period.
    pub fn pop_due(&mut self) -> Option<(ShardId, Verdict)> {
        let due = self.0.pop_front_if(|(due, ..)| *due <= Instant::now());
        due.map(|(_, shard, verdict)| (shard, verdict))
    }
}
