//! Renews the leases of the messages of one queue that this process holds, whether or not they are
//! being handled. It is a task of its own, so a handler that blocks its thread delays no renewal.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use forge_bus::DeliveryLease;
use parking_lot::Mutex;
use tokio::{
    sync::Mutex as AsyncMutex,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};

/// Renewals within the time of a lease.
const RENEWALS_PER_LEASE: u32 = 3;
/// Checks for due renewals within the time of a lease.
const CHECKS_PER_LEASE: u32 = 12;

/// The held leases of a queue. Dropping it ends the renewals.
pub(super) struct LeaseKeeper {
    held: Arc<Mutex<HeldLeases>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct HeldLeases {
    next_number: u64,
    leases: BTreeMap<u64, HeldLease>,
}

struct HeldLease {
    gate: Arc<LeaseGate>,
    renewed_at: Instant,
}

/// Keeps a renewal from following a settlement: the server would take it for a new lease.
struct LeaseGate {
    lease: Arc<dyn DeliveryLease>,
    is_released: AsyncMutex<bool>,
}

/// A lease that is renewed until this guard is released or dropped.
pub(super) struct LeaseGuard {
    held: Arc<Mutex<HeldLeases>>,
    number: u64,
    gate: Arc<LeaseGate>,
}

impl LeaseKeeper {
    /// Starts the renewals of leases of this length.
    pub(super) fn start(lease: Duration) -> Self {
        let held = Arc::new(Mutex::new(HeldLeases::default()));
        let task = tokio::spawn(renew_leases(Arc::clone(&held), lease));
        Self { held, task }
    }

    /// Renews a lease from now on.
    pub(super) fn hold(&self, lease: Arc<dyn DeliveryLease>) -> LeaseGuard {
        let gate = Arc::new(LeaseGate { lease, is_released: AsyncMutex::new(false) });
        let mut held = self.held.lock();
        let number = held.next_number;
        held.next_number += 1;
        held.leases.insert(number, HeldLease { gate: Arc::clone(&gate), renewed_at: Instant::now() });
        LeaseGuard { held: Arc::clone(&self.held), number, gate }
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for LeaseGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseGuard({:?})", self.gate.lease)
    }
}

impl LeaseGuard {
    /// Ends the renewals and returns the lease for its settlement. No renewal follows.
    pub(super) async fn release(self) -> Arc<dyn DeliveryLease> {
        *self.gate.is_released.lock().await = true;
        Arc::clone(&self.gate.lease)
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        self.held.lock().leases.remove(&self.number);
    }
}

impl HeldLeases {
    /// Returns the leases whose last renewal is at least `age` ago, and counts them as renewed.
    fn take_due(&mut self, now: Instant, age: Duration) -> Vec<Arc<LeaseGate>> {
        let due = self.leases.values_mut().filter(|held| now.duration_since(held.renewed_at) >= age);
        due.map(|held| {
            held.renewed_at = now;
            Arc::clone(&held.gate)
        })
        .collect()
    }
}

/// Renews leases without end.
async fn renew_leases(held: Arc<Mutex<HeldLeases>>, lease: Duration) {
    let mut checks = interval((lease / CHECKS_PER_LEASE).max(Duration::from_millis(1)));
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        checks.tick().await;
        let due = held.lock().take_due(Instant::now(), lease / RENEWALS_PER_LEASE);
        for gate in due {
            let is_released = gate.is_released.lock().await;
            if !*is_released {
                gate.lease.renew().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::{Sender, channel},
    };

    use async_trait::async_trait;
    use tokio::time::sleep;

    use super::*;

    /// Counts the renewals.
    #[derive(Debug, Default)]
    struct CountingLease(AtomicUsize);

    #[async_trait]
    impl DeliveryLease for CountingLease {
        async fn ack(&self) {}

        async fn retry(&self, _: Duration) {}

        async fn renew(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn leases_are_renewed_three_times_per_lease_until_they_are_released() {
        let lease = Duration::from_secs(12);
        let keeper = LeaseKeeper::start(lease);
        let [kept, released, dropped] = [(); 3].map(|()| Arc::new(CountingLease::default()));
        let _kept = keeper.hold(kept.clone());
        let to_release = keeper.hold(released.clone());
        let to_drop = keeper.hold(dropped.clone());
        sleep(lease).await;
        to_release.release().await;
        drop(to_drop);
        sleep(10 * lease).await;
        let counts = [&kept, &released, &dropped].map(|lease| lease.0.load(Ordering::SeqCst));
        assert!((30..=33).contains(&counts[0]), "{counts:?}");
        assert!((2..=3).contains(&counts[1]) && (2..=3).contains(&counts[2]), "{counts:?}");
        drop(keeper);
        sleep(lease).await;
        assert_eq!(kept.0.load(Ordering::SeqCst), counts[0]);
    }

    /// Sends a message for each renewal.
    #[derive(Debug)]
    struct ReportingLease(Sender<()>);

    #[async_trait]
    impl DeliveryLease for ReportingLease {
        async fn ack(&self) {}

        async fn retry(&self, _: Duration) {}

        async fn renew(&self) {
            let _ = self.0.send(());
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_handler_that_blocks_its_thread_delays_no_renewal() {
        let keeper = LeaseKeeper::start(Duration::from_millis(60));
        let (sender, renewals) = channel();
        let guard = keeper.hold(Arc::new(ReportingLease(sender)));
        let blocking_handler = tokio::spawn(async move {
            (0..3).for_each(|_| renewals.recv().unwrap());
            drop(guard);
        });
        blocking_handler.await.unwrap();
    }
}
