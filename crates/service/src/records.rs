//! Job records: reading them, and writing them by compare-and-set, so that a terminal record is never written over.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use forge_bus::{BucketEntry, Bus, BusError, SharedBus, topology::Bucket};
use forge_contract::{canonical::to_canonical_json, ids::JobId, job::JobRecord};
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::identity::now_rfc3339;

/// A record as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// The record.
    pub record: JobRecord,
    /// Its revision.
    pub revision: u64,
}

/// The record of a job, if there is one.
///
/// # Errors
/// As [`Bus::get`]; [`BusError::Unusable`] when it cannot be read, or is another job's.
pub async fn get(bus: &dyn Bus, bucket: &Bucket, job: &JobId) -> Result<Option<Read>, BusError> {
    let Some(BucketEntry { value: Some(value), revision, .. }) = bus.get(bucket, job.as_str()).await? else {
        return Ok(None);
    };
    let unreadable = |error| BusError::Unusable(format!("the record of job {job} cannot be read: {error}"));
    let record: JobRecord = serde_json::from_slice(&value).map_err(unreadable)?;
    if record.job_id != *job {
        // Nobody of ours writes such a thing, but an answer may be sent there (docs/security.md).
        return Err(BusError::Unusable(format!("under job {job} lies the record of job {}", record.job_id)));
    }
    Ok(Some(Read { record, revision }))
}

/// Writes a record that is not there yet; `false` if there is one.
///
/// # Errors
/// As [`Bus::compare_and_set`].
pub async fn create(bus: &dyn Bus, bucket: &Bucket, record: &JobRecord) -> Result<bool, BusError> {
    let created = bus.compare_and_set(bucket, record.job_id.as_str(), json(record).into(), None).await?;
    Ok(created.is_some())
}

/// A record after [`update`].
#[derive(Debug, Clone, PartialEq)]
pub struct Updated {
    /// The record as it is now.
    pub record: JobRecord,
    /// Whether this call wrote it.
    pub written: bool,
}

/// Changes a record that is not terminal. `change` may be called several times; it answers `false` to leave the record as
/// it is.
///
/// # Errors
/// As [`get`] and [`Bus::compare_and_set`]; [`BusError::Missing`] when there is no record.
pub async fn update(
    bus: &dyn Bus,
    bucket: &Bucket,
    job: &JobId,
    mut change: impl FnMut(&mut JobRecord) -> bool + Send,
) -> Result<Updated, BusError> {
    loop {
        let Some(Read { mut record, revision }) = get(bus, bucket, job).await? else {
            return Err(BusError::Missing(format!("the record of job {job}")));
        };
        if record.state.is_terminal() || !change(&mut record) {
            return Ok(Updated { record, written: false });
        }
        record.updated_at = now_rfc3339();
        let written = bus.compare_and_set(bucket, job.as_str(), json(&record).into(), Some(revision)).await?;
        if written.is_some() {
            return Ok(Updated { record, written: true });
        }
    }
}

fn json(record: &JobRecord) -> Vec<u8> {
    to_canonical_json(record).expect("a record holds numbers that canonical JSON has")
}

/// Tells when jobs end: one watch for each bucket of records, however many jobs there are.
#[derive(Debug, Clone)]
pub struct Endings {
    bus: SharedBus,
    waiting: Arc<Mutex<Waiting>>,
}

/// Who waits for which job. A message that is delivered again is handled twice at once, so a job may be waited for twice in
/// one process, and the one who leaves first must not take the other's token with it.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    tokens: HashMap<(Bucket, JobId), Vec<(u64, CancellationToken)>>,
}

/// The end of a job, looked out for until this is dropped.
#[derive(Debug)]
pub struct Ending {
    endings: Endings,
    job: (Bucket, JobId),
    number: u64,
    token: CancellationToken,
}

impl Ending {
    /// A token that is cancelled when the job has ended, or its record has been removed.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let mut waiting = self.endings.lock();
        if let Some(tokens) = waiting.tokens.get_mut(&self.job) {
            tokens.retain(|(number, _)| *number != self.number);
            if tokens.is_empty() {
                waiting.tokens.remove(&self.job);
            }
        }
    }
}

impl Endings {
    /// Follows the records of these buckets until `stop`.
    ///
    /// # Errors
    /// As [`Bus::watch`].
    pub async fn open(
        bus: SharedBus,
        buckets: &[Bucket],
        stop: &CancellationToken,
    ) -> Result<Self, BusError> {
        let endings = Self { bus, waiting: Arc::default() };
        for bucket in buckets {
            let mut changes = endings.bus.watch(bucket, ">").await?;
            let (follower, bucket, stop) = (endings.clone(), bucket.clone(), stop.clone());
            tokio::spawn(async move {
                while let Some(Some(entry)) = stop.run_until_cancelled(changes.next()).await {
                    follower.take(&bucket, &entry);
                }
            });
        }
        Ok(endings)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, bucket: &Bucket, entry: &BucketEntry) {
        let Ok(job) = entry.key.parse::<JobId>() else { return };
        let mut waiting = self.lock();
        let key = (bucket.clone(), job);
        if !waiting.tokens.contains_key(&key) {
            return;
        }
        let record = entry.value.as_ref().and_then(|value| serde_json::from_slice::<JobRecord>(value).ok());
        if record.is_none_or(|record| record.state.is_terminal()) {
            let tokens = waiting.tokens.remove(&key);
            tokens.into_iter().flatten().for_each(|(_, token)| token.cancel());
        }
    }

    /// Looks out for the end of a job.
    ///
    /// # Errors
    /// As [`get`].
    pub async fn of(&self, bucket: &Bucket, job: &JobId) -> Result<Ending, BusError> {
        let (job, token) = ((bucket.clone(), job.clone()), CancellationToken::new());
        let number = {
            let mut waiting = self.lock();
            let number = waiting.next;
            waiting.next += 1;
            waiting.tokens.entry(job.clone()).or_default().push((number, token.clone()));
            number
        };
        let ending = Ending { endings: self.clone(), job, number, token };
        // It may have ended before the watch was told to look out for it.
        let found = get(self.bus.as_ref(), bucket, &ending.job.1).await?;
        if found.is_none_or(|found| found.record.state.is_terminal()) {
            ending.token.cancel();
        }
        Ok(ending)
    }
}

/// Does something until it succeeds or `stop`: the bus comes back. `None` when stopped.
pub async fn persist<T, F>(stop: &CancellationToken, what: &str, mut attempt: impl FnMut() -> F) -> Option<T>
where
    F: Future<Output = Result<T, BusError>>,
{
    let mut pause = Duration::from_millis(50);
    loop {
        match stop.run_until_cancelled(attempt()).await? {
            Ok(done) => return Some(done),
            Err(error) => tracing::warn!(%error, what, "not done; it is tried again"),
        }
        stop.run_until_cancelled(tokio::time::sleep(pause)).await?;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

#[cfg(test)]
mod tests {
    use forge_bus::{MemoryBus, topology::TopologySettings};
    use forge_contract::job::JobState;
    use serde_json::json;

    use super::*;

    fn record(state: &str) -> JobRecord {
        let json = json!({"schema": JobRecord::SCHEMA, "job_id": "j", "state": state, "persist": true,
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
    async fn a_terminal_record_is_not_written_over() {
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
    async fn a_record_of_another_job_is_refused() {
        let (bus, bucket, job) = bus().await;
        create(bus.as_ref(), &bucket, &record("completed")).await.unwrap();
        let copy = bus.get(&bucket, job.as_str()).await.unwrap().unwrap().value.unwrap();
        bus.put(&bucket, "victim", copy).await.unwrap();
        let refused = get(bus.as_ref(), &bucket, &"victim".parse().unwrap()).await.unwrap_err();
        assert_eq!(refused, BusError::Unusable("under job victim lies the record of job j".to_owned()));
    }

    #[tokio::test]
    async fn one_who_stops_waiting_leaves_the_others_waiting() {
        let ((bus, bucket, job), stop) = (bus().await, CancellationToken::new());
        create(bus.as_ref(), &bucket, &record("running")).await.unwrap();
        let endings = Endings::open(bus.clone(), std::slice::from_ref(&bucket), &stop).await.unwrap();
        let one = endings.of(&bucket, &job).await.unwrap();
        let other = endings.of(&bucket, &job).await.unwrap();
        drop(one);
        assert!(!other.token().is_cancelled());
        update(bus.as_ref(), &bucket, &job, |record| {
            record.state = JobState::Cancelled;
            true
        })
        .await
        .unwrap();
        tokio::time::timeout(Duration::from_secs(10), other.token().cancelled()).await.unwrap();
        assert!(endings.of(&bucket, &job).await.unwrap().token().is_cancelled());
        drop(other);
        assert!(endings.lock().tokens.is_empty());
    }
}
