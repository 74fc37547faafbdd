//! Watches how far the deliveries of shards have progressed, so that a shard which a worker keeps
//! is told apart from one that waits in a busy queue. One watch serves all jobs of a planner.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use forge_bus::{
    DeliveryProgress, SharedBus,
    topology::{JobLength, Queue},
};
use forge_contract::envelope::Target;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Interval between two observations of a queue.
const INTERVAL: Duration = Duration::from_secs(1);
/// Observations that are kept until a queue has progressed beyond them, at most.
const MAX_PENDING: usize = 600;

/// The progress of the queues of shards.
#[derive(Debug, Clone)]
pub struct QueueWatch(Arc<Mutex<HashMap<Queue, DeliveryHistory>>>);

/// What was observed of one queue.
#[derive(Debug, Default)]
struct DeliveryHistory {
    /// The last stored message at a time, for messages that are not all delivered.
    pending: VecDeque<(Instant, u64)>,
    /// Every message that was stored before this time has been delivered.
    delivered_before: Option<Instant>,
}

impl DeliveryHistory {
    /// Records an observation that began at `at`.
    fn observe(&mut self, at: Instant, progress: DeliveryProgress) {
        let is_last = |&(_, stored_to): &(Instant, u64)| stored_to == progress.stored_to;
        if self.pending.back().is_some_and(is_last) || self.pending.len() >= MAX_PENDING {
            self.pending.pop_back();
        }
        self.pending.push_back((at, progress.stored_to));
        while let Some((at, _)) =
            self.pending.pop_front_if(|(_, stored_to)| *stored_to <= progress.delivered_to)
        {
            self.delivered_before = Some(at);
        }
    }
}

impl QueueWatch {
    /// Starts to watch, until `stop` is cancelled.
    pub fn start(bus: SharedBus, stop: CancellationToken) -> Self {
        let watch = Self(Arc::default());
        let writer = watch.clone();
        tokio::spawn(async move {
            while stop.run_until_cancelled(sleep(INTERVAL)).await.is_some() {
                for queue in Queue::ALL.into_iter().filter(|queue| matches!(queue, Queue::Shards(..))) {
                    let at = Instant::now();
                    match bus.delivery_progress(queue).await {
                        Ok(progress) => writer.lock().entry(queue).or_default().observe(at, progress),
                        Err(error) => {
                            tracing::debug!(%error, "reading the progress of a queue failed; retrying in {INTERVAL:?}");
                        }
                    }
                }
            }
        });
        watch
    }

    /// The time, counted from `origin`, before which all stored shards for a target, of jobs of
    /// this length, have been delivered.
    pub fn delivered_before(&self, target: Target, length: JobLength, origin: Instant) -> Duration {
        let queue = Queue::Shards(target, length);
        let delivered_before = self.lock().get(&queue).and_then(|history| history.delivered_before);
        delivered_before.map_or(Duration::ZERO, |time| time.saturating_duration_since(origin))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Queue, DeliveryHistory>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn shards_count_as_delivered_once_the_queue_has_progressed_beyond_them() {
        let (mut history, start) = (DeliveryHistory::default(), Instant::now());
        let observations = [
            // Stored, delivered, and the time before which all are delivered.
            (0, 0, Some(0)),
            (10, 4, Some(0)),
            (20, 9, Some(0)),
            (20, 10, Some(1)),
            (20, 20, Some(4)),
            (20, 20, Some(5)),
            (30, 20, Some(5)),
        ];
        for (second, (stored_to, delivered_to, expected)) in (0..).zip(observations) {
            history.observe(start + second * SECOND, DeliveryProgress { stored_to, delivered_to });
            assert_eq!(history.delivered_before, expected.map(|second| start + second * SECOND), "{second}");
        }
        assert_eq!(history.pending.len(), 1);
    }

    #[test]
    fn memory_is_bounded_while_nothing_is_delivered() {
        let (mut history, start) = (DeliveryHistory::default(), Instant::now());
        for stored_to in 1..10 * MAX_PENDING as u64 {
            history.observe(start, DeliveryProgress { stored_to, delivered_to: 0 });
        }
        assert_eq!(history.pending.len(), MAX_PENDING);
        let late = start + SECOND;
        history.observe(late, DeliveryProgress { stored_to: u64::MAX, delivered_to: u64::MAX });
        assert_eq!((history.pending.len(), history.delivered_before), (0, Some(late)));
    }
}
