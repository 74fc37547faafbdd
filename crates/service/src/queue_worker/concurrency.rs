//! The bound on a queue's in-flight messages.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

/// Bounds in-flight messages by a number of permits, of which every message holds one or more.
/// Clones share the permits.
#[derive(Clone)]
pub struct Concurrency {
    permits: Arc<Semaphore>,
    /// Permits that the next message takes.
    weight: Arc<dyn Fn() -> u32 + Send + Sync>,
    /// Remaining time of a pause in which no messages are received.
    pause: Arc<dyn Fn() -> Option<Duration> + Send + Sync>,
}

impl fmt::Debug for Concurrency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Concurrency({} permits available)", self.permits.available_permits())
    }
}

impl Concurrency {
    /// Allows this many in-flight messages, at least one.
    pub fn new(messages: usize) -> Self {
        Self::weighted(u32::try_from(messages).unwrap_or(u32::MAX), || 1)
    }

    /// Allows messages that together hold at most `permits`. `weight` is called for every message
    /// and returns the permits that it takes; it is clamped to `1..=permits`.
    pub fn weighted(permits: u32, weight: impl Fn() -> u32 + Send + Sync + 'static) -> Self {
        let permits = permits.max(1);
        let weight = move || weight().clamp(1, permits);
        Self {
            permits: Arc::new(Semaphore::new(permits as usize)),
            weight: Arc::new(weight),
            pause: Arc::new(|| None),
        }
    }

    /// Receives no messages for as long as `pause` returns a duration. It is called before every
    /// fetch.
    #[must_use]
    pub fn with_pause(self, pause: impl Fn() -> Option<Duration> + Send + Sync + 'static) -> Self {
        Self { pause: Arc::new(pause), ..self }
    }

    pub(super) async fn wait_while_paused(&self) {
        while let Some(pause) = (self.pause)() {
            sleep(pause).await;
        }
    }

    /// Waits for the permits of one message.
    pub(super) async fn acquire(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.permits).acquire_many_owned((self.weight)()).await;
        permit.expect("the semaphore is never closed")
    }

    /// Returns for how many messages the available permits suffice.
    pub(super) fn extra_messages(&self) -> usize {
        self.permits.available_permits() / (self.weight)() as usize
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::FutureExt;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        /// Messages of any weight begin and end in any order.
        #[test]
        fn messages_hold_no_more_than_the_permits_and_wait_only_for_those_in_use(
            permits in 0u32..12,
            steps in vec((any::<bool>(), 0u32..16), 0..100),
        ) {
            let weight = Arc::new(AtomicU32::new(1));
            let of_message = Arc::clone(&weight);
            let concurrency = Concurrency::weighted(permits, move || of_message.load(Ordering::Relaxed));
            let permits = permits.max(1);
            let mut held: Vec<OwnedSemaphorePermit> = Vec::new();
            for (ends, number) in steps {
                if ends {
                    let count = held.len();
                    (count > 0).then(|| held.swap_remove(number as usize % count));
                    continue;
                }
                weight.store(number, Ordering::Relaxed);
                let in_use = held.iter().map(OwnedSemaphorePermit::num_permits).sum::<usize>();
                let (available, needed) = (permits as usize - in_use, number.clamp(1, permits) as usize);
                prop_assert_eq!(concurrency.extra_messages(), available / needed);
                let acquired = concurrency.acquire().now_or_never();
                prop_assert_eq!(acquired.as_ref().map(OwnedSemaphorePermit::num_permits),
                    (needed <= available).then_some(needed));
                held.extend(acquired);
            }
        }
    }
}
