//! The shards that a worker has in hand: how many it may take, their leases, and the jobs of theirs that have ended.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use forge_bus::Settle;
use forge_contract::ids::JobId;
use forge_service::executor::StopFlag;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room for shards, in parts: a shard that takes long takes many.
const ROOM: u32 = 1024;
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

/// Room for the shards of one queue.
#[derive(Debug, Clone)]
pub struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM as usize)))
    }
}

#[derive(Debug, Default)]
struct State {
    /// Mean time of a shard, in seconds.
    mean: Option<f64>,
    next: u64,
    leases: HashMap<u64, Arc<dyn Settle>>,
    /// Jobs of shards in hand: how many there are, and what stops them.
    jobs: HashMap<JobId, (usize, StopFlag)>,
}

/// A shard's place on the shelf. Dropping it makes room.
#[derive(Debug)]
pub struct Place {
    shelf: Arc<Shelf>,
    number: u64,
    job: JobId,
    /// Tells whether the job has ended.
    pub stop: StopFlag,
    _room: OwnedSemaphorePermit,
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
    fn weight(&self) -> u32 {
        let mean = self.lock().mean;
        let each = mean.map_or(LEAST, |mean| (AHEAD.as_secs_f64() / mean.max(1e-6)).min(512.0) as u32);
        (ROOM / (each.max(LEAST) * self.slots)).clamp(1, ROOM / (LEAST * self.slots).min(ROOM))
    }

    /// Waits until there is room for a shard, and answers the room for as many as there is.
    pub async fn wait_for(&self, room: &Room) -> Vec<OwnedSemaphorePermit> {
        let weight = self.weight();
        let first = Arc::clone(&room.0).acquire_many_owned(weight).await;
        let mut found: Vec<_> = first.into_iter().collect();
        while let Ok(more) = Arc::clone(&room.0).try_acquire_many_owned(weight) {
            found.push(more);
        }
        found
    }

    /// Puts a shard on the shelf.
    pub fn put(self: &Arc<Self>, job: JobId, lease: Arc<dyn Settle>, room: OwnedSemaphorePermit) -> Place {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.leases.insert(number, lease);
        let (count, stop) = state.jobs.entry(job.clone()).or_default();
        *count += 1;
        let stop = stop.clone();
        drop(state);
        Place { shelf: Arc::clone(self), number, job, stop, _room: room }
    }

    /// A shard has taken so long.
    pub fn took(&self, wall: Duration) {
        let mut state = self.lock();
        let seconds = wall.as_secs_f64();
        state.mean = Some(state.mean.map_or(seconds, |mean| mean + (seconds - mean) / 8.0));
    }

    /// The leases of all shards in hand.
    pub fn leases(&self) -> Vec<Arc<dyn Settle>> {
        self.lock().leases.values().cloned().collect()
    }

    /// A job has ended: its shards are stopped.
    pub fn ended(&self, job: &JobId) {
        if let Some((_, stop)) = self.lock().jobs.get(job) {
            stop.stop();
        }
    }

    /// Stops everything.
    pub fn stop_all(&self) {
        self.lock().jobs.values().for_each(|(_, stop)| stop.stop());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.shelf.lock();
        state.leases.remove(&self.number);
        if let Some((count, _)) = state.jobs.get_mut(&self.job) {
            *count -= 1;
            if *count == 0 {
                state.jobs.remove(&self.job);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn short_shards_are_taken_in_numbers_and_long_ones_are_not() {
        let (shelf, room) = (Shelf::new(2), Room::default());
        assert_eq!(shelf.wait_for(&room).await.len(), 4);
        shelf.took(Duration::from_micros(500));
        assert!(shelf.wait_for(&room).await.len() > 100);
        (0..64).for_each(|_| shelf.took(Duration::from_secs(2)));
        assert_eq!(shelf.wait_for(&room).await.len(), 4);
    }
}
