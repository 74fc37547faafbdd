//! Watches the space for results, so that a job whose results take most of it gets no further
//! shards. One watch serves all jobs of a planner.

use std::time::Duration;

use forge_bus::{SharedBus, topology::Stream};
use forge_service::{result_limit::max_result_bytes, result_space::ResultVolume};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

/// Interval between two readings.
const READ_INTERVAL: Duration = Duration::from_secs(1);

/// The free space for results, as last read.
#[derive(Debug, Clone)]
pub struct SpaceWatch {
    /// `None` before the first reading.
    free_bytes: watch::Receiver<Option<u64>>,
    /// Cancelled after the first reading, and when the planner shuts down. It wakes those who wait
    /// in their order, as a channel of readings does not: a simulation must be repeatable.
    is_read: CancellationToken,
    max_result: u64,
}

impl SpaceWatch {
    /// Starts to watch, until `stop` is cancelled.
    pub fn start(bus: SharedBus, stop: CancellationToken) -> Self {
        let (sender, free_bytes) = watch::channel(None);
        let is_read = CancellationToken::new();
        let first_reading = is_read.clone();
        let max_result = max_result_bytes(bus.max_payload());
        tokio::spawn(async move {
            let read = async {
                loop {
                    match bus.stream_space(Stream::Results).await {
                        Ok(space) => {
                            sender.send_replace(Some(space.free_bytes()));
                            first_reading.cancel();
                        }
                        Err(error) => {
                            tracing::debug!(%error, "reading the space for results failed; retrying in {READ_INTERVAL:?}");
                        }
                    }
                    sleep(READ_INTERVAL).await;
                }
            };
            stop.run_until_cancelled(read).await;
            first_reading.cancel();
        });
        Self { free_bytes, is_read, max_result }
    }

    /// Follows the space for a job with these results. Waits for the first reading: without one, a
    /// planner that has just started would hand out shards of a job that waits for space.
    pub async fn follow(&self, volume: ResultVolume) -> JobSpace {
        self.is_read.cancelled().await;
        let mut watch = self.clone();
        watch.free_bytes.mark_unchanged();
        JobSpace { watch, stored_at_reading: volume.stored() }
    }
}

/// The space for the results of one job.
#[derive(Debug)]
pub struct JobSpace {
    watch: SpaceWatch,
    /// Space of the job's results when the free space was last read.
    stored_at_reading: u64,
}

impl JobSpace {
    /// Upper bound on the shards that the job may have in flight, when it has these results.
    pub fn room(&mut self, volume: ResultVolume) -> usize {
        let SpaceWatch { free_bytes, max_result, .. } = &mut self.watch;
        let reading = free_bytes.borrow_and_update();
        if reading.has_changed() {
            self.stored_at_reading = volume.stored();
        }
        let stored_since = volume.stored().saturating_sub(self.stored_at_reading);
        let free = reading.unwrap_or(0).saturating_sub(stored_since);
        usize::try_from(volume.room(free, *max_result)).unwrap_or(usize::MAX)
    }
}
