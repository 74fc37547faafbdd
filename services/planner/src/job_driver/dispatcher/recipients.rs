//! To which kind of agent a shard is handed out: the mark in a task id that tells it, and whether
//! workers return what they receive.

use forge_contract::ids::TaskId;
use forge_kernel::job_key::NONCE_BYTES;

/// Hand-outs that [`WorkerReturns`] remembers, at most.
const MAX_REMEMBERED_RETURNS: u32 = 64;
/// The bit of a nonce's first byte that is set in tasks of verifiers.
const VERIFIER_MARK: u8 = 0x80;

/// The kind of agent that executes a dispatched shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardRecipient {
    /// Any worker of the job's target.
    Worker,
    /// A verifier, because workers have failed at the shard.
    Verifier,
}

impl ShardRecipient {
    /// Marks the random nonce of a task id, so that every planner of the job can tell the recipient
    /// of a task from its id. A worker cannot change the mark: the job's key authenticates the
    /// nonce.
    pub fn mark_nonce(self, mut nonce: [u8; NONCE_BYTES]) -> [u8; NONCE_BYTES] {
        match self {
            Self::Worker => nonce[0] &= !VERIFIER_MARK,
            Self::Verifier => nonce[0] |= VERIFIER_MARK,
        }
        nonce
    }

    /// The kind of agent to which a task was handed out.
    pub fn of_task(task: TaskId) -> Self {
        if task.0[0] & VERIFIER_MARK == 0 { Self::Worker } else { Self::Verifier }
    }
}

/// Whether workers return the shards that they receive. One that takes shards and keeps them, or
/// removes those of others from the queue, could stall the job otherwise.
#[derive(Debug, Default)]
pub struct WorkerReturns {
    returned: u32,
    withheld: u32,
}

impl WorkerReturns {
    /// Counts a hand-out that a worker returned, or did not return in time.
    pub fn count(&mut self, is_returned: bool) {
        if self.returned + self.withheld >= MAX_REMEMBERED_RETURNS {
            self.returned /= 2;
            self.withheld /= 2;
        }
        *(if is_returned { &mut self.returned } else { &mut self.withheld }) += 1;
    }

    /// Whether most shards are withheld.
    pub fn are_rare(&self) -> bool {
        self.withheld > self.returned
    }
}
