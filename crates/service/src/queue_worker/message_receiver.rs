//! Receives the messages of a queue, as many as the concurrency permits. Every message that has
//! arrived in this process is held, so that its lease is renewed while it waits for a permit.

use std::{collections::VecDeque, pin::pin, time::Duration};

use forge_bus::{BusError, Delivery, QueueReceiver, SharedBus, topology::Queue};
use futures_util::future::join_all;
use tokio::{sync::OwnedSemaphorePermit, time::sleep};

use super::{
    concurrency::Concurrency,
    lease_keeper::{LeaseGuard, LeaseKeeper},
    receive_backoff::ReceiveBackoff,
};

/// Checks for messages that have arrived meanwhile, within the time of a lease.
const CHECKS_PER_LEASE: u32 = 6;

/// A delivery whose lease is being renewed.
#[derive(Debug)]
pub(super) struct HeldDelivery {
    pub delivery: Delivery,
    pub guard: LeaseGuard,
}

/// The receiving end of a queue.
pub(super) struct MessageReceiver<'a> {
    bus: SharedBus,
    queue: Queue,
    concurrency: Concurrency,
    keeper: &'a LeaseKeeper,
    lease: Duration,
    /// `None` until the queue has been opened, and after an error.
    pull: Option<Box<dyn QueueReceiver>>,
    /// In order of arrival.
    waiting: VecDeque<HeldDelivery>,
    backoff: ReceiveBackoff,
}

impl<'a> MessageReceiver<'a> {
    pub(super) fn new(
        bus: SharedBus,
        queue: Queue,
        concurrency: Concurrency,
        keeper: &'a LeaseKeeper,
        lease: Duration,
    ) -> Self {
        let (pull, waiting, backoff) = (None, VecDeque::new(), ReceiveBackoff::new(queue));
        Self { bus, queue, concurrency, keeper, lease, pull, waiting, backoff }
    }

    /// Waits for the next message and for its permit, through errors of any duration. The future
    /// may be dropped: no message is lost.
    pub(super) async fn next(&mut self) -> (HeldDelivery, OwnedSemaphorePermit) {
        loop {
            let permit = self.acquire_permit().await;
            if let Some(held) = self.waiting.pop_front() {
                return (held, permit);
            }
            match self.fetch().await {
                Ok(deliveries) => {
                    self.backoff.reset();
                    self.hold(deliveries);
                    // A queue that is never empty must not keep other tasks from running.
                    tokio::task::yield_now().await;
                    if let Some(held) = self.waiting.pop_front() {
                        return (held, permit);
                    }
                }
                Err(error) => {
                    self.pull = None;
                    drop(permit);
                    sleep(self.backoff.next_delay(&error)).await;
                }
            }
        }
    }

    /// Returns the messages that wait for a permit to the bus: other processes receive them at
    /// once.
    pub(super) async fn return_messages(mut self) {
        self.hold_arrived();
        self.pull = None;
        join_all(self.waiting.drain(..).map(async |held| {
            held.guard.release().await.retry(Duration::ZERO).await;
        }))
        .await;
    }

    /// Waits for the permit of one message and for the end of a pause. Meanwhile holds the messages
    /// that arrive.
    async fn acquire_permit(&mut self) -> OwnedSemaphorePermit {
        let concurrency = self.concurrency.clone();
        let mut permit = pin!(async {
            let permit = concurrency.acquire().await;
            concurrency.wait_while_paused().await;
            permit
        });
        loop {
            tokio::select! {
                biased;
                permit = &mut permit => return permit,
                () = sleep(self.lease / CHECKS_PER_LEASE) => self.hold_arrived(),
            }
        }
    }

    /// Fetches as many messages as there are permits for, opening the queue first if necessary.
    async fn fetch(&mut self) -> Result<Vec<Delivery>, BusError> {
        let pull = match &mut self.pull {
            Some(pull) => pull,
            None => self.pull.insert(self.bus.open_queue(self.queue).await?),
        };
        pull.fetch(1 + self.concurrency.extra_messages()).await
    }

    fn hold(&mut self, deliveries: Vec<Delivery>) {
        for delivery in deliveries {
            let guard = self.keeper.hold(delivery.lease.clone());
            self.waiting.push_back(HeldDelivery { delivery, guard });
        }
    }

    fn hold_arrived(&mut self) {
        let arrived = self.pull.as_mut().map(|pull| pull.take_arrived());
        self.hold(arrived.unwrap_or_default());
    }
}
