//! Limits of streams and buckets: the one place that says how much each may hold, and what happens
//! when it is full.
//!
//! Every stream refuses new messages when it is full ([`BusError::Full`](crate::BusError::Full)) and
//! never drops old ones: a publisher sees the error and retries, and no accepted message is lost.
//! An entry of a full bucket can still be replaced by one that is not larger, and deleted.

use std::time::Duration;

use super::{Bucket, MAX_HEARTBEAT_AGE, MAX_MESSAGE_AGE, Stream, TopologySettings};

/// Parts into which [`TopologySettings::storage_bytes`] is divided.
const STORAGE_PARTS: u64 = 1024;
/// Largest message that carries a task or an advisory. They take about 1 kB.
const MAX_TASK_BYTES: usize = 64 << 10;
/// Largest entry of an agent: a heartbeat or a quarantine, of about 1 kB.
const MAX_AGENT_ENTRY_BYTES: usize = 8 << 10;
/// Submissions of one submitter that wait or run.
const MAX_SUBMISSIONS: u64 = 10_000;
/// Messages about one shard in one stream. A shard has few attempts, each with one result and one
/// verdict, so only a faulty or hostile publisher reaches the limit.
const MAX_SHARD_MESSAGES: u64 = 64;

/// Least space of a result, and of a heartbeat, as honest workers write them. The server keeps
/// every subject of a stream in memory, and workers choose theirs. Without a limit of their number,
/// a stream full of the smallest messages would take more memory than disk.
const MIN_RESULT_BYTES: u64 = 1 << 10;
const MIN_HEARTBEAT_BYTES: u64 = 1 << 8;

/// Limits of one stream or bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// Disk space in bytes.
    pub max_bytes: u64,
    /// Number of messages; `None` if nothing but the space limits it.
    pub max_messages: Option<u64>,
    /// Largest message, headers included, in bytes.
    pub max_message_bytes: usize,
    /// Messages of one subject; `None` means any number. A bucket keeps one and replaces it.
    pub max_messages_per_subject: Option<u64>,
    /// Age at which a message is dropped; `None` means never.
    pub max_age: Option<Duration>,
}

/// Returns a number of [`STORAGE_PARTS`] in bytes.
fn share(settings: &TopologySettings, parts: u64) -> u64 {
    settings.storage_bytes / STORAGE_PARTS * parts
}

impl Stream {
    /// Returns the stream's limits.
    pub fn limits(self, settings: &TopologySettings) -> StreamLimits {
        let large = settings.max_message_bytes;
        let (parts, max_message_bytes, max_messages_per_subject) = match self {
            // Held until the job ends. If full, submissions are refused; running jobs continue.
            Self::Jobs => (64, large, Some(MAX_SUBMISSIONS)),
            // The dispatch window bounds the shards of a job. If full, planners wait until workers
            // have taken some. One subject per shard.
            Self::Shards => (32, MAX_TASK_BYTES, Some(MAX_SHARD_MESSAGES)),
            // If full, aggregators wait until verifiers have taken some.
            Self::Verifications => (32, large, Some(MAX_SHARD_MESSAGES)),
            // One order with an envelope per running job. If full, further jobs wait.
            Self::Reduce => (64, large, Some(MAX_SHARD_MESSAGES)),
            // 20 to 60 kB per shard until the job ends: most of the space. If full, workers and
            // verifiers retry until a job has ended or been cancelled, or stale results are purged.
            Self::Results => (448, large, Some(MAX_SHARD_MESSAGES)),
            // About 1 kB per verdict and 150 bytes per outcome until the job ends. All outcomes of
            // a job have one subject. If full, jobs wait until another has ended or been cancelled.
            Self::Verdicts => (64, large, None),
            // If full, advisories are lost: the job waits for the shard until it is overdue.
            Self::DeadLetters => (8, MAX_TASK_BYTES, None),
        };
        let max_bytes = share(settings, parts);
        StreamLimits {
            max_bytes,
            max_messages: (self == Self::Results).then_some(max_bytes / MIN_RESULT_BYTES),
            max_message_bytes,
            max_messages_per_subject,
            // A submitted envelope waits without limit. All other messages belong to a job, and
            // every job ends.
            max_age: (self != Self::Jobs).then_some(MAX_MESSAGE_AGE),
        }
    }
}

impl Bucket {
    /// Whether single values may expire: records of jobs that have ended.
    pub fn has_expiring_values(&self) -> bool {
        matches!(self, Self::Jobs(_))
    }

    /// Returns the bucket's limits. `namespaces` buckets of job records share their space.
    pub fn limits(&self, settings: &TopologySettings, namespaces: usize) -> StreamLimits {
        let large = settings.max_message_bytes;
        let (parts, max_message_bytes, max_age) = match self {
            // Terminal records expire after the aggregators' retention; others stay. About 3 kB
            // each, so the default holds 200,000. Planners admit no jobs while it is nearly full,
            // so that there is space for the terminal records of running ones.
            Self::Jobs(_) => (150, large, None),
            // Quarantines stay. If full, no agent can be added or quarantined.
            Self::Agents => (12, MAX_AGENT_ENTRY_BYTES, None),
            // One per distinct model, written again by each job. If full, jobs with other models
            // wait.
            Self::Programs => (128, large, Some(MAX_MESSAGE_AGE)),
            // One per worker that lived within the last minute. If full, workers are not seen.
            Self::Workers => (8, MAX_AGENT_ENTRY_BYTES, Some(MAX_HEARTBEAT_AGE)),
            // One key of 150 bytes per running job. If full, submissions wait.
            Self::Secrets => (4, MAX_AGENT_ENTRY_BYTES, Some(MAX_MESSAGE_AGE)),
            // One entry per submitter, which lists its active jobs. If full, jobs of new submitters
            // wait.
            Self::Quotas => (8, large, None),
        };
        let sharing = if matches!(self, Self::Jobs(_)) { namespaces.max(1) as u64 } else { 1 };
        let max_bytes = share(settings, parts) / sharing;
        StreamLimits {
            max_bytes,
            max_messages: (*self == Self::Workers).then_some(max_bytes / MIN_HEARTBEAT_BYTES),
            max_message_bytes,
            max_messages_per_subject: Some(1),
            max_age,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::all_buckets, *};

    #[test]
    fn limits_together_stay_within_the_storage() {
        for (namespaces, storage_bytes) in [(1, 4 << 30), (3, 4 << 30), (1, 256 << 20)] {
            let settings = TopologySettings { storage_bytes, ..TopologySettings::default() };
            let names: Vec<String> = (0..namespaces).map(|i| format!("n{i}")).collect();
            let buckets = all_buckets(&names);
            let limits: Vec<StreamLimits> = Stream::ALL
                .into_iter()
                .map(|stream| stream.limits(&settings))
                .chain(buckets.iter().map(|bucket| bucket.limits(&settings, names.len())))
                .collect();
            let sum: u64 = limits.iter().map(|limits| limits.max_bytes).sum();
            assert!(sum <= storage_bytes && sum > storage_bytes / 10 * 9, "{sum} of {storage_bytes}");
            for limits in limits {
                assert!(limits.max_bytes >= limits.max_message_bytes as u64 / 2, "{limits:?}");
            }
        }
    }
}
