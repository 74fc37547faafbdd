//! The keys of jobs in bucket `forge_secrets`, which only planners and aggregators may read. A key
//! is written once, before its job's record, and deleted when the job has ended.

use forge_bus::{
    BucketEntry, Bus, BusError,
    topology::{Bucket, job_key_entry},
};
use forge_contract::ids::JobUid;
use forge_kernel::job_key::JobKey;

use crate::job_records::wait_until_visible;

/// Stores the key of a job. Repeating the call with the same key succeeds.
///
/// # Errors
/// Returns any error of the bucket, and [`BusError::Corrupt`] when the job has another key.
pub async fn create(bus: &dyn Bus, job: JobUid, key: &JobKey) -> Result<(), BusError> {
    let value = key.as_bytes().to_vec().into();
    let created = bus.compare_and_set(&Bucket::Secrets, &job_key_entry(job), value, None).await?;
    if created.is_some() || load(bus, job).await?.as_ref() == Some(key) {
        return Ok(());
    }
    Err(BusError::Corrupt(format!("job {job} has another key already")))
}

/// Reads the key of a job; `None` if the job has none, or has ended.
///
/// # Errors
/// Returns any error of the bucket, and [`BusError::Corrupt`] when the entry is not a key.
pub async fn load(bus: &dyn Bus, job: JobUid) -> Result<Option<JobKey>, BusError> {
    let entry = bus.get(&Bucket::Secrets, &job_key_entry(job)).await?;
    let Some(BucketEntry { value: Some(value), .. }) = entry else { return Ok(None) };
    let bytes = <[u8; 32]>::try_from(value.as_ref());
    let bytes = bytes.map_err(|_| BusError::Corrupt(format!("the key of job {job} is malformed")))?;
    Ok(Some(bytes.into()))
}

/// Reads the key of a job that should have one, and waits
/// [`MISSING_RECORD_GRACE_PERIOD`](crate::job_records::MISSING_RECORD_GRACE_PERIOD) for it to appear: a
/// deposed leader may not have it. `None` if the job has none, or has ended.
///
/// # Errors
/// As [`load`].
pub async fn load_expected(bus: &dyn Bus, job: JobUid) -> Result<Option<JobKey>, BusError> {
    wait_until_visible(|| load(bus, job)).await
}

/// Deletes the key of a job that has ended.
///
/// # Errors
/// Returns any error of the bucket.
pub async fn delete(bus: &dyn Bus, job: JobUid) -> Result<(), BusError> {
    bus.delete(&Bucket::Secrets, &job_key_entry(job)).await
}

#[cfg(test)]
mod tests {
    use forge_bus::{MemoryBus, topology::TopologySettings};

    use super::*;

    #[tokio::test]
    async fn a_key_is_written_once_and_kept_until_it_is_deleted() {
        let bus = MemoryBus::new(TopologySettings::default());
        bus.prepare().await.unwrap();
        let (job, key) = (JobUid([1; 16]), JobKey::from([7; 32]));
        assert_eq!(load(bus.as_ref(), job).await, Ok(None));
        create(bus.as_ref(), job, &key).await.unwrap();
        create(bus.as_ref(), job, &key).await.unwrap();
        let other = create(bus.as_ref(), job, &JobKey::from([8; 32])).await;
        assert!(matches!(other, Err(BusError::Corrupt(_))), "{other:?}");
        assert_eq!(load(bus.as_ref(), job).await, Ok(Some(key)));
        delete(bus.as_ref(), job).await.unwrap();
        assert_eq!(load(bus.as_ref(), job).await, Ok(None));
    }
}
