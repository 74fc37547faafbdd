//! The message loop of every service: receive a message, pass it to the service's handler, settle
//! it as the handler decides. This module owns leases, concurrency, traces, retries after a panic
//! and graceful shutdown. It never interprets a message.

mod concurrency;
mod lease_keeper;
mod message_receiver;
mod receive_backoff;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use forge_bus::{Delivery, SharedBus, topology::Queue};
use futures_util::FutureExt;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, Span, field};

pub use self::concurrency::Concurrency;
use self::{
    lease_keeper::{LeaseGuard, LeaseKeeper},
    message_receiver::{HeldDelivery, MessageReceiver},
};
use crate::{metrics::Metrics, panic_message::panic_message, retry::REDELIVERY_POLICY, telemetry::trace};

/// Time that in-flight messages get to complete once the service is asked to stop. Less than the 30
/// seconds that Kubernetes waits by default.
pub const SHUTDOWN_GRACE_PERIOD: Duration = Duration::from_secs(20);
/// Time limit for returning a message to the bus at shutdown.
const RETURN_TIMEOUT: Duration = Duration::from_secs(1);

/// Handles the messages of a queue. The bus delivers at least once, and may deliver a message to
/// another process while this one still handles it, so a handler has to be idempotent.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Handles a message and decides how it is settled; must not settle it itself. The lease is
    /// renewed while the handler runs, so it may take any time. At shutdown it may be dropped at
    /// any await point.
    async fn handle(&self, delivery: Delivery) -> Settlement;
}

/// How a message is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Removes the message: all its effects are durable.
    Ack,
    /// Redelivers the message after this delay: it could be handled, but has to wait.
    Retry(Duration),
    /// Redelivers the message after a delay that grows with the number of its deliveries: it could
    /// not be handled.
    Backoff,
    /// Leaves the message unsettled: it is redelivered when its lease expires.
    Leave,
}

impl Settlement {
    fn label(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Retry(_) | Self::Backoff => "retry",
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
    let worker = Arc::new(QueueWorker { queue, metrics, handler, abandon: abandon.clone() });
    let tasks = TaskTracker::new();
    let keeper = LeaseKeeper::start(lease);

    let mut receiver = MessageReceiver::new(bus, queue, concurrency, &keeper, lease);
    stop.run_until_cancelled(async {
        loop {
            let (held, permit) = receiver.next().await;
            let span = message_span(queue, &held.delivery);
            tasks.spawn(Arc::clone(&worker).process(held, permit).instrument(span));
        }
    })
    .await;
    let _ = timeout(RETURN_TIMEOUT, receiver.return_messages()).await;

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
    metrics: Metrics,
    handler: Arc<H>,
    /// Cancelled when the shutdown grace period is over.
    abandon: CancellationToken,
}

impl<H: Handler> QueueWorker<H> {
    async fn process(self: Arc<Self>, held: HeldDelivery, permit: OwnedSemaphorePermit) {
        let started = Instant::now();
        let HeldDelivery { delivery, guard } = held;
        let attempt = delivery.attempt;
        let settlement = tokio::select! {
            biased;
            settlement = self.handle(delivery) => settlement,
            // Other processes can receive the message at once.
            () = self.abandon.cancelled() => Settlement::Retry(Duration::ZERO),
        };
        let give_up = async {
            self.abandon.cancelled().await;
            sleep(RETURN_TIMEOUT).await;
        };
        tokio::select! {
            biased;
            () = settle(guard, settlement, attempt) => {}
            // The message is redelivered when its lease expires.
            () = give_up => {}
        }
        drop(permit);
        let elapsed = started.elapsed();
        self.metrics.record_message(self.queue, settlement.label(), elapsed);
        tracing::debug!(settlement = settlement.label(), ms = elapsed.as_millis() as u64, "message handled");
    }

    async fn handle(&self, delivery: Delivery) -> Settlement {
        let handled = AssertUnwindSafe(async { self.handler.handle(delivery).await }).catch_unwind().await;
        handled.unwrap_or_else(|panic| {
            tracing::error!(panic = panic_message(&*panic), "the handler panicked; retrying the message");
            Settlement::Backoff
        })
    }
}

/// Settles the message that was delivered `attempt` times.
async fn settle(guard: LeaseGuard, settlement: Settlement, attempt: u64) {
    let lease = guard.release().await;
    match settlement {
        Settlement::Ack => lease.ack().await,
        Settlement::Retry(delay) => lease.retry(delay).await,
        Settlement::Backoff => lease.retry(REDELIVERY_POLICY.delay(attempt)).await,
        Settlement::Leave => {}
    }
}

#[cfg(test)]
mod tests;
