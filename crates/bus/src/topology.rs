//! Every subject, stream, consumer and bucket there is, with its settings: the one place. Services build and read subjects
//! by these functions.

use std::time::Duration;

use crate::bus::BusError;
use forge_contract::{
    envelope::Target,
    ids::{JobId, Submitter},
    shard::ShardId,
};

/// Where envelopes are submitted, by the submitter `default`.
pub const SUBMIT: &str = "forge.v1.jobs.submit";
/// Where envelopes are submitted by others: the last token names the submitter. A receiver is not told who published, but
/// permissions say who may publish where.
pub const SUBMIT_AS: &str = "forge.v1.jobs.submit.*";
/// Name of the micro service.
pub const SERVICE: &str = "forge";
/// Endpoints of the micro service: name and subject (`*` as in NATS).
pub const ENDPOINTS: [(&str, &str); 4] =
    [("submit", API_SUBMIT), ("submit-as", API_SUBMIT_AS), ("status", API_STATUS), ("cancel", API_CANCEL)];
/// Submits an envelope and answers the job's record, by the submitter `default`.
pub const API_SUBMIT: &str = "forge.v1.api.submit";
/// The same by others: the last token names the submitter.
pub const API_SUBMIT_AS: &str = "forge.v1.api.submit.*";
/// Answers a job's record.
pub const API_STATUS: &str = "forge.v1.api.status";
/// Cancels a job.
pub const API_CANCEL: &str = "forge.v1.api.cancel";
/// The oldest server that has everything that is used here.
pub const MIN_SERVER: (u64, u64) = (2, 14);
/// How long the id of a message is remembered.
pub const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// Deliveries of one message of [`Queue::Shards`] before it goes to [`Queue::DeadLetters`]: a shard that kills its worker
/// must not kill them all.
pub const MAX_SHARD_DELIVERIES: u64 = 4;
/// Age at which messages of ended jobs and unused programs are dropped, should nobody have done so: the longest timeout
/// of a job.
pub const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Messages of a queue that may be worked on at once, over all consumers.
pub const MAX_ACK_PENDING: i64 = 100_000;

/// What an operator chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Copies of every stream and bucket in a cluster: 1, 3 or 5.
    pub replicas: usize,
    /// How long a message is left to its receiver without a sign of life.
    pub lease: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { replicas: 1, lease: Duration::from_secs(30) }
    }
}

/// A stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Submitted envelopes: a work queue.
    Jobs,
    /// Shards to execute: a work queue.
    Shards,
    /// Shards to execute a second time: a work queue.
    Duplicates,
    /// Jobs to take in or to end: a work queue.
    Reduce,
    /// Results and verdicts, kept until their job ends.
    Results,
    /// The server's notices that a shard was delivered too often: a work queue.
    DeadLetters,
}

/// Every stream.
pub const STREAMS: [Stream; 6] =
    [Stream::Jobs, Stream::Shards, Stream::Duplicates, Stream::Reduce, Stream::Results, Stream::DeadLetters];

impl Stream {
    /// Its name on the server.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jobs => "FORGE_JOBS",
            Self::Shards => "FORGE_SHARDS",
            Self::Duplicates => "FORGE_DUPLICATES",
            Self::Reduce => "FORGE_REDUCE",
            Self::Results => "FORGE_RESULTS",
            Self::DeadLetters => "FORGE_DEAD_LETTERS",
        }
    }

    /// The subjects it stores.
    pub fn subjects(self) -> &'static [&'static str] {
        match self {
            Self::Jobs => &[SUBMIT, SUBMIT_AS],
            Self::Shards => &["forge.v1.shards.>"],
            Self::Duplicates => &["forge.v1.duplicates.>"],
            Self::Reduce => &["forge.v1.reduce.>"],
            Self::Results => &["forge.v1.results.>", "forge.v1.verdicts.>"],
            Self::DeadLetters => &["$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.FORGE_SHARDS.>"],
        }
    }

    /// Whether its messages are removed when one receiver has acknowledged them.
    pub fn is_work_queue(self) -> bool {
        self != Self::Results
    }
}

/// A durable consumer of a work queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Queue {
    /// Submitted envelopes, for planners.
    Jobs,
    /// Shards for agents of a kind.
    Shards(Target),
    /// Duplicates, for verifiers.
    Duplicates,
    /// Jobs to take in, for aggregators.
    Reduce,
    /// Jobs to end without a result, for aggregators. A queue of its own, so that ending never waits for taking in.
    End,
    /// Shards that were delivered too often, for planners. The message is the shard's own, as it was published; it stays
    /// in [`Stream::Shards`] until its job ends.
    DeadLetters,
}

/// Every queue.
pub const QUEUES: [Queue; 8] = [
    Queue::Jobs,
    Queue::Shards(Target::Cpu),
    Queue::Shards(Target::Gpu),
    Queue::Shards(Target::Any),
    Queue::Duplicates,
    Queue::Reduce,
    Queue::End,
    Queue::DeadLetters,
];

impl Queue {
    /// The stream it is of.
    pub fn stream(self) -> Stream {
        match self {
            Self::Jobs => Stream::Jobs,
            Self::Shards(_) => Stream::Shards,
            Self::Duplicates => Stream::Duplicates,
            Self::Reduce | Self::End => Stream::Reduce,
            Self::DeadLetters => Stream::DeadLetters,
        }
    }

    /// Name of the durable consumer.
    pub fn consumer(self) -> &'static str {
        match self {
            Self::Jobs => "planners",
            Self::Shards(Target::Cpu) => "workers-cpu",
            Self::Shards(Target::Gpu) => "workers-gpu",
            Self::Shards(Target::Any) => "workers-any",
            Self::Duplicates => "verifiers",
            Self::Reduce => "aggregators",
            Self::End => "aggregators-end",
            Self::DeadLetters => "planners",
        }
    }

    /// The subjects it takes, where they are not all of its stream's.
    pub fn filter(self) -> Option<String> {
        match self {
            Self::Shards(target) => Some(format!("forge.v1.shards.{}.>", target_token(target))),
            Self::Reduce => Some("forge.v1.reduce.*".to_owned()),
            Self::End => Some("forge.v1.reduce.*.end".to_owned()),
            _ => None,
        }
    }

    /// Deliveries of one message before it is given up; `None` is without end.
    pub fn max_deliveries(self) -> Option<u64> {
        matches!(self, Self::Shards(_)).then_some(MAX_SHARD_DELIVERIES)
    }
}

/// A key-value bucket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bucket {
    /// Job records by job id. The name is an envelope's `artifacts.kv_namespace`.
    Jobs(String),
    /// Agents (`workers.<id>`, `verifiers.<id>`) and those whose results do not count (`quarantine.<id>`).
    Agents,
    /// Programs by hash.
    Programs,
    /// What services know and workers do not: the key by which shards are chosen for verification.
    Secrets,
    /// What submitters use of their quotas, by submitter.
    Quotas,
}

impl Bucket {
    /// The bucket of job records that an envelope gets by default.
    pub fn jobs() -> Self {
        Self::Jobs("jobs".to_owned())
    }

    /// Its name on the server.
    pub fn name(&self) -> &str {
        match self {
            Self::Jobs(namespace) => namespace,
            Self::Agents => "forge_agents",
            Self::Programs => "forge_programs",
            Self::Secrets => "forge_secrets",
            Self::Quotas => "forge_quotas",
        }
    }

    /// Age at which its entries are dropped; `None` is never.
    pub fn max_age(&self) -> Option<Duration> {
        match self {
            Self::Programs => Some(MAX_AGE),
            _ => None,
        }
    }
}

/// Every bucket, with these namespaces of job records.
pub fn buckets(namespaces: &[String]) -> Vec<Bucket> {
    let jobs = namespaces.iter().cloned().map(Bucket::Jobs);
    jobs.chain([Bucket::Agents, Bucket::Programs, Bucket::Secrets, Bucket::Quotas]).collect()
}

/// The token of a target in subjects.
pub fn target_token(target: Target) -> &'static str {
    match target {
        Target::Cpu => "cpu",
        Target::Gpu => "gpu",
        Target::Any => "any",
    }
}

/// Subject on which a submitter's envelopes are stored.
pub fn submit(submitter: &Submitter) -> String {
    named(SUBMIT, submitter)
}

/// Subject on which a submitter's envelopes are answered at once.
pub fn api_submit(submitter: &Submitter) -> String {
    named(API_SUBMIT, submitter)
}

fn named(subject: &str, submitter: &Submitter) -> String {
    if submitter.is_default() { subject.to_owned() } else { format!("{subject}.{submitter}") }
}

/// Who submits on a subject of [`submit`] or [`api_submit`]; `None` if it is another subject, or names nobody.
pub fn submitter(subject: &str) -> Option<Submitter> {
    let rest = subject.strip_prefix(SUBMIT).or_else(|| subject.strip_prefix(API_SUBMIT))?;
    if rest.is_empty() { Some(Submitter::default()) } else { rest.strip_prefix('.')?.parse().ok() }
}

/// Subject of a shard to execute.
pub fn shard(target: Target, job: &JobId, shard: ShardId) -> String {
    format!("forge.v1.shards.{}.{job}.{shard}", target_token(target))
}

/// Subject of a shard to execute a second time.
pub fn duplicate(job: &JobId, shard: ShardId) -> String {
    format!("forge.v1.duplicates.{job}.{shard}")
}

/// Subject of a shard's result.
pub fn result(job: &JobId, shard: ShardId) -> String {
    format!("forge.v1.results.{job}.{shard}")
}

/// Subject of a verdict about a shard's result.
pub fn verdict(job: &JobId, shard: ShardId) -> String {
    format!("forge.v1.verdicts.{job}.{shard}")
}

/// Subject of the order to take in a job.
pub fn reduce(job: &JobId) -> String {
    format!("forge.v1.reduce.{job}")
}

/// Subject of the order to end a job without a result.
pub fn end(job: &JobId) -> String {
    format!("forge.v1.reduce.{job}.end")
}

/// Subject on which it is said that a job has ended; nothing is stored.
pub fn ended(job: &JobId) -> String {
    format!("forge.v1.ended.{job}")
}

/// All of [`ended`].
pub const ENDED: &str = "forge.v1.ended.*";

/// The subjects of all results and verdicts of a job.
pub fn outcomes(job: &JobId) -> Vec<String> {
    vec![format!("forge.v1.results.{job}.>"), format!("forge.v1.verdicts.{job}.>")]
}

/// Where a job's messages lie, to be purged when it has ended: stream and subject. The order to reduce comes last: as long
/// as it is there, somebody will go on with this where another was killed.
pub fn leavings(job: &JobId) -> Vec<(Stream, String)> {
    let mut leavings = vec![
        (Stream::Shards, format!("forge.v1.shards.*.{job}.>")),
        (Stream::Duplicates, format!("forge.v1.duplicates.{job}.>")),
    ];
    leavings.extend(outcomes(job).into_iter().map(|subject| (Stream::Results, subject)));
    leavings.push((Stream::Reduce, end(job)));
    leavings.push((Stream::Reduce, reduce(job)));
    leavings
}

/// What kind of outcome a message of [`Stream::Results`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A result.
    Result,
    /// A verdict.
    Verdict,
}

/// Reads the subject of a result or a verdict.
pub fn parse_outcome(subject: &str) -> Option<(Kind, JobId, ShardId)> {
    let rest = subject.strip_prefix("forge.v1.")?;
    let (kind, rest) = rest.split_once('.')?;
    let kind = match kind {
        "results" => Kind::Result,
        "verdicts" => Kind::Verdict,
        _ => return None,
    };
    let (job, shard) = rest.split_once('.')?;
    Some((kind, job.parse().ok()?, shard.parse().ok()?))
}

/// Reads the subject of a shard to execute.
pub fn parse_shard(subject: &str) -> Option<(JobId, ShardId)> {
    let rest = subject.strip_prefix("forge.v1.shards.")?;
    let mut tokens = rest.splitn(3, '.');
    let (_, job, shard) = (tokens.next()?, tokens.next()?, tokens.next()?);
    Some((job.parse().ok()?, shard.parse().ok()?))
}

/// The stream that stores a subject.
pub fn stream_of(subject: &str) -> Option<Stream> {
    let stores = |stream: &Stream| stream.subjects().iter().any(|filter| matches(filter, subject));
    STREAMS.into_iter().find(stores)
}

/// Checks a key of a bucket: tokens of letters, digits and `-/_=`, with dots between them.
///
/// # Errors
/// [`BusError::Unusable`] naming the key.
pub fn check_key(key: &str) -> Result<(), BusError> {
    let token = |token: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-/_=".contains(c);
        !token.is_empty() && token.chars().all(plain)
    };
    if key.split('.').all(token) { Ok(()) } else { Err(BusError::Unusable(format!("not a key: {key:?}"))) }
}

/// Whether a subject matches a filter with `*` (one token) and `>` (one or more, at the end).
pub fn matches(filter: &str, subject: &str) -> bool {
    let (mut filter, mut subject) = (filter.split('.'), subject.split('.'));
    loop {
        match (filter.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests;
