//! Job records: reading them, and writing them by compare-and-set, so that a terminal record is never written over.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use forge_bus::{Bus, BusError, Entry, SharedBus, topology::Bucket};
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
/// As [`Bus::get`]; [`BusError::Unusable`] when it cannot be read.
pub async fn get(bus: &dyn Bus, bucket: &Bucket, job: &JobId) -> Result<Option<Read>, BusError> {
    let Some(Entry { value: Some(value), revision, .. }) = bus.get(bucket, job.as_str()).await? else {
        return Ok(None);
    };
    let unreadable = |error| BusError::Unusable(format!("the record of job {job} cannot be read: {error}"));
    let record = serde_json::from_slice(&value).map_err(unreadable)?;
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

/// Changes a record that is not terminal, and answers it as it is then. `change` may be called several times; it answers
/// `false` to leave the record as it is.
///
/// # Errors
/// As [`get`] and [`Bus::compare_and_set`]; [`BusError::Missing`] when there is no record.
pub async fn update(
    bus: &dyn Bus,
    bucket: &Bucket,
    job: &JobId,
    mut change: impl FnMut(&mut JobRecord) -> bool + Send,
) -> Result<JobRecord, BusError> {
    loop {
        let Some(Read { mut record, revision }) = get(bus, bucket, job).await? else {
            return Err(BusError::Missing(format!("the record of job {job}")));
        };
        if record.state.is_terminal() || !change(&mut record) {
            return Ok(record);
        }
        record.updated_at = now_rfc3339();
        let written = bus.compare_and_set(bucket, job.as_str(), json(&record).into(), Some(revision)).await?;
        if written.is_some() {
            return Ok(record);
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
    waiting: Arc<Mutex<HashMap<(Bucket, JobId), CancellationToken>>>,
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

    fn take(&self, bucket: &Bucket, entry: &Entry) {
        let Ok(job) = entry.key.parse::<JobId>() else { return };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (bucket.clone(), job);
        let Some(token) = waiting.get(&key) else { return };
        let record = entry.value.as_ref().and_then(|value| serde_json::from_slice::<JobRecord>(value).ok());
        if record.is_none_or(|record| record.state.is_terminal()) {
            token.cancel();
            waiting.remove(&key);
        }
    }

    /// A token that is cancelled when the job has ended, or its record has been removed.
    ///
    /// # Errors
    /// As [`get`].
    pub async fn of(&self, bucket: &Bucket, job: &JobId) -> Result<CancellationToken, BusError> {
        let token = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.entry((bucket.clone(), job.clone())).or_default().clone()
        };
        // It may have ended before the watch was told to look out for it.
        let found = get(self.bus.as_ref(), bucket, job).await?;
        if found.is_none_or(|found| found.record.state.is_terminal()) {
            self.forget(bucket, job);
            token.cancel();
        }
        Ok(token)
    }

    /// Stops looking out for a job.
    pub fn forget(&self, bucket: &Bucket, job: &JobId) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.remove(&(bucket.clone(), job.clone()));
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
