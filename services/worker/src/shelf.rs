//! The shards that a worker has in hand: how much room one takes, and what stops those of a job that has ended.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use forge_contract::ids::JobId;
use forge_service::executor::StopFlag;

/// Room for shards, in parts: a shard that takes long takes many.
pub const ROOM: u32 = 1024;
/// A worker takes shards in advance for about this long.
const AHEAD: Duration = Duration::from_millis(40);
/// Shards in hand for each that is executed, at least: one more, so that no slot waits for the bus.
const LEAST: u32 = 2;

/// What a worker has in hand.
#[derive(Debug)]
pub struct Shelf {
    slots: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Mean time of a shard, in seconds.
    mean: Option<f64>,
    /// Jobs of shards in hand: how many there are, and what stops them.
    jobs: HashMap<JobId, (usize, StopFlag)>,
}

/// A shard in hand, until this is dropped.
#[derive(Debug)]
pub struct Place {
    shelf: Arc<Shelf>,
    job: JobId,
    /// Tells whether the job has ended.
    pub stop: StopFlag,
}

impl Shelf {
    /// Of a worker that executes `slots` shards at once.
    pub fn new(slots: u32) -> Self {
        Self { slots: slots.max(1), state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Parts of the room that a shard takes, by how long shards have taken of late.
    pub fn weight(&self) -> u32 {
        let mean = self.lock().mean;
        let each = mean.map_or(LEAST, |mean| (AHEAD.as_secs_f64() / mean.max(1e-6)).min(512.0) as u32);
        (ROOM / (each.max(LEAST) * self.slots)).clamp(1, ROOM / (LEAST * self.slots).min(ROOM))
    }

    /// Puts a shard on the shelf.
    pub fn put(self: &Arc<Self>, job: JobId) -> Place {
        let mut state = self.lock();
        let (count, stop) = state.jobs.entry(job.clone()).or_default();
        *count += 1;
        let stop = stop.clone();
        drop(state);
        Place { shelf: Arc::clone(self), job, stop }
    }

    /// A shard has taken so long.
    pub fn took(&self, wall: Duration) {
        let mut state = self.lock();
        let seconds = wall.as_secs_f64();
        state.mean = Some(state.mean.map_or(seconds, |mean| mean + (seconds - mean) / 8.0));
    }

    /// A job has ended: its shards are stopped.
    pub fn ended(&self, job: &JobId) {
        if let Some((_, stop)) = self.lock().jobs.get(job) {
            stop.stop();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // One that is given back in the middle is not executed to its end.
        let mut state = self.shelf.lock();
        if let Some((count, _)) = state.jobs.get_mut(&self.job) {
            *count -= 1;
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
    fn short_shards_are_taken_in_numbers_and_long_ones_are_not() {
        let shelf = Shelf::new(2);
        assert_eq!(ROOM / shelf.weight(), 4);
        shelf.took(Duration::from_micros(500));
        assert!(ROOM / shelf.weight() > 100);
        (0..64).for_each(|_| shelf.took(Duration::from_secs(2)));
        assert_eq!(ROOM / shelf.weight(), 4);
    }

    #[test]
    fn shards_of_a_job_are_stopped_together_and_when_nobody_holds_them() {
        let (shelf, job): (_, JobId) = (Arc::new(Shelf::new(1)), "j".parse().unwrap());
        let (one, other) = (shelf.put(job.clone()), shelf.put(job.clone()));
        let (stop, another) = (one.stop.clone(), shelf.put("k".parse().unwrap()));
        drop(one);
        assert!(!stop.is_stopped());
        drop(other);
        assert!(stop.is_stopped() && !another.stop.is_stopped());
        let again = shelf.put(job.clone());
        assert!(!again.stop.is_stopped());
        shelf.ended(&job);
        assert!(again.stop.is_stopped());
    }
}
