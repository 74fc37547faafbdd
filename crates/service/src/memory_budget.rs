//! A budget of memory that the jobs of a process share. It counts estimates, not allocations: its
//! user reserves what a job takes before it takes the job.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

/// Bytes that one permit stands for.
const UNIT_BYTES: u64 = 1024;

/// A number of bytes to reserve from. Clones share them.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    total: u64,
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    /// Until then a job that does not fit is refused at once: one has waited without success.
    closed_until: Arc<Mutex<Option<Instant>>>,
}

/// Reserved memory, which is returned when this is dropped.
#[derive(Debug)]
pub struct MemoryReservation(OwnedSemaphorePermit);

impl MemoryReservation {
    /// Adds another reservation of the same budget to this one.
    ///
    /// # Panics
    /// If it is of another budget.
    pub fn merge(&mut self, other: Self) {
        self.0.merge(other.0);
    }
}

impl MemoryBudget {
    /// A budget of this many bytes; more than 4 TiB are cut to that.
    pub fn new(bytes: u64) -> Self {
        let units = (bytes / UNIT_BYTES).min(u64::from(u32::MAX));
        Self {
            total: units * UNIT_BYTES,
            permits: Arc::new(Semaphore::new(units as usize)),
            waiting: Arc::default(),
            closed_until: Arc::default(),
        }
    }

    /// The size of the budget in bytes.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether a reservation waits for memory.
    pub fn has_waiters(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Reserves memory at once; `None` if too little is free or others wait for it.
    pub fn try_reserve(&self, bytes: u64) -> Option<MemoryReservation> {
        let permit = Arc::clone(&self.permits).try_acquire_many_owned(units(bytes)?);
        permit.ok().map(MemoryReservation)
    }

    /// Reserves memory that its user can do without: only while at least half of the budget stays
    /// free for others.
    pub fn try_reserve_spare(&self, bytes: u64) -> Option<MemoryReservation> {
        let free = self.permits.available_permits() as u64 * UNIT_BYTES;
        let spare = free.saturating_sub(self.total / 2);
        (bytes <= spare).then(|| self.try_reserve(bytes)).flatten()
    }

    /// Reserves memory, and waits for up to `patience` until enough is free. Reservations are
    /// granted in the order of the calls, so that a large one is not overtaken by small ones.
    /// `None` if the patience is over, or the budget is smaller than that.
    ///
    /// A wait keeps small reservations waiting that would fit. So after one in vain, no reservation
    /// waits for as long: those that do not fit at once get `None` at once, and others pass.
    pub async fn reserve(&self, bytes: u64, patience: Duration) -> Option<MemoryReservation> {
        if bytes > self.total {
            return None;
        }
        if self.closed_until.lock().is_some_and(|until| Instant::now() < until) {
            return self.try_reserve(bytes);
        }
        let _waiter = Waiter::count(&self.waiting);
        let permit = Arc::clone(&self.permits).acquire_many_owned(units(bytes)?);
        let Ok(permit) = timeout(patience, permit).await else {
            *self.closed_until.lock() = Some(Instant::now() + patience);
            return None;
        };
        permit.ok().map(MemoryReservation)
    }
}

/// The units that hold this many bytes.
fn units(bytes: u64) -> Option<u32> {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).ok()
}

/// Counts a waiting caller until it is dropped.
struct Waiter<'a>(&'a AtomicUsize);

impl<'a> Waiter<'a> {
    fn count(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;
    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn reservations_wait_in_order_and_are_returned() {
        let budget = MemoryBudget::new(10 * KIB);
        let first = budget.try_reserve(6 * KIB).unwrap();
        let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let wait = |bytes: u64| {
            let (budget, order) = (budget.clone(), Arc::clone(&order));
            tokio::spawn(async move {
                let reservation = budget.reserve(bytes, HOUR).await;
                order.lock().push(bytes / KIB);
                reservation.map(drop)
            })
        };
        let large = wait(9 * KIB);
        tokio::task::yield_now().await;
        assert!(budget.has_waiters());
        // A small one would fit, but must not overtake the large one.
        assert!(budget.try_reserve(KIB).is_none());
        let small = wait(KIB);
        tokio::task::yield_now().await;
        drop(first);
        assert!(large.await.unwrap().is_some() && small.await.unwrap().is_some());
        assert_eq!(*order.lock(), [9, 1]);
        assert!(!budget.has_waiters() && budget.try_reserve(10 * KIB).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_with_patience_and_leaves_nothing_reserved() {
        let budget = MemoryBudget::new(10 * KIB);
        let held = budget.try_reserve(KIB).unwrap();
        assert!(budget.reserve(11 * KIB, HOUR).await.is_none(), "it would never fit");
        assert!(budget.reserve(10 * KIB, HOUR).await.is_none());
        drop(held);
        assert!(!budget.has_waiters() && budget.try_reserve(10 * KIB).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn waits_in_vain_let_small_reservations_pass_half_of_the_time() {
        let budget = MemoryBudget::new(10 * KIB);
        let _held = budget.try_reserve(6 * KIB).unwrap();
        let start = Instant::now();
        for round in 1..4 {
            assert!(budget.reserve(5 * KIB, HOUR).await.is_none());
            assert_eq!(start.elapsed(), (2 * round - 1) * HOUR);
            // However many large ones there are, none of them waits now.
            for _ in 0..3 {
                assert!(budget.reserve(5 * KIB, HOUR).await.is_none());
                assert!(budget.reserve(4 * KIB, HOUR).await.is_some());
                assert!(!budget.has_waiters() && budget.try_reserve(4 * KIB).is_some());
            }
            assert_eq!(start.elapsed(), (2 * round - 1) * HOUR);
            tokio::time::advance(HOUR).await;
        }
    }

    #[test]
    fn spare_memory_leaves_half_of_the_budget() {
        let budget = MemoryBudget::new(10 * KIB);
        let mut spare = budget.try_reserve_spare(3 * KIB).unwrap();
        spare.merge(budget.try_reserve_spare(1).unwrap());
        assert!(budget.try_reserve_spare(KIB + 1).is_none());
        assert!(budget.try_reserve(6 * KIB).is_some());
        drop(spare);
        assert!(budget.try_reserve_spare(5 * KIB).is_some());
    }

    #[test]
    fn an_unlimited_budget_is_one_of_terabytes() {
        let budget = MemoryBudget::new(u64::MAX);
        assert_eq!(budget.total(), u64::from(u32::MAX) * KIB);
        assert!(budget.try_reserve(budget.total()).is_some());
        assert!(budget.try_reserve(u64::MAX).is_none());
    }
}
