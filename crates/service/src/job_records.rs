//! Job records in the buckets of job records. All writes are compare-and-set, so a terminal record
//! is never overwritten.

use std::time::Duration;

use forge_bus::{BucketEntry, Bus, BusError, topology::Bucket};
use forge_contract::{
    canonical::to_canonical_json,
    ids::{JobId, JobUid},
    job::JobRecord,
};
use tokio::time::{Instant, sleep};

use crate::clock::Clock;

/// How long a record may be missing from the replica of its bucket that answers a read, after
/// another replica has stored it. A record that stays missing for longer does not exist.
pub const MISSING_RECORD_GRACE_PERIOD: Duration = Duration::from_secs(10);

/// Interval between two reads while a record is missing.
const MISSING_RECORD_POLL_INTERVAL: Duration = Duration::from_millis(500);

/// A job record with the revision at which it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionedRecord {
    /// The record as of `revision`.
    pub record: JobRecord,
    /// The bucket's revision of the entry.
    pub revision: u64,
    /// Time since the record was written, by the clock of the bus.
    pub age: Duration,
}

/// Reads the record of a job; `None` if there is none.
///
/// # Errors
/// Returns any error of reading the bucket, and [`BusError::Corrupt`] when the entry is not a
/// record or names another job.
pub async fn get(bus: &dyn Bus, bucket: &Bucket, job: &JobId) -> Result<Option<VersionedRecord>, BusError> {
    let Some(BucketEntry { value: Some(value), revision, age, .. }) = bus.get(bucket, job.as_str()).await?
    else {
        return Ok(None);
    };
    let malformed = |error| BusError::Corrupt(format!("the record of job {job} is malformed: {error}"));
    let record: JobRecord = serde_json::from_slice(&value).map_err(malformed)?;
    if record.job_id != *job {
        // No service writes such an entry. A client with a stolen service credential can: JetStream
        // sends a reply to any subject that the request names (docs/security.md).
        return Err(BusError::Corrupt(format!(
            "the entry of job {job} holds the record of job {}",
            record.job_id
        )));
    }
    Ok(Some(VersionedRecord { record, revision, age }))
}

/// Reads the record of a job that should exist, and waits [`MISSING_RECORD_GRACE_PERIOD`] for it
/// to appear. `None` if it does not exist.
///
/// # Errors
/// As [`get`].
pub async fn get_expected(
    bus: &dyn Bus,
    bucket: &Bucket,
    job: &JobId,
) -> Result<Option<VersionedRecord>, BusError> {
    wait_until_visible(|| get(bus, bucket, job)).await
}

/// Repeats a read until it finds a value. Only a read that begins after
/// [`MISSING_RECORD_GRACE_PERIOD`] decides that there is none: the process may have been frozen
/// since the one before.
///
/// # Errors
/// Returns the error of a read.
pub async fn wait_until_visible<T, F>(mut read: impl FnMut() -> F) -> Result<Option<T>, BusError>
where
    F: Future<Output = Result<Option<T>, BusError>>,
{
    let started = Instant::now();
    loop {
        let is_last = started.elapsed() >= MISSING_RECORD_GRACE_PERIOD;
        let found = read().await?;
        if found.is_some() || is_last {
            return Ok(found);
        }
        sleep(MISSING_RECORD_POLL_INTERVAL).await;
    }
}

/// Creates a record; returns `false` if the job has one already.
///
/// # Errors
/// Returns any error of writing the bucket.
pub async fn create(bus: &dyn Bus, bucket: &Bucket, record: &JobRecord) -> Result<bool, BusError> {
    let revision = bus.compare_and_set(bucket, record.job_id.as_str(), json(record).into(), None).await?;
    Ok(revision.is_some())
}

/// Result of [`update`].
#[derive(Debug, Clone, PartialEq)]
pub struct RecordUpdate {
    /// The current record: the written one, or the one that was left alone.
    pub record: JobRecord,
    /// Whether this call wrote it.
    pub written: bool,
}

/// Changes a record, unless it is terminal, and dates the change by `clock`. `change` returns
/// `false` to leave the record as it is; it runs again whenever another process has written the
/// record in between.
///
/// # Errors
/// Returns any error of [`get`] and of writing the bucket, and [`BusError::Missing`] when the job
/// has no record.
pub async fn update(
    bus: &dyn Bus,
    clock: Clock,
    bucket: &Bucket,
    job: &JobId,
    change: impl FnMut(&mut JobRecord) -> bool + Send,
) -> Result<RecordUpdate, BusError> {
    update_with(bus, clock, bucket, job, None, change).await
}

/// As [`update`]; if the change makes the record terminal, the record expires after `retention`,
/// or never.
///
/// # Errors
/// As [`update`].
pub async fn end(
    bus: &dyn Bus,
    clock: Clock,
    bucket: &Bucket,
    job: &JobId,
    retention: Option<Duration>,
    change: impl FnMut(&mut JobRecord) -> bool + Send,
) -> Result<RecordUpdate, BusError> {
    update_with(bus, clock, bucket, job, retention, change).await
}

async fn update_with(
    bus: &dyn Bus,
    clock: Clock,
    bucket: &Bucket,
    job: &JobId,
    retention: Option<Duration>,
    mut change: impl FnMut(&mut JobRecord) -> bool + Send,
) -> Result<RecordUpdate, BusError> {
    loop {
        let Some(VersionedRecord { mut record, revision, .. }) = get(bus, bucket, job).await? else {
            return Err(BusError::Missing(format!("the record of job {job}")));
        };
        if record.state.is_terminal() || !change(&mut record) {
            return Ok(RecordUpdate { record, written: false });
        }
        record.updated_at = clock.now_rfc3339();
        if record.state.is_terminal() {
            record.waiting = None;
        }
        let (key, value, expected) = (job.as_str(), json(&record).into(), Some(revision));
        let written = match retention.filter(|_| record.state.is_terminal()) {
            Some(lifetime) => bus.compare_and_set_expiring(bucket, key, value, expected, lifetime).await?,
            None => bus.compare_and_set(bucket, key, value, expected).await?,
        };
        if written.is_some() {
            return Ok(RecordUpdate { record, written: true });
        }
    }
}

/// Notes in the record of a job why it waits, or that it does not any more. Nothing depends on it
/// but what people see, so an error is only logged.
pub async fn note_waiting(
    bus: &dyn Bus,
    clock: Clock,
    bucket: &Bucket,
    (job, uid): (&JobId, JobUid),
    reason: Option<&str>,
) {
    let noted = update(bus, clock, bucket, job, |record| {
        let is_news = record.uid == uid && record.waiting.as_deref() != reason;
        if is_news {
            record.waiting = reason.map(str::to_owned);
        }
        is_news
    });
    if let Err(error) = noted.await {
        tracing::warn!(%job, %error, "noting in a record why its job waits failed");
    }
}

fn json(record: &JobRecord) -> Vec<u8> {
    to_canonical_json(record).expect("every number in a job record has a canonical JSON form")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use forge_bus::{MemoryBus, SharedBus, topology::TopologySettings};
    use forge_contract::job::JobState;
    use serde_json::json;

    use super::*;

    fn record(state: &str) -> JobRecord {
        let json = json!({"schema": JobRecord::SCHEMA, "job_id": "j", "uid": "0".repeat(32), "state": state, "persist": true,
            "submission": 1, "submitted_at": "2026-11-23T04:21:23.123Z", "updated_at": "2026-11-23T04:21:23.123Z",
            "billing": {"mode": "test", "reason": "api"}, "progress": {"iterations": 0, "iterations_done": 0,
            "shards": 0, "shards_done": 0, "shards_verified": 0}});
        serde_json::from_value(json).unwrap()
    }

    async fn bus() -> (SharedBus, Bucket, JobId) {
        let bus: SharedBus = MemoryBus::new(TopologySettings::default());
        bus.prepare().await.unwrap();
        (bus, Bucket::default_jobs(), "j".parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn absence_that_was_read_before_a_freeze_is_not_final() {
        let reads = Cell::new(0);
        let read = || async {
            reads.set(reads.get() + 1);
            match reads.get() {
                // The answer is stale, and the process freezes before it goes on.
                1 => sleep(2 * MISSING_RECORD_GRACE_PERIOD).await,
                _ => return Ok(Some("a record")),
            }
            Ok(None)
        };
        assert_eq!(wait_until_visible(read).await, Ok(Some("a record")));
    }

    #[tokio::test]
    async fn a_terminal_record_is_never_overwritten() {
        let (bus, bucket, job) = bus().await;
        assert!(create(bus.as_ref(), &bucket, &record("running")).await.unwrap());
        assert!(!create(bus.as_ref(), &bucket, &record("accepted")).await.unwrap());
        let end = |state: JobState| {
            move |record: &mut JobRecord| {
                record.state = state;
                true
            }
        };
        let first =
            update(bus.as_ref(), Clock::default(), &bucket, &job, end(JobState::Completed)).await.unwrap();
        let second =
            update(bus.as_ref(), Clock::default(), &bucket, &job, end(JobState::Failed)).await.unwrap();
        assert!(first.written && !second.written);
        assert_eq!(second.record.state, JobState::Completed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_terminal_record_expires_after_the_retention() {
        let (bus, bucket, job) = bus().await;
        let day = Duration::from_secs(24 * 3600);
        create(bus.as_ref(), &bucket, &record("running")).await.unwrap();
        let change = |state: JobState| {
            move |record: &mut JobRecord| {
                record.state = state;
                true
            }
        };
        end(bus.as_ref(), Clock::default(), &bucket, &job, Some(day), change(JobState::Reducing))
            .await
            .unwrap();
        sleep(2 * day).await;
        assert!(get(bus.as_ref(), &bucket, &job).await.unwrap().is_some(), "it is not terminal");
        end(bus.as_ref(), Clock::default(), &bucket, &job, Some(day), change(JobState::Completed))
            .await
            .unwrap();
        sleep(day / 2).await;
        assert!(get(bus.as_ref(), &bucket, &job).await.unwrap().is_some());
        sleep(day).await;
        assert!(get(bus.as_ref(), &bucket, &job).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_record_says_why_its_job_waits_until_it_ends() {
        let (bus, bucket, job) = bus().await;
        create(bus.as_ref(), &bucket, &record("running")).await.unwrap();
        let uid = record("running").uid;
        let waiting = async || get(bus.as_ref(), &bucket, &job).await.unwrap().unwrap().record.waiting;
        note_waiting(
            bus.as_ref(),
            Clock::default(),
            &bucket,
            (&job, JobUid([9; 16])),
            Some("another submission"),
        )
        .await;
        assert_eq!(waiting().await, None);
        note_waiting(bus.as_ref(), Clock::default(), &bucket, (&job, uid), Some("no agent")).await;
        assert_eq!(waiting().await.as_deref(), Some("no agent"));
        let end = |record: &mut JobRecord| {
            record.state = JobState::Failed;
            true
        };
        update(bus.as_ref(), Clock::default(), &bucket, &job, end).await.unwrap();
        assert_eq!(waiting().await, None);
    }

    #[tokio::test]
    async fn a_record_stored_under_another_jobs_key_is_refused() {
        let (bus, bucket, job) = bus().await;
        create(bus.as_ref(), &bucket, &record("completed")).await.unwrap();
        let copy = bus.get(&bucket, job.as_str()).await.unwrap().unwrap().value.unwrap();
        bus.put(&bucket, "victim", copy).await.unwrap();
        let error = get(bus.as_ref(), &bucket, &"victim".parse().unwrap()).await.unwrap_err();
        let message = "the entry of job victim holds the record of job j";
        assert_eq!(error, BusError::Corrupt(message.to_owned()));
    }
}
