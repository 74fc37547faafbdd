//! Every stream, queue, bucket and subject, with its settings. The single source of these names:
//! services address the bus only through this module.
//!
//! Names on the wire are permanent. Where this crate says *verification*, the wire says
//! *duplicate*: the stream is `FORGE_DUPLICATES` and its subjects are `forge.v1.duplicates.>`.

use std::time::Duration;

use forge_contract::{envelope::Target, ids::JobUid};

pub use self::{limits::StreamLimits, subjects::*};
use crate::error::BusError;

mod limits;
mod subjects;

/// Name of the NATS microservice that planners serve.
pub const SERVICE_NAME: &str = "forge";
/// Endpoints of the microservice: name and subject filter.
pub const SERVICE_ENDPOINTS: [(&str, &str); 5] = [
    ("submit", API_SUBMIT_SUBJECT),
    ("submit-as", API_SUBMIT_AS_FILTER),
    ("status", API_STATUS_SUBJECT),
    ("cancel", API_CANCEL_SUBJECT),
    ("list", API_LIST_SUBJECT),
];
/// Oldest supported nats-server: major and minor version.
pub const MIN_SERVER_VERSION: (u64, u64) = (2, 14);
/// Period in which a stream drops a message whose id it has already stored.
pub const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// Deliveries of one message of [`Queue::Shards`] before it moves to [`Queue::DeadLetters`]. The
/// limit stops a shard that crashes its worker from crashing all workers.
pub const MAX_SHARD_DELIVERIES: u64 = 4;
/// Age at which every stream but [`Stream::Jobs`] drops a message, and [`Bucket::Programs`] an
/// entry. Equals the longest timeout of a job, so it only affects what the regular cleanup missed.
pub const MAX_MESSAGE_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Age at which [`Bucket::Workers`] drops a heartbeat. A worker that lives writes one every few
/// seconds.
pub const MAX_HEARTBEAT_AGE: Duration = Duration::from_secs(60);
/// Unacknowledged messages of one queue, over all its receivers, at which the server stops
/// delivering. Less where the server or the account allows less.
pub const MAX_ACK_PENDING: i64 = 100_000;

/// Settings of the topology that the operator chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopologySettings {
    /// Replicas of every stream and bucket: 1, 3 or 5. More than 1 needs a NATS cluster.
    pub replicas: usize,
    /// Time after which the server redelivers a message whose receiver has neither settled it nor
    /// renewed its lease.
    pub lease: Duration,
    /// Disk space of all streams and buckets together, in bytes, on each server that stores them.
    /// [`Stream::limits`] and [`Bucket::limits`] divide it.
    pub storage_bytes: u64,
    /// Whether less storage is used where the server or the account offers less, down to
    /// [`Self::MIN_STORAGE_BYTES`]. Otherwise the topology is not prepared there.
    pub may_use_less_storage: bool,
    /// Largest message that carries an envelope, a result, a program or a record.
    pub max_message_bytes: usize,
}

impl TopologySettings {
    /// Disk space by default: 4 GiB. By default a server offers JetStream three quarters of the
    /// free space of its disk, so this fits wherever 6 GiB are free.
    pub const DEFAULT_STORAGE_BYTES: u64 = 4 << 30;
    /// Least disk space: 8 MiB, for some 100 results of shards.
    pub const MIN_STORAGE_BYTES: u64 = 8 << 20;
    /// Disk space that is never used up, for a bus within one process.
    pub const UNLIMITED_STORAGE_BYTES: u64 = 1 << 50;
    /// Largest message by default, and with any server: the default `max_payload` of a server.
    pub const DEFAULT_MAX_MESSAGE_BYTES: usize = 1 << 20;
    /// More than any message has, for a bus within one process.
    pub const UNLIMITED_MESSAGE_BYTES: usize = 1 << 30;
}

impl Default for TopologySettings {
    /// One replica, a lease of 30 s and [`Self::DEFAULT_STORAGE_BYTES`].
    fn default() -> Self {
        Self {
            replicas: 1,
            lease: Duration::from_secs(30),
            storage_bytes: Self::DEFAULT_STORAGE_BYTES,
            may_use_less_storage: false,
            max_message_bytes: Self::DEFAULT_MAX_MESSAGE_BYTES,
        }
    }
}

/// A JetStream stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Submitted envelopes; a work queue.
    Jobs,
    /// Shards for workers; a work queue.
    Shards,
    /// Shards that a verifier executes again; a work queue.
    Verifications,
    /// Orders to reduce and to end jobs; a work queue.
    Reduce,
    /// Results of shards, kept until their job ends. Workers write it.
    Results,
    /// Verdicts of verifiers and outcomes of shards, kept until their job ends. Workers cannot
    /// write it.
    Verdicts,
    /// Server advisories about shards that exceeded [`MAX_SHARD_DELIVERIES`]; a work queue.
    DeadLetters,
}

impl Stream {
    /// Every stream.
    pub const ALL: [Self; 7] = [
        Self::Jobs,
        Self::Shards,
        Self::Verifications,
        Self::Reduce,
        Self::Results,
        Self::Verdicts,
        Self::DeadLetters,
    ];

    /// Returns the stream's name on the server.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jobs => "FORGE_JOBS",
            Self::Shards => "FORGE_SHARDS",
            Self::Verifications => "FORGE_DUPLICATES",
            Self::Reduce => "FORGE_REDUCE",
            Self::Results => "FORGE_RESULTS",
            Self::Verdicts => "FORGE_VERDICTS",
            Self::DeadLetters => "FORGE_DEAD_LETTERS",
        }
    }

    /// Returns the filters of the subjects that the stream stores. No subject belongs to two
    /// streams.
    pub fn subjects(self) -> &'static [&'static str] {
        match self {
            Self::Jobs => &[SUBMIT_SUBJECT, SUBMIT_AS_FILTER],
            Self::Shards => &["forge.v1.shards.>"],
            Self::Verifications => &["forge.v1.duplicates.>", "forge.v1.duplicates-long.>"],
            Self::Reduce => &["forge.v1.reduce.>"],
            Self::Results => &["forge.v1.results.>"],
            Self::Verdicts => &["forge.v1.verdicts.>", "forge.v1.outcomes.>"],
            Self::DeadLetters => &["$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.FORGE_SHARDS.>"],
        }
    }

    /// Returns the stream that stores `subject`, if any does.
    pub fn for_subject(subject: &str) -> Option<Self> {
        let stores = |stream: &Self| stream.subjects().iter().any(|filter| subject_matches(filter, subject));
        Self::ALL.into_iter().find(stores)
    }

    /// Whether an acknowledgement removes the message from the stream.
    pub fn is_work_queue(self) -> bool {
        !matches!(self, Self::Results | Self::Verdicts)
    }
}

/// Whether a job is short or long. Shards of short jobs, and their verifications, wait in queues of
/// their own, so that a small job never waits behind the shards of a large one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobLength {
    /// Jobs of little work in all.
    Short,
    /// Every other job.
    Long,
}

impl JobLength {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Short, Self::Long];

    /// The length of a job, whose plan says whether it is short.
    pub fn of_job(is_short: bool) -> Self {
        if is_short { Self::Short } else { Self::Long }
    }

    /// Returns what the length adds to a token of a subject.
    fn suffix(self) -> &'static str {
        match self {
            Self::Short => "",
            Self::Long => "-long",
        }
    }
}

/// A durable consumer of a work queue. Each message goes to one of its receivers at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Queue {
    /// Submitted envelopes, for planners.
    Jobs,
    /// Shards of jobs of this length, for agents that accept this target.
    Shards(Target, JobLength),
    /// Verification tasks of jobs of this length, for verifiers.
    Verifications(JobLength),
    /// Jobs to reduce, for aggregators.
    Reduce,
    /// Jobs to end without a result, for aggregators. Separate from [`Self::Reduce`], so that
    /// ending a job never waits for a reduction.
    End,
    /// Shards that exceeded [`MAX_SHARD_DELIVERIES`], for planners. Delivers the shard's own
    /// message as published, which stays in [`Stream::Shards`] until its job ends.
    DeadLetters,
}

impl Queue {
    /// Every queue.
    pub const ALL: [Self; 12] = [
        Self::Jobs,
        Self::Shards(Target::Cpu, JobLength::Short),
        Self::Shards(Target::Cpu, JobLength::Long),
        Self::Shards(Target::Gpu, JobLength::Short),
        Self::Shards(Target::Gpu, JobLength::Long),
        Self::Shards(Target::Any, JobLength::Short),
        Self::Shards(Target::Any, JobLength::Long),
        Self::Verifications(JobLength::Short),
        Self::Verifications(JobLength::Long),
        Self::Reduce,
        Self::End,
        Self::DeadLetters,
    ];

    /// Returns the stream that holds the queue's messages.
    pub fn stream(self) -> Stream {
        match self {
            Self::Jobs => Stream::Jobs,
            Self::Shards(..) => Stream::Shards,
            Self::Verifications(_) => Stream::Verifications,
            Self::Reduce | Self::End => Stream::Reduce,
            Self::DeadLetters => Stream::DeadLetters,
        }
    }

    /// Returns the name of the durable consumer, unique within its stream.
    pub fn consumer(self) -> &'static str {
        match self {
            Self::Jobs => "planners",
            Self::Shards(Target::Cpu, JobLength::Short) => "workers-cpu",
            Self::Shards(Target::Cpu, JobLength::Long) => "workers-cpu-long",
            Self::Shards(Target::Gpu, JobLength::Short) => "workers-gpu",
            Self::Shards(Target::Gpu, JobLength::Long) => "workers-gpu-long",
            Self::Shards(Target::Any, JobLength::Short) => "workers-any",
            Self::Shards(Target::Any, JobLength::Long) => "workers-any-long",
            Self::Verifications(JobLength::Short) => "verifiers",
            Self::Verifications(JobLength::Long) => "verifiers-long",
            Self::Reduce => "aggregators",
            Self::End => "aggregators-end",
            Self::DeadLetters => "planners",
        }
    }

    /// Returns the filter of the queue's subjects; `None` if it takes every subject of its stream.
    pub fn filter(self) -> Option<String> {
        match self {
            Self::Shards(target, length) => {
                Some(format!("forge.v1.shards.{}{}.>", target_token(target), length.suffix()))
            }
            Self::Verifications(length) => Some(format!("forge.v1.duplicates{}.>", length.suffix())),
            Self::Reduce => Some("forge.v1.reduce.*".to_owned()),
            Self::End => Some("forge.v1.reduce.*.end".to_owned()),
            _ => None,
        }
    }

    /// Returns the number of deliveries after which the server gives a message up; `None` if it
    /// never does.
    pub fn max_deliveries(self) -> Option<u64> {
        matches!(self, Self::Shards(..)).then_some(MAX_SHARD_DELIVERIES)
    }

    /// Returns the queue's name in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::Shards(Target::Cpu, JobLength::Short) => "shards_cpu",
            Self::Shards(Target::Cpu, JobLength::Long) => "shards_cpu_long",
            Self::Shards(Target::Gpu, JobLength::Short) => "shards_gpu",
            Self::Shards(Target::Gpu, JobLength::Long) => "shards_gpu_long",
            Self::Shards(Target::Any, JobLength::Short) => "shards_any",
            Self::Shards(Target::Any, JobLength::Long) => "shards_any_long",
            Self::Verifications(JobLength::Short) => "verifications",
            Self::Verifications(JobLength::Long) => "verifications_long",
            Self::Reduce => "reduce",
            Self::End => "end",
            Self::DeadLetters => "dead_letters",
        }
    }
}

/// A key-value bucket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bucket {
    /// Job records by job id. Its name is the envelope's `artifacts.kv_namespace`.
    Jobs(String),
    /// Heartbeats of verifiers and aggregators (`verifiers.<id>`, `aggregators.<id>`), quarantined
    /// agents (`quarantine.<id>`) and quarantined pools (`quarantined-pools.<pool>`). Workers
    /// cannot write it.
    Agents,
    /// Heartbeats of workers (`<pool>.<id>`).
    Workers,
    /// Programs by digest.
    Programs,
    /// Secrets that planners and aggregators share, and that no other role may read: the keys of
    /// jobs ([`job_key_entry`]).
    Secrets,
    /// Quota usage by submitter.
    Quotas,
}

impl Bucket {
    /// Returns the bucket that holds a job's record if its envelope names no
    /// `artifacts.kv_namespace`.
    pub fn default_jobs() -> Self {
        Self::Jobs("jobs".to_owned())
    }

    /// Returns the bucket's name on the server.
    pub fn name(&self) -> &str {
        match self {
            Self::Jobs(namespace) => namespace,
            Self::Agents => "forge_agents",
            Self::Workers => "forge_workers",
            Self::Programs => "forge_programs",
            Self::Secrets => "forge_secrets",
            Self::Quotas => "forge_quotas",
        }
    }
}

/// Returns every bucket, with one bucket of job records per namespace.
pub fn all_buckets(namespaces: &[String]) -> Vec<Bucket> {
    let jobs = namespaces.iter().cloned().map(Bucket::Jobs);
    let shared = [Bucket::Agents, Bucket::Workers, Bucket::Programs, Bucket::Secrets, Bucket::Quotas];
    jobs.chain(shared).collect()
}

/// Returns the stream and subject filter of the messages of a job that are purged when it ends.
/// Orders to reduce and to end the job stay until an aggregator acknowledges them: it then resumes
/// a cleanup that was interrupted, and one of them may be storing an error document.
pub fn job_subjects(job: JobUid) -> Vec<(Stream, String)> {
    vec![
        (Stream::Shards, shards_filter(job)),
        (Stream::Verifications, verifications_filter(JobLength::Short, job)),
        (Stream::Verifications, verifications_filter(JobLength::Long, job)),
        (Stream::Results, results_filter(job)),
        (Stream::Verdicts, verdicts_filter(job)),
        (Stream::Verdicts, outcomes_subject(job)),
    ]
}

/// Returns the key of a job's key in [`Bucket::Secrets`].
pub fn job_key_entry(job: JobUid) -> String {
    format!("jobs.{job}")
}

/// Checks that values of a bucket may expire.
///
/// # Errors
/// [`BusError::Unusable`], naming the bucket.
pub fn check_expires(bucket: &Bucket) -> Result<(), BusError> {
    if bucket.has_expiring_values() {
        return Ok(());
    }
    Err(BusError::Unusable(format!("values of the bucket {} do not expire one by one", bucket.name())))
}

/// Checks the key of a bucket entry: dot-separated tokens of ASCII letters, digits and `-/_=`.
///
/// # Errors
/// [`BusError::Unusable`], naming the key.
pub fn check_key(key: &str) -> Result<(), BusError> {
    let is_token = |token: &str| {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-/_=".contains(c);
        !token.is_empty() && token.chars().all(is_allowed)
    };
    if key.split('.').all(is_token) {
        Ok(())
    } else {
        Err(BusError::Unusable(format!(
            "{key:?} is not a valid key: use letters, digits and -/_= in tokens separated by dots"
        )))
    }
}

#[cfg(test)]
mod tests;
