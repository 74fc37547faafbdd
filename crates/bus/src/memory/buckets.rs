//! Key-value buckets of the twin. Synchronous: callers say what time it is, under one lock.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Duration, Instant},
};

use crate::{
    bus::BucketEntry,
    error::BusError,
    topology::{self, Bucket},
};

/// Every bucket, by name.
#[derive(Debug, Default)]
pub(super) struct Buckets(HashMap<String, Values>);

#[derive(Debug)]
struct Values {
    max_age: Option<Duration>,
    revision: u64,
    values: BTreeMap<String, Value>,
    /// The same in the order of their age.
    order: BTreeMap<u64, String>,
    watchers: Vec<(String, UnboundedSender<BucketEntry>)>,
}

#[derive(Debug)]
struct Value {
    value: Bytes,
    revision: u64,
    written: Instant,
}

impl Buckets {
    pub(super) fn create(&mut self, bucket: &Bucket) {
        self.0.entry(bucket.name().to_owned()).or_insert_with(|| Values {
            max_age: bucket.max_age(),
            revision: 0,
            values: BTreeMap::new(),
            order: BTreeMap::new(),
            watchers: Vec::new(),
        });
    }

    fn of(&mut self, now: Instant, bucket: &Bucket) -> Result<&mut Values, BusError> {
        let missing = || BusError::Missing(format!("the bucket {}", bucket.name()));
        let values = self.0.get_mut(bucket.name()).ok_or_else(missing)?;
        values.forget_old(now);
        Ok(values)
    }

    pub(super) fn get(
        &mut self,
        now: Instant,
        bucket: &Bucket,
        key: &str,
    ) -> Result<Option<BucketEntry>, BusError> {
        let values = self.of(now, bucket)?;
        Ok(values.values.get(key).map(|value| value.entry(now, key)))
    }

    pub(super) fn put(
        &mut self,
        now: Instant,
        bucket: &Bucket,
        key: &str,
        value: Bytes,
    ) -> Result<u64, BusError> {
        Ok(self.of(now, bucket)?.write(now, key, Some(value)))
    }

    pub(super) fn compare_and_set(
        &mut self,
        now: Instant,
        bucket: &Bucket,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
    ) -> Result<Option<u64>, BusError> {
        let values = self.of(now, bucket)?;
        let current = values.values.get(key).map(|value| value.revision);
        Ok((current == expected).then(|| values.write(now, key, Some(value))))
    }

    pub(super) fn delete(&mut self, now: Instant, bucket: &Bucket, key: &str) -> Result<(), BusError> {
        let values = self.of(now, bucket)?;
        if values.values.contains_key(key) {
            values.write(now, key, None);
        }
        Ok(())
    }

    pub(super) fn keys(&mut self, now: Instant, bucket: &Bucket) -> Result<Vec<String>, BusError> {
        Ok(self.of(now, bucket)?.values.keys().cloned().collect())
    }

    pub(super) fn watch(
        &mut self,
        now: Instant,
        bucket: &Bucket,
        filter: &str,
    ) -> Result<UnboundedReceiver<BucketEntry>, BusError> {
        let values = self.of(now, bucket)?;
        let (sender, receiver) = unbounded_channel();
        for (key, value) in values.values.iter().filter(|(key, _)| topology::subject_matches(filter, key)) {
            sender.send(value.entry(now, key)).expect("the receiver is here");
        }
        values.watchers.push((filter.to_owned(), sender));
        Ok(receiver)
    }
}

impl Value {
    fn entry(&self, now: Instant, key: &str) -> BucketEntry {
        BucketEntry {
            key: key.to_owned(),
            value: Some(self.value.clone()),
            revision: self.revision,
            age: now.duration_since(self.written),
        }
    }
}

impl Values {
    /// Writes or removes a value, and tells those who watch.
    fn write(&mut self, now: Instant, key: &str, value: Option<Bytes>) -> u64 {
        self.revision += 1;
        let revision = self.revision;
        let old = match value.clone() {
            Some(value) => self.values.insert(key.to_owned(), Value { value, revision, written: now }),
            None => self.values.remove(key),
        };
        if let Some(old) = old {
            self.order.remove(&old.revision);
        }
        if value.is_some() {
            self.order.insert(revision, key.to_owned());
        }
        self.watchers.retain(|(filter, sender)| {
            let entry =
                || BucketEntry { key: key.to_owned(), value: value.clone(), revision, age: Duration::ZERO };
            !sender.is_closed() && (!topology::subject_matches(filter, key) || sender.send(entry()).is_ok())
        });
        revision
    }

    fn forget_old(&mut self, now: Instant) {
        let Some(max_age) = self.max_age else { return };
        while let Some(first) = self.order.first_entry()
            && now.duration_since(self.values[first.get()].written) >= max_age
        {
            self.values.remove(&first.remove());
        }
    }
}
