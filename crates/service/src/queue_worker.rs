//! The message loop of every service: receive a message, pass it to the service's handler, settle
//! it as the handler decides. This module owns leases, concurrency, traces, retries after a panic
//! and graceful shutdown. It never interprets a message.

mod concurrency;
mod lease_keeper;
mod message_receiver;
mod panic_counts;
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
    panic_counts::PanicCounts,
};
use crate::{
    metrics::Metrics, panic_message::panic_message, retry::REDELIVERY_POLICY, short_text::shorten,
    telemetry::trace,
};

/// Time that in-flight messages get to complete once the service is asked to stop. Less than the 30
/// seconds that Kubernetes waits by default.
pub const SHUTDOWN_GRACE_PERIOD: Duration = Duration::from_secs(20);
/// Time limit for returning a message to the bus at shutdown.
const RETURN_TIMEOUT: Duration = Duration::from_secs(1);

/// Number of deliveries of a message that end in a panic in one process, before the handler gives
/// the message up. With the delays between them, that takes 8 to 15 seconds.
const MAX_PANICS: u32 = 5;

/// Handles the messages of a queue. The bus delivers at least once, and may deliver a message to
/// another process while this one still handles it, so a handler has to be idempotent.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Handles a message and decides how it is settled; must not settle it itself. The lease is
    /// renewed while the handler runs, so it may take any time. At shutdown it may be dropped at
    /// any await point.
    async fn handle(&self, delivery: Delivery) -> Settlement;

    /// Ends the work of a message whose deliveries to [`Self::handle`] keep ending in a panic, so
    /// that its job does not stay open for ever. `reason`, for the job's record, states the queue,
    /// the number of panics and the text of the last one. Called in place of a redelivery, as often
    /// as the message is delivered and panics again.
    ///
    /// By default the message is redelivered with backoff. That suits a queue whose messages become
    /// dead letters, or keep no job open.
    async fn give_up(&self, _delivery: Delivery, _reason: String) -> Settlement {
        Settlement::Backoff
    }
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
    let panics = PanicCounts::default();
    let worker = Arc::new(QueueWorker { queue, metrics, handler, panics, abandon: abandon.clone() });
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
    panics: PanicCounts,
    /// Cancelled when the shutdown grace period is over.
    abandon: CancellationToken,
}

impl<H: Handler> QueueWorker<H> {
    async fn process(self: Arc<Self>, held: HeldDelivery, permit: OwnedSemaphorePermit) {
        let started = Instant::now();
        let HeldDelivery { delivery, guard } = held;
        let attempt = delivery.attempt;
        let (settlement, outcome) = tokio::select! {
            biased;
            handled = self.handle(delivery) => handled,
            // Other processes can receive the message at once.
            () = self.abandon.cancelled() => {
                let settlement = Settlement::Retry(Duration::ZERO);
                (settlement, settlement.label())
            }
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
        self.metrics.record_message(self.queue, outcome, elapsed);
        tracing::debug!(outcome, ms = elapsed.as_millis() as u64, "message handled");
    }

    /// Handles a message; returns its settlement and the outcome for the metrics.
    async fn handle(&self, delivery: Delivery) -> (Settlement, &'static str) {
        let sequence = delivery.sequence;
        let (settlement, outcome) = match catch_panic(self.handler.handle(delivery.clone())).await {
            Ok(settlement) => (settlement, settlement.label()),
            Err(panic) => (self.settle_panic(delivery, &panic).await, "panic"),
        };
        if settlement == Settlement::Ack {
            self.panics.remove(sequence);
        }
        (settlement, outcome)
    }

    /// The settlement of a message whose handler panicked.
    async fn settle_panic(&self, delivery: Delivery, panic: &str) -> Settlement {
        let panics = self.panics.add(delivery.sequence);
        if panics < MAX_PANICS {
            tracing::error!(panic, panics, "the handler panicked; retrying the message with backoff");
            return Settlement::Backoff;
        }
        let (queue, text) = (self.queue.label(), shorten(panic));
        let reason =
            format!("handling a message of queue {queue} panicked {panics} times, last with: {text}");
        tracing::error!(panic, panics, "the handler panicked again; giving the message up");
        catch_panic(self.handler.give_up(delivery, reason)).await.unwrap_or_else(|panic| {
            tracing::error!(panic, "giving the message up panicked too; retrying it with backoff");
            Settlement::Backoff
        })
    }
}

/// Runs a future; an error is the text of its panic.
async fn catch_panic<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let caught = AssertUnwindSafe(future).catch_unwind().await;
    caught.map_err(|panic| panic_message(&*panic).to_owned())
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
