//! The values that keys of buckets had, from which stale reads are answered.

use std::{collections::BTreeMap, time::Duration};

use forge_bus::{BucketEntry, topology::Bucket};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Upper bound of the age of a stale read; services expect less than the grace period of records.
pub const MAX_STALENESS: Duration = Duration::from_secs(5);

/// Values of one key, each with the time since when it had that value.
type KeyHistory = Vec<(Instant, Option<BucketEntry>)>;

/// The values that bucket entries had, by bucket and key, for stale reads.
#[derive(Default)]
pub struct EntryHistory(Mutex<BTreeMap<(String, String), KeyHistory>>);

impl EntryHistory {
    /// Records the value of a key as of now.
    pub fn record(&self, bucket: &Bucket, key: &str, entry: Option<BucketEntry>) {
        let mut history = self.0.lock();
        let values = history.entry((bucket.name().to_owned(), key.to_owned())).or_default();
        let now = Instant::now();
        values.retain(|(at, _)| now.duration_since(*at) <= 2 * MAX_STALENESS);
        // The first value is the one that the key has had for long.
        let since = if values.is_empty() { now.checked_sub(MAX_STALENESS) } else { Some(now) };
        values.push((since.unwrap_or(now), entry));
    }

    /// The value that a key had `age` ago; `None` if it is not recorded.
    pub fn read(&self, bucket: &Bucket, key: &str, age: Duration) -> Option<Option<BucketEntry>> {
        let at = Instant::now().checked_sub(age)?;
        let history = self.0.lock();
        let values = history.get(&(bucket.name().to_owned(), key.to_owned()))?;
        values.iter().rev().find(|(recorded, _)| *recorded <= at).map(|(_, entry)| entry.clone())
    }
}
