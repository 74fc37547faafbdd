//! What a run puts on the bus, counted at the processes: from it follows whether attempts and
//! queues are bounded.

use std::collections::{BTreeMap, BTreeSet};

use forge_bus::{
    Message,
    topology::{self, Stream},
};
use forge_contract::{
    ids::JobUid,
    protocol::parse_message,
    shard::ShardId,
    task::{OutcomeBatch, ShardOutcome, ShardTask},
};
use parking_lot::Mutex;

/// Hand-outs of a shard to workers by one planner, before the shard goes to verifiers: the bound
/// that docs/operations.md states.
const WORKER_ATTEMPTS: usize = 2;

/// A job as one planner drives it. A planner that has lost its lease may drive a job twice at once.
type Drive = (String, JobUid);

/// Counts of a run's messages.
#[derive(Default)]
pub struct TrafficLedger(Mutex<Traffic>);

#[derive(Default)]
struct Traffic {
    /// The different tasks that workers were given.
    worker_tasks: BTreeMap<(Drive, ShardId), BTreeSet<String>>,
    /// How often a planner began to dispatch a job.
    drives: BTreeMap<Drive, usize>,
    /// How often an accepted result of a shard was withdrawn.
    reopenings: BTreeMap<(JobUid, ShardId), usize>,
    /// Most messages that a stream held at once.
    peaks: BTreeMap<Stream, usize>,
}

impl TrafficLedger {
    /// Counts a message that `process` has published.
    pub fn note_stored(&self, process: &str, message: &Message) {
        let subject = message.subject.as_str();
        let mut traffic = self.0.lock();
        if subject.starts_with("forge.v1.shards.")
            && let Ok(task) = parse_message::<ShardTask>(&message.payload)
        {
            let drive = (process.to_owned(), task.job_uid);
            let tasks = traffic.worker_tasks.entry((drive, task.shard_id)).or_default();
            tasks.insert(task.task_id.to_string());
        }
        if let Some(uid) = topology::parse_outcomes_subject(subject)
            && let Ok(batch) = parse_message::<OutcomeBatch>(&message.payload)
        {
            for outcome in batch.outcomes {
                if let ShardOutcome::Reopened { shard_id } = outcome {
                    *traffic.reopenings.entry((uid, shard_id)).or_default() += 1;
                }
            }
        }
    }

    /// Counts a planner that begins to follow the outcomes of a job.
    pub fn note_drive(&self, planner: &str, filters: &[String]) {
        for uid in filters.iter().filter_map(|filter| topology::parse_outcomes_subject(filter)) {
            *self.0.lock().drives.entry((planner.to_owned(), uid)).or_default() += 1;
        }
    }

    /// Notes how many messages a stream holds.
    pub fn note_length(&self, stream: Stream, messages: usize) {
        let mut traffic = self.0.lock();
        let peak = traffic.peaks.entry(stream).or_default();
        *peak = (*peak).max(messages);
    }

    /// What exceeds its bound. `max_messages` bounds every stream.
    pub fn violations(&self, max_messages: usize) -> Vec<String> {
        let traffic = self.0.lock();
        let mut violations = Vec::new();
        for ((drive, shard), tasks) in &traffic.worker_tasks {
            let (planner, uid) = drive;
            let drives = traffic.drives.get(drive).copied().unwrap_or(0);
            let reopenings = traffic.reopenings.get(&(*uid, *shard)).copied().unwrap_or(0);
            let bound = WORKER_ATTEMPTS * (drives + reopenings);
            if tasks.len() > bound {
                let count = tasks.len();
                violations.push(format!(
                    "{planner} gave shard {shard} of {uid} to workers {count} times, and {bound} are allowed"
                ));
            }
        }
        for (stream, peak) in traffic.peaks.iter().filter(|(_, peak)| **peak > max_messages) {
            violations.push(format!("{} held {peak} messages at once", stream.name()));
        }
        violations
    }
}
