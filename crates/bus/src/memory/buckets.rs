//! Key-value buckets of the in-process bus. Synchronous and without a clock: callers hold the lock
//! and pass the time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Duration, Instant},
};

use super::streams::stored_size;
use crate::{
    bus::BucketEntry,
    error::BusError,
    topology::{Bucket, StreamLimits, subject_matches},
};

/// Length of the message ids by which buckets are written over NATS.
const MESSAGE_ID_LENGTH: usize = 32;

/// All buckets, by name.
#[derive(Debug, Default)]
pub(super) struct MemoryBuckets(HashMap<String, MemoryBucket>);

#[derive(Debug)]
struct MemoryBucket {
    limits: StreamLimits,
    /// Space that the values take in bytes. Removals take none here.
    bytes: u64,
    /// Revision of the latest change.
    revision: u64,
    values: BTreeMap<String, BucketValue>,
    /// Keys by the revision of their value, so oldest first.
    keys_by_revision: BTreeMap<u64, String>,
    /// Keys by the time at which a value of them expires, or would if it had not been replaced.
    expiring: BTreeSet<(Instant, String)>,
    /// Filters and channels of watchers.
    watchers: Vec<(String, UnboundedSender<BucketEntry>)>,
}

#[derive(Debug)]
struct BucketValue {
    value: Bytes,
    revision: u64,
    written_at: Instant,
    expires_at: Option<Instant>,
}

impl MemoryBuckets {
    /// Creates a bucket, unless it exists.
    pub(super) fn create(&mut self, bucket: &Bucket, limits: StreamLimits) {
        self.0.entry(bucket.name().to_owned()).or_insert_with(|| MemoryBucket {
            limits,
            bytes: 0,
            revision: 0,
            values: BTreeMap::new(),
            keys_by_revision: BTreeMap::new(),
            expiring: BTreeSet::new(),
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
        let memory_bucket = self.bucket_mut(now, bucket)?;
        memory_bucket.check_limits(bucket, key, &value)?;
        Ok(memory_bucket.write_change(now, key, Some(value), None))
    }

    /// Returns how much of a bucket's space is in use, in percent.
    pub(super) fn used_percent(&mut self, now: Instant, bucket: &Bucket) -> Result<u64, BusError> {
        let bucket = self.bucket_mut(now, bucket)?;
        Ok(bucket.bytes.saturating_mul(100) / bucket.limits.max_bytes.max(1))
    }

    pub(super) fn compare_and_set(
        &mut self,
        now: Instant,
        bucket: &Bucket,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
        lifetime: Option<Duration>,
    ) -> Result<Option<u64>, BusError> {
        let memory_bucket = self.bucket_mut(now, bucket)?;
        let current = memory_bucket.values.get(key).map(|value| value.revision);
        if current != expected {
            return Ok(None);
        }
        memory_bucket.check_limits(bucket, key, &value)?;
        Ok(Some(memory_bucket.write_change(now, key, Some(value), lifetime)))
    }

    pub(super) fn delete(&mut self, now: Instant, bucket: &Bucket, key: &str) -> Result<(), BusError> {
        let bucket = self.bucket_mut(now, bucket)?;
        if bucket.values.contains_key(key) {
            bucket.write_change(now, key, None, None);
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

/// Size of a message that holds a value, with a message id of the usual length.
fn message_size(value: &Bytes) -> usize {
    "NATS/1.0\r\nNats-Msg-Id: \r\n\r\n".len() + MESSAGE_ID_LENGTH + value.len()
}

impl MemoryBucket {
    /// Checks that a value may be written: in a full bucket only over one that is not smaller.
    fn check_limits(&self, bucket: &Bucket, key: &str, value: &Bytes) -> Result<(), BusError> {
        let (size, limit) = (message_size(value), self.limits.max_message_bytes);
        if size > limit {
            return Err(BusError::TooLarge { size, limit });
        }
        let stored = |value| stored_size(key, message_size(value));
        let replaced = self.values.get(key).map_or(0, |former| stored(&former.value));
        let added = stored(value);
        if added > replaced && self.bytes + added >= self.limits.max_bytes {
            return Err(BusError::Full(format!("the bucket {}: maximum bytes exceeded", bucket.name())));
        }
        let is_new = !self.values.contains_key(key);
        if is_new && self.limits.max_messages.is_some_and(|limit| self.values.len() as u64 >= limit) {
            return Err(BusError::Full(format!("the bucket {}: maximum messages exceeded", bucket.name())));
        }
        Ok(())
    }

    /// Writes a value, which expires after `lifetime` if that is given, or with `None` removes it,
    /// and notifies watchers. Returns the revision of
    /// the change.
    fn write_change(
        &mut self,
        now: Instant,
        key: &str,
        value: Option<Bytes>,
        lifetime: Option<Duration>,
    ) -> u64 {
        self.revision += 1;
        let revision = self.revision;
        let replaced = match value.clone() {
            Some(value) => {
                let expires_at = lifetime.and_then(|lifetime| now.checked_add(lifetime));
                self.expiring.extend(expires_at.map(|at| (at, key.to_owned())));
                self.values
                    .insert(key.to_owned(), BucketValue { value, revision, written_at: now, expires_at })
            }
            None => self.values.remove(key),
        };
        if let Some(replaced) = replaced {
            self.bytes -= stored_size(key, message_size(&replaced.value));
            self.keys_by_revision.remove(&replaced.revision);
        }
        if let Some(value) = &value {
            self.bytes += stored_size(key, message_size(value));
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
        let is_expired = |value: &BucketValue| value.expires_at.is_some_and(|expires_at| expires_at <= now);
        while let Some(key) = self.expiring.first().filter(|(at, _)| *at <= now).map(|(_, key)| key.clone()) {
            self.expiring.pop_first();
            if self.values.get(&key).is_some_and(is_expired)
                && let Some(expired) = self.values.remove(&key)
            {
                self.bytes -= stored_size(&key, message_size(&expired.value));
                self.keys_by_revision.remove(&expired.revision);
            }
        }
        let Some(max_age) = self.limits.max_age else { return };
        while let Some(oldest) = self.keys_by_revision.first_entry()
            && now.duration_since(self.values[oldest.get()].written_at) >= max_age
        {
            let key = oldest.remove();
            if let Some(expired) = self.values.remove(&key) {
                self.bytes -= stored_size(&key, message_size(&expired.value));
            }
        }
    }
}
