//! How full the buckets of job records and the streams are. New records are refused before a bucket
//! is full, because the records of running jobs grow when these end. A full stream is logged.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use forge_bus::{
    BusError, SharedBus,
    topology::{Bucket, Stream},
};
use forge_service::Metrics;
use parking_lot::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Share of a bucket's space, in percent, at which it gets no new records. The rest is for the
/// records of jobs that run.
const MAX_USED_PERCENT: u64 = 90;
/// Interval between two readings.
const READ_INTERVAL: Duration = Duration::from_secs(5);

/// The space of the buckets of job records, as last read.
#[derive(Debug, Default)]
pub struct RecordSpace {
    /// Used percent by name of the bucket.
    used: Mutex<HashMap<String, u64>>,
}

impl RecordSpace {
    /// Reads the space of `buckets` and of all streams at intervals, until `stop` is cancelled.
    pub async fn follow(
        &self,
        bus: &SharedBus,
        buckets: &[Bucket],
        metrics: &Metrics,
        stop: &CancellationToken,
    ) {
        let mut full_streams = FullStreams::default();
        let read = async {
            loop {
                for bucket in buckets {
                    self.read(bus, bucket, metrics).await;
                }
                for stream in Stream::ALL {
                    full_streams.read(bus, stream, metrics).await;
                }
                sleep(READ_INTERVAL).await;
            }
        };
        stop.run_until_cancelled(read).await;
    }

    async fn read(&self, bus: &SharedBus, bucket: &Bucket, metrics: &Metrics) {
        let used = match bus.used_percent(bucket).await {
            Ok(used) => used,
            Err(error) => {
                tracing::debug!(bucket = bucket.name(), %error, "reading the space of a bucket failed");
                return;
            }
        };
        metrics.set_bucket_used(bucket.name(), used);
        let before = self.used.lock().insert(bucket.name().to_owned(), used);
        let (was_full, is_full) =
            (before.is_some_and(|used| used >= MAX_USED_PERCENT), used >= MAX_USED_PERCENT);
        if is_full && !was_full {
            tracing::error!(
                bucket = bucket.name(),
                used,
                "the bucket of job records is nearly full; admitting no jobs until records expire or are removed"
            );
        }
    }

    /// Checks that a bucket takes new records.
    ///
    /// # Errors
    /// [`BusError::Full`].
    pub fn check(&self, bucket: &Bucket) -> Result<(), BusError> {
        let used = self.used.lock().get(bucket.name()).copied().unwrap_or(0);
        if used < MAX_USED_PERCENT {
            return Ok(());
        }
        Err(BusError::Full(format!(
            "{used}% of the bucket of job records {} is in use, and new jobs are admitted below \
             {MAX_USED_PERCENT}%: records have to expire (FORGE_RECORD_RETENTION_DAYS) or be removed",
            bucket.name()
        )))
    }

    #[cfg(test)]
    pub fn set_used(&self, bucket: &Bucket, percent: u64) {
        self.used.lock().insert(bucket.name().to_owned(), percent);
    }
}

/// The streams that were full when they were last read.
#[derive(Debug, Default)]
struct FullStreams(BTreeSet<Stream>);

impl FullStreams {
    /// Reads the space of a stream, and logs when it becomes full and when it has space again.
    async fn read(&mut self, bus: &SharedBus, stream: Stream, metrics: &Metrics) {
        let name = stream.name();
        let space = match bus.stream_space(stream).await {
            Ok(space) => space,
            Err(error) => {
                tracing::debug!(stream = name, %error, "reading the space of a stream failed");
                return;
            }
        };
        let used = space.used_percent();
        metrics.set_stream_used(stream, used);
        if !space.is_full() {
            if self.0.remove(&stream) {
                tracing::info!(stream = name, used, "the stream has space again");
            }
        } else if self.0.insert(stream) {
            tracing::error!(
                stream = name,
                used,
                "the stream is nearly full and will refuse messages; jobs wait until others have ended or are \
                 cancelled"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use forge_bus::{Message, topology::TopologySettings};

    use super::*;
    use crate::test_fixture::memory_bus;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_that_fills_gets_no_new_records_until_it_has_space() {
        let bus: SharedBus = memory_bus().await;
        let (bucket, metrics) = (Bucket::default_jobs(), Metrics::new("test"));
        let space = RecordSpace::default();
        let max_bytes = bucket.limits(&TopologySettings::default(), 1).max_bytes;
        // All values share their bytes.
        let value = Message::new("", vec![0; 1_000_000]).payload;
        for key in 0..max_bytes * 92 / 100 / 1_000_000 {
            bus.put(&bucket, &format!("k{key}"), value.clone()).await.unwrap();
        }
        space.read(&bus, &bucket, &metrics).await;
        let refused = space.check(&bucket).unwrap_err();
        assert!(matches!(&refused, BusError::Full(reason) if reason.contains("bucket of job records jobs")));
        assert!(metrics.encode().contains("forge_bucket_used_percent{service=\"test\",bucket=\"jobs\"} 9"));
        assert_eq!(space.check(&Bucket::Jobs("night".to_owned())), Ok(()));
        for key in 0..max_bytes / 100 * 5 / 1_000_000 {
            bus.delete(&bucket, &format!("k{key}")).await.unwrap();
        }
        space.read(&bus, &bucket, &metrics).await;
        assert_eq!(space.check(&bucket), Ok(()));
    }
}
