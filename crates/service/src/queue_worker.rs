//! The message loop of every service: receive a message, pass it to the service's handler, settle
//! it as the handler decides. This module owns leases, concurrency, traces, retries after a panic
//! and graceful shutdown. It never interprets a message.

mod concurrency;
mod receive_backoff;

use std::{convert::Infallible, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use forge_bus::{BusError, Delivery, DeliveryLease, QueueReceiver, SharedBus, topology::Queue};
use futures_util::FutureExt;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, Span, field};

pub use self::concurrency::Concurrency;
use self::receive_backoff::ReceiveBackoff;
use crate::{metrics::Metrics, panic_message::panic_message, telemetry::trace};

/// Time that in-flight messages get to complete once the service is asked to stop. Less than the 30
/// seconds that Kubernetes waits by default.
pub const SHUTDOWN_GRACE_PERIOD: Duration = Duration::from_secs(20);
/// Delay before a message is redelivered after its handler panicked.
const PANIC_RETRY_DELAY: Duration = Duration::from_secs(1);
/// Time limit for returning a message to the bus at shutdown.
const RETURN_TIMEOUT: Duration = Duration::from_secs(1);

/// Handles the messages of a queue. The bus delivers at least once, and may deliver a message to
/// another process while this one still handles it, so a handler has to be idempotent.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Handles a message and decides how it is settled; must not settle it itself. The lease is
    /// renewed while the handler runs, provided that it does not block its thread, so it may take
    /// any time. At shutdown it may be dropped at any await point.
    async fn handle(&self, delivery: Delivery) -> Settlement;
}

/// How a message is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Removes the message: all its effects are durable.
    Ack,
    /// Redelivers the message after this delay.
    Retry(Duration),
    /// Leaves the message unsettled: it is redelivered when its lease expires.
    Leave,
}

impl Settlement {
    fn label(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Retry(_) => "retry",
            Self::Leave => "unsettled",
        }
    }
}

/// What [`serve_queue`] serves, and how.
#[derive(Debug, Clone)]
pub struct QueueSettings {
    /// The queue whose messages are handled.
    pub queue: Queue,
    /// Bounds the in-flight messages.
    pub concurrency: Concurrency,
    /// The lease that the bus grants on a message; it is renewed three times per lease.
    pub lease: Duration,
}

/// Serves a queue until `stop` is cancelled. Each message is handled in a task and a span of its
/// own. The loop survives bus errors, and a queue that does not exist yet, by retrying with
/// backoff.
///
/// After `stop` no more messages are received. In-flight messages get [`SHUTDOWN_GRACE_PERIOD`] to
/// complete; handlers that hold the same token can hurry. A handler that is still running
/// afterwards is dropped, and its message returned to the bus.
pub async fn serve_queue<H>(
    bus: SharedBus,
    settings: QueueSettings,
    metrics: Metrics,
    stop: CancellationToken,
    handler: Arc<H>,
) where
    H: Handler + 'static,
{
    let QueueSettings { queue, concurrency, lease } = settings;
    let abandon = CancellationToken::new();
    let worker = Arc::new(QueueWorker { queue, lease, metrics, handler, abandon: abandon.clone() });
    let tasks = TaskTracker::new();

    stop.run_until_cancelled(receive(&bus, &worker, &tasks, &concurrency)).await;

    tasks.close();
    if !tasks.is_empty() {
        tracing::info!(
            queue = queue.label(),
            messages = tasks.len(),
            "waiting for in-flight messages to complete"
        );
    }
    if timeout(SHUTDOWN_GRACE_PERIOD, tasks.wait()).await.is_err() {
        tracing::warn!(
            queue = queue.label(),
            messages = tasks.len(),
            "the shutdown grace period is over; returning in-flight messages to the bus"
        );
        abandon.cancel();
        tasks.wait().await;
    }
}

/// Receives messages without end. Dropping this future loses no message: each is owned by a task or
/// still on the bus.
async fn receive<H: Handler + 'static>(
    bus: &SharedBus,
    worker: &Arc<QueueWorker<H>>,
    tasks: &TaskTracker,
    concurrency: &Concurrency,
) {
    let mut pull = None;
    let mut backoff = ReceiveBackoff::new(worker.queue);
    loop {
        let permit = concurrency.acquire().await;
        concurrency.wait_while_paused().await;
        match fetch(bus, worker.queue, &mut pull, 1 + concurrency.extra_messages()).await {
            Ok(deliveries) => {
                backoff.reset();
                let mut first_permit = Some(permit);
                for delivery in deliveries {
                    let permit = match first_permit.take() {
                        Some(permit) => permit,
                        None => concurrency.acquire().await,
                    };
                    let span = message_span(worker.queue, &delivery);
                    tasks.spawn(Arc::clone(worker).process(delivery, permit).instrument(span));
                }
                tokio::task::yield_now().await;
            }
            Err(error) => {
                pull = None;
                drop(permit);
                sleep(backoff.next_delay(&error)).await;
            }
        }
    }
}

/// Fetches up to `max` messages, subscribing to the queue first if `pull` is empty.
async fn fetch(
    bus: &SharedBus,
    queue: Queue,
    pull: &mut Option<Box<dyn QueueReceiver>>,
    max: usize,
) -> Result<Vec<Delivery>, BusError> {
    let pull = match pull {
        Some(pull) => pull,
        None => pull.insert(bus.open_queue(queue).await?),
    };
    pull.fetch(max).await
}

/// Makes the span in which a message is handled, a child of the span that published it.
fn message_span(queue: Queue, delivery: &Delivery) -> Span {
    let queue = queue.label();
    let span = trace::span_with_parent(&delivery.message.headers, || {
        tracing::info_span!(
            parent: None,
            "message",
            otel.kind = "consumer",
            queue,
            subject = delivery.message.subject,
            sequence = delivery.sequence,
            attempt = delivery.attempt,
            trace_id = field::Empty,
        )
    });
    if let Some(trace_id) = trace::start_span(&span, format!("process {queue}")) {
        span.record("trace_id", trace_id);
    }
    span
}

/// Handles and settles the messages of one queue.
struct QueueWorker<H> {
    queue: Queue,
    lease: Duration,
    metrics: Metrics,
    handler: Arc<H>,
    /// Cancelled when the shutdown grace period is over.
    abandon: CancellationToken,
}

impl<H: Handler> QueueWorker<H> {
    async fn process(self: Arc<Self>, delivery: Delivery, permit: OwnedSemaphorePermit) {
        let started = Instant::now();
        let settle = Arc::clone(&delivery.lease);
        let settlement = tokio::select! {
            biased;
            settlement = self.handle_and_settle(delivery, &settle) => settlement,
            () = self.abandon.cancelled() => {
                // Other processes can receive the message at once; if this fails, when its lease
                // expires.
                let _ = timeout(RETURN_TIMEOUT, settle.retry(Duration::ZERO)).await;
                Settlement::Leave
            }
        };
        drop(permit);
        let elapsed = started.elapsed();
        self.metrics.record_message(self.queue, settlement.label(), elapsed);
        tracing::debug!(settlement = settlement.label(), ms = elapsed.as_millis() as u64, "message handled");
    }

    async fn handle_and_settle(&self, delivery: Delivery, settle: &Arc<dyn DeliveryLease>) -> Settlement {
        let settlement = tokio::select! {
            biased;
            settlement = self.handle(delivery) => settlement,
            never = self.renew_lease(settle) => match never {},
        };
        match settlement {
            Settlement::Ack => settle.ack().await,
            Settlement::Retry(delay) => settle.retry(delay).await,
            Settlement::Leave => {}
        }
        settlement
    }

    async fn handle(&self, delivery: Delivery) -> Settlement {
        let handled = AssertUnwindSafe(async { self.handler.handle(delivery).await }).catch_unwind().await;
        handled.unwrap_or_else(|panic| {
            tracing::error!(
                panic = panic_message(&*panic),
                "the handler panicked; retrying the message in {PANIC_RETRY_DELAY:?}"
            );
            Settlement::Retry(PANIC_RETRY_DELAY)
        })
    }

    /// Renews a message's lease without end.
    async fn renew_lease(&self, settle: &Arc<dyn DeliveryLease>) -> Infallible {
        let period = (self.lease / 3).max(Duration::from_millis(1));
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            settle.renew().await;
        }
    }
}

#[cfg(test)]
mod tests;
