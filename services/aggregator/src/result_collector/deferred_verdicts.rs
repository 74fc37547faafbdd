//! Verdicts of verifiers that the registry does not know yet. A verifier may have registered so
//! recently that a deposed leader of the bucket answers without it, and no verifier judges a result
//! twice. So these verdicts wait until a read of the registry is final.

use std::collections::VecDeque;

use forge_contract::{shard::ShardId, verdict::Verdict};
use forge_service::job_records::MISSING_RECORD_GRACE_PERIOD;
use tokio::time::Instant;

/// Upper bound on the verdicts that wait, some kilobyte each. Beyond it they are dropped: only
/// verifiers can publish verdicts, and few register within the grace period.
const MAX_DEFERRED: usize = 1000;

/// The waiting verdicts, in the order of their arrival.
#[derive(Debug, Default)]
pub(super) struct DeferredVerdicts(VecDeque<(Instant, ShardId, Verdict)>);

impl DeferredVerdicts {
    /// Lets a verdict wait; returns `false` if too many do.
    pub fn push(&mut self, shard: ShardId, verdict: Verdict) -> bool {
        let has_room = self.0.len() < MAX_DEFERRED;
        if has_room {
            self.0.push_back((Instant::now() + MISSING_RECORD_GRACE_PERIOD, shard, verdict));
        }
        has_room
    }

    /// Takes a verdict that has waited for the grace period.
    pub fn pop_due(&mut self) -> Option<(ShardId, Verdict)> {
        let due = self.0.pop_front_if(|(due, ..)| *due <= Instant::now());
        due.map(|(_, shard, verdict)| (shard, verdict))
    }
}
