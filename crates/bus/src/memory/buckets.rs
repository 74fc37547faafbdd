//! Key-value buckets of the in-process bus. Synchronous and without a clock: callers hold the lock
//! and pass the time.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Duration, Instant},
};

use crate::{
    bus::BucketEntry,
    error::BusError,
    topology::{Bucket, subject_matches},
};

/// All buckets, by name.
#[derive(Debug, Default)]
pub(super) struct MemoryBuckets(HashMap<String, MemoryBucket>);

#[derive(Debug)]
struct MemoryBucket {
    max_age: Option<Duration>,
    /// Revision of the latest change.
    revision: u64,
    values: BTreeMap<String, BucketValue>,
    /// Keys by the revision of their value, so oldest first.
    keys_by_revision: BTreeMap<u64, String>,
    /// Filters and channels of watchers.
    watchers: Vec<(String, UnboundedSender<BucketEntry>)>,
}

#[derive(Debug)]
struct BucketValue {
    value: Bytes,
    revision: u64,
    written_at: Instant,
}

impl MemoryBuckets {
    /// Creates a bucket, unless it exists.
    pub(super) fn create(&mut self, bucket: &Bucket) {
        self.0.entry(bucket.name().to_owned()).or_insert_with(|| MemoryBucket {
            max_age: bucket.max_age(),
            revision: 0,
            values: BTreeMap::new(),
            keys_by_revision: BTreeMap::new(),
            watchers: Vec::new(),
        });
    }

    /// Returns a bucket, free of expired values.
    fn bucket_mut(&mut self, now: Instant, bucket: &Bucket) -> Result<&mut MemoryBucket, BusError> {
        let missing = || BusError::Missing(format!("the bucket {}", bucket.name()));
        let bucket = self.0.get_mut(bucket.name()).ok_or_else(missing)?;
        bucket.drop_expired(now);
        Ok(bucket)
    }

    pub(super) fn get(
        &mut self,
        now: Instant,
        bucket: &Bucket,
        key: &str,
    ) -> Result<Option<BucketEntry>, BusError> {
        let bucket = self.bucket_mut(now, bucket)?;
        Ok(bucket.values.get(key).map(|value| value.to_entry(now, key)))
    }

    pub(super) fn put(
        &mut self,
        now: Instant,
        bucket: &Bucket,
        key: &str,
        value: Bytes,
    ) -> Result<u64, BusError> {
        Ok(self.bucket_mut(now, bucket)?.write_change(now, key, Some(value)))
    }

    pub(super) fn compare_and_set(
        &mut self,
        now: Instant,
        bucket: &Bucket,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
    ) -> Result<Option<u64>, BusError> {
        let bucket = self.bucket_mut(now, bucket)?;
        let current = bucket.values.get(key).map(|value| value.revision);
        Ok((current == expected).then(|| bucket.write_change(now, key, Some(value))))
    }

    pub(super) fn delete(&mut self, now: Instant, bucket: &Bucket, key: &str) -> Result<(), BusError> {
        let bucket = self.bucket_mut(now, bucket)?;
        if bucket.values.contains_key(key) {
            bucket.write_change(now, key, None);
        }
        Ok(())
    }

    pub(super) fn keys(&mut self, now: Instant, bucket: &Bucket) -> Result<Vec<String>, BusError> {
        Ok(self.bucket_mut(now, bucket)?.values.keys().cloned().collect())
    }

    pub(super) fn watch(
        &mut self,
        now: Instant,
        bucket: &Bucket,
        filter: &str,
    ) -> Result<UnboundedReceiver<BucketEntry>, BusError> {
        let bucket = self.bucket_mut(now, bucket)?;
        let (sender, receiver) = unbounded_channel();
        for (key, value) in bucket.values.iter().filter(|(key, _)| subject_matches(filter, key)) {
            sender.send(value.to_entry(now, key)).expect("the receiver is alive");
        }
        bucket.watchers.push((filter.to_owned(), sender));
        Ok(receiver)
    }
}

impl BucketValue {
    fn to_entry(&self, now: Instant, key: &str) -> BucketEntry {
        BucketEntry {
            key: key.to_owned(),
            value: Some(self.value.clone()),
            revision: self.revision,
            age: now.duration_since(self.written_at),
        }
    }
}

impl MemoryBucket {
    /// Writes a value or, with `None`, removes it, and notifies watchers. Returns the revision of
    /// the change.
    fn write_change(&mut self, now: Instant, key: &str, value: Option<Bytes>) -> u64 {
        self.revision += 1;
        let revision = self.revision;
        let replaced = match value.clone() {
            Some(value) => {
                self.values.insert(key.to_owned(), BucketValue { value, revision, written_at: now })
            }
            None => self.values.remove(key),
        };
        if let Some(replaced) = replaced {
            self.keys_by_revision.remove(&replaced.revision);
        }
        if value.is_some() {
            self.keys_by_revision.insert(revision, key.to_owned());
        }
        self.watchers.retain(|(filter, sender)| {
            let entry =
                || BucketEntry { key: key.to_owned(), value: value.clone(), revision, age: Duration::ZERO };
            !sender.is_closed() && (!subject_matches(filter, key) || sender.send(entry()).is_ok())
        });
        revision
    }

    fn drop_expired(&mut self, now: Instant) {
        let Some(max_age) = self.max_age else { return };
        while let Some(oldest) = self.keys_by_revision.first_entry()
            && now.duration_since(self.values[oldest.get()].written_at) >= max_age
        {
            self.values.remove(&oldest.remove());
        }
    }
}
