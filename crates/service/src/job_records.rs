//! Job records in the buckets of job records. All writes are compare-and-set, so a terminal record
//! is never overwritten.

use std::time::Duration;

use forge_bus::{BucketEntry, Bus, BusError, topology::Bucket};
use forge_contract::{canonical::to_canonical_json, ids::JobId, job::JobRecord};
use tokio::time::{Instant, sleep};

use crate::clock::now_rfc3339;

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
}

/// Reads the record of a job; `None` if there is none.
///
/// # Errors
/// Returns any error of reading the bucket, and [`BusError::Unusable`] when the entry is not a
/// record or names another job.
pub async fn get(bus: &dyn Bus, bucket: &Bucket, job: &JobId) -> Result<Option<VersionedRecord>, BusError> {
    let Some(BucketEntry { value: Some(value), revision, .. }) = bus.get(bucket, job.as_str()).await? else {
        return Ok(None);
    };
    let malformed = |error| BusError::Unusable(format!("the record of job {job} is malformed: {error}"));
    let record: JobRecord = serde_json::from_slice(&value).map_err(malformed)?;
    if record.job_id != *job {
        // No service writes such an entry. A client with a stolen service credential can: JetStream
        // sends a reply to any subject that the request names (docs/security.md).
        return Err(BusError::Unusable(format!(
            "the entry of job {job} holds the record of job {}",
            record.job_id
        )));
    }
    Ok(Some(VersionedRecord { record, revision }))
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
    let started = Instant::now();
    loop {
        let found = get(bus, bucket, job).await?;
        if found.is_some() || started.elapsed() >= MISSING_RECORD_GRACE_PERIOD {
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

/// Changes a record, unless it is terminal. `change` returns `false` to leave the record as it is;
/// it runs again whenever another process has written the record in between.
///
/// # Errors
/// Returns any error of [`get`] and of writing the bucket, and [`BusError::Missing`] when the job
/// has no record.
pub async fn update(
    bus: &dyn Bus,
    bucket: &Bucket,
    job: &JobId,
    mut change: impl FnMut(&mut JobRecord) -> bool + Send,
) -> Result<RecordUpdate, BusError> {
    loop {
        let Some(VersionedRecord { mut record, revision }) = get(bus, bucket, job).await? else {
            return Err(BusError::Missing(format!("the record of job {job}")));
        };
        if record.state.is_terminal() || !change(&mut record) {
            return Ok(RecordUpdate { record, written: false });
        }
        record.updated_at = now_rfc3339();
        let written = bus.compare_and_set(bucket, job.as_str(), json(&record).into(), Some(revision)).await?;
        if written.is_some() {
            return Ok(RecordUpdate { record, written: true });
        }
    }
}

fn json(record: &JobRecord) -> Vec<u8> {
    to_canonical_json(record).expect("every number in a job record has a canonical JSON form")
}

#[cfg(test)]
mod tests {
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
        let first = update(bus.as_ref(), &bucket, &job, end(JobState::Completed)).await.unwrap();
        let second = update(bus.as_ref(), &bucket, &job, end(JobState::Failed)).await.unwrap();
        assert!(first.written && !second.written);
        assert_eq!(second.record.state, JobState::Completed);
    }

    #[tokio::test]
    async fn a_record_stored_under_another_jobs_key_is_refused() {
        let (bus, bucket, job) = bus().await;
        create(bus.as_ref(), &bucket, &record("completed")).await.unwrap();
        let copy = bus.get(&bucket, job.as_str()).await.unwrap().unwrap().value.unwrap();
        bus.put(&bucket, "victim", copy).await.unwrap();
        let error = get(bus.as_ref(), &bucket, &"victim".parse().unwrap()).await.unwrap_err();
        let message = "the entry of job victim holds the record of job j";
        assert_eq!(error, BusError::Unusable(message.to_owned()));
    }
}
