//! The shards that a worker holds: how many it may hold, by how long they take, and the flags that
//! stop those of an ended job.

use std::{collections::HashMap, sync::Arc, time::Duration};

use forge_bus::topology::JobLength;
use forge_contract::ids::JobUid;
use forge_service::{executor::StopFlag, moving_average::MovingAverage};
use parking_lot::Mutex;

/// Permits for in-flight shards of one queue. A shard takes more of them the longer shards take.
pub const PERMITS: u32 = 1024;
/// A worker prefetches shards for about this much execution time.
const PREFETCH_TIME: Duration = Duration::from_millis(40);
/// Lower bound of in-flight shards per slot: one is executed while the next one is fetched, so that
/// no slot waits for the bus.
const MIN_SHARDS_PER_SLOT: u32 = 2;
/// Upper bound of in-flight shards per slot.
const MAX_SHARDS_PER_SLOT: f64 = 512.0;

/// The in-flight shards of a worker.
#[derive(Debug)]
pub struct InFlight {
    slots: u32,
    state: Mutex<InFlightState>,
}

#[derive(Debug, Default)]
struct InFlightState {
    /// How long shards take, for short and for long jobs.
    shard_times: HashMap<JobLength, MovingAverage>,
    /// Number of in-flight shards per job, and the flag that stops them.
    jobs: HashMap<JobUid, (usize, StopFlag)>,
}

/// An in-flight shard, until this guard is dropped.
#[derive(Debug)]
pub struct InFlightGuard {
    in_flight: Arc<InFlight>,
    job: JobUid,
    /// Set when the job has ended.
    pub stop: StopFlag,
}

impl InFlight {
    /// `slots` is the number of shards that the worker executes at once, of short jobs and of long
    /// ones each.
    pub fn new(slots: u32) -> Self {
        Self { slots: slots.max(1), state: Mutex::default() }
    }

    /// Returns how many of the [`PERMITS`] a shard takes, derived from the average execution time
    /// of recent shards of jobs of this length.
    pub fn permits_per_shard(&self, length: JobLength) -> u32 {
        let mean = self.state.lock().shard_times.get(&length).and_then(MovingAverage::mean);
        let prefetched = mean.map_or(MIN_SHARDS_PER_SLOT, |mean| {
            (PREFETCH_TIME.as_secs_f64() / mean.as_secs_f64().max(1e-6)).min(MAX_SHARDS_PER_SLOT) as u32
        });
        let max_permits = PERMITS / (MIN_SHARDS_PER_SLOT * self.slots).min(PERMITS);
        (PERMITS / (prefetched.max(MIN_SHARDS_PER_SLOT) * self.slots)).clamp(1, max_permits)
    }

    /// Adds a shard of a job.
    pub fn add(self: &Arc<Self>, job: JobUid) -> InFlightGuard {
        let mut state = self.state.lock();
        let (count, stop) = state.jobs.entry(job).or_default();
        *count += 1;
        let stop = stop.clone();
        drop(state);
        InFlightGuard { in_flight: Arc::clone(self), job, stop }
    }

    /// Records the execution time of a shard.
    pub fn record_shard_time(&self, length: JobLength, elapsed: Duration) {
        self.state.lock().shard_times.entry(length).or_default().add(elapsed);
    }

    /// Stops the in-flight shards of a job.
    pub fn stop_job(&self, job: JobUid) {
        if let Some((_, stop)) = self.state.lock().jobs.get(&job) {
            stop.stop();
        }
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let mut state = self.in_flight.state.lock();
        if let Some((count, _)) = state.jobs.get_mut(&self.job) {
            *count -= 1;
            // The handler may have been dropped at shutdown while the shard is still being
            // executed.
            if *count == 0
                && let Some((_, stop)) = state.jobs.remove(&self.job)
            {
                stop.stop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_short_shards_are_in_flight_and_few_long_ones() {
        let in_flight = InFlight::new(2);
        let shards = |length| PERMITS / in_flight.permits_per_shard(length);
        assert_eq!(shards(JobLength::Short), 4);
        in_flight.record_shard_time(JobLength::Short, Duration::from_micros(500));
        assert!(shards(JobLength::Short) > 100);
        (0..64).for_each(|_| in_flight.record_shard_time(JobLength::Long, Duration::from_secs(2)));
        assert!(shards(JobLength::Short) > 100, "short and long jobs are measured separately");
        assert_eq!(shards(JobLength::Long), 4);
    }

    #[test]
    fn the_shards_of_a_job_stop_when_it_ends_or_the_last_guard_is_dropped() {
        let (in_flight, job) = (Arc::new(InFlight::new(1)), JobUid([1; 16]));
        let (first, second) = (in_flight.add(job), in_flight.add(job));
        let (stop, other_job) = (first.stop.clone(), in_flight.add(JobUid([2; 16])));
        drop(first);
        assert!(!stop.is_stopped());
        drop(second);
        assert!(stop.is_stopped() && !other_job.stop.is_stopped());
        let redelivered = in_flight.add(job);
        assert!(!redelivered.stop.is_stopped());
        in_flight.stop_job(job);
        assert!(redelivered.stop.is_stopped());
    }
}
