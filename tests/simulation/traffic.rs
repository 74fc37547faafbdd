//! What a run puts on the bus, counted at the processes: from it follows whether attempts and
//! queues are bounded.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use forge_bus::{
    BucketEntry, Message,
    topology::{self, Stream},
};
use forge_contract::{
    ids::{JobUid, TaskId},
    protocol::parse_message,
    shard::ShardId,
    task::{OutcomeBatch, ShardOutcome, ShardTask},
    verdict::Verdict,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::record_changes::RecordChange;

/// Hand-outs of a shard to workers by one planner, before the shard goes to verifiers: the bound
/// that docs/operations.md states.
const WORKER_ATTEMPTS: usize = 2;

/// A job as one planner drives it. A planner that has lost its lease may drive a job twice at once.
type Drive = (String, JobUid);

/// A verdict, and the time at which it was published.
#[derive(Debug, Clone)]
pub struct PublishedVerdict {
    pub verdict: Verdict,
    pub at: Duration,
}

/// Counts of a run's messages.
#[derive(Default)]
pub struct TrafficLedger(Mutex<Traffic>, Notify);

#[derive(Default)]
struct Traffic {
    /// The different tasks that workers were given.
    worker_tasks: BTreeMap<(Drive, ShardId), BTreeSet<String>>,
    /// How often a planner began to dispatch a job.
    drives: BTreeMap<Drive, usize>,
    /// How often an accepted result of a shard was withdrawn.
    reopenings: BTreeMap<(JobUid, ShardId), usize>,
    /// The hand-outs that were reported as accepted.
    accepted: BTreeMap<JobUid, BTreeSet<(ShardId, TaskId)>>,
    /// All verdicts, by any signer.
    verdicts: BTreeMap<JobUid, Vec<PublishedVerdict>>,
    /// When objects were stored first, by key.
    objects: BTreeMap<String, Duration>,
    /// Keys of the objects that were removed.
    removed: BTreeSet<String>,
    /// Versions of all records, in their order.
    record_changes: Vec<RecordChange>,
    /// Latest revisions of the records, by namespace and key.
    revisions: BTreeMap<(String, String), Option<u64>>,
    /// Most messages that a stream held at once.
    peaks: BTreeMap<Stream, usize>,
}

impl TrafficLedger {
    /// Counts a message that `process` has published.
    pub fn note_stored(&self, process: &str, message: &Message, at: Duration) {
        let subject = message.subject.as_str();
        let mut traffic = self.0.lock();
        if process.starts_with("planner")
            && subject.starts_with("forge.v1.shards.")
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
                match outcome {
                    ShardOutcome::Reopened { shard_id } => {
                        *traffic.reopenings.entry((uid, shard_id)).or_default() += 1;
                    }
                    ShardOutcome::Accepted { shard_id, task_id, .. } => {
                        traffic.accepted.entry(uid).or_default().insert((shard_id, task_id));
                    }
                    _ => {}
                }
            }
        }
        if let Some((uid, _)) = topology::parse_verdict_subject(subject)
            && let Ok(verdict) = parse_message::<Verdict>(&message.payload)
        {
            traffic.verdicts.entry(uid).or_default().push(PublishedVerdict { verdict, at });
        }
    }

    /// Notes the present version of a record, unless it is the one that was noted last.
    pub fn note_record(&self, namespace: &str, key: &str, entry: Option<&BucketEntry>, at: Duration) {
        let mut traffic = self.0.lock();
        let (name, revision) = ((namespace.to_owned(), key.to_owned()), entry.map(|entry| entry.revision));
        if traffic.revisions.insert(name, revision).flatten() == revision {
            return;
        }
        let value = entry.and_then(|entry| entry.value.clone());
        traffic.record_changes.push(RecordChange {
            namespace: namespace.to_owned(),
            key: key.to_owned(),
            value,
            at,
        });
    }

    /// The versions of all records so far, in their order.
    pub fn take_record_changes(&self) -> Vec<RecordChange> {
        std::mem::take(&mut self.0.lock().record_changes)
    }

    /// Notes that an object is stored now, unless it was before.
    pub fn note_object(&self, key: &str, at: Duration) {
        self.0.lock().objects.entry(key.to_owned()).or_insert(at);
    }

    /// Notes that an object was removed, or that its removal found none.
    pub fn note_removed(&self, key: &str) {
        self.0.lock().removed.insert(key.to_owned());
        self.1.notify_waiters();
    }

    /// Waits until an object has been removed.
    pub async fn wait_until_removed(&self, key: &str) {
        loop {
            let removal = self.1.notified();
            if self.0.lock().removed.contains(key) {
                return;
            }
            removal.await;
        }
    }

    /// When an object was stored first.
    pub fn stored_at(&self, key: &str) -> Option<Duration> {
        self.0.lock().objects.get(key).copied()
    }

    /// The hand-outs of a job that were reported as accepted.
    pub fn accepted(&self, uid: JobUid) -> BTreeSet<(ShardId, TaskId)> {
        self.0.lock().accepted.get(&uid).cloned().unwrap_or_default()
    }

    /// The verdicts about a job, by any signer.
    pub fn verdicts(&self, uid: JobUid) -> Vec<PublishedVerdict> {
        self.0.lock().verdicts.get(&uid).cloned().unwrap_or_default()
    }

    /// Counts a planner that begins to follow the outcomes of a job.
    pub fn note_drive(&self, planner: &str, filters: &[String]) {
        for uid in filters.iter().filter_map(|filter| topology::parse_outcomes_subject(filter)) {
            *self.0.lock().drives.entry((planner.to_owned(), uid)).or_default() += 1;
        }
    }

    /// The jobs that planners have begun to dispatch.
    pub fn driven_jobs(&self) -> Vec<JobUid> {
        let jobs: BTreeSet<_> = self.0.lock().drives.keys().map(|(_, uid)| *uid).collect();
        jobs.into_iter().collect()
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
