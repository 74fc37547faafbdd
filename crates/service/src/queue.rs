//! The loop of every service: receive a message, hand it to the service's handler, settle it as the handler says. Here are the
//! lease, the limit of messages in hand, the trace, retries after a panic and the orderly end; what a message means is the
//! handler's.

use std::{any::Any, convert::Infallible, mem, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use forge_bus::{BusError, Delivery, DeliveryLease, QueueReceiver, SharedBus, topology::Queue};
use futures_util::FutureExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, Span, field};

use crate::{metrics::Metrics, telemetry::trace};

/// How long messages in hand may take to end once the service is asked to stop. Less than the 30 seconds that Kubernetes
/// waits by default.
pub const GRACE: Duration = Duration::from_secs(20);
/// When a message is delivered again after its handler panicked.
const AFTER_PANIC: Duration = Duration::from_secs(1);
/// How long the loop waits after an error of the bus: first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long giving a message back may take at the end of the process.
const GIVE_BACK: Duration = Duration::from_secs(1);

/// What a service does with a message. The same message may come again at any time, also to another process while this one
/// still works on it: handlers are idempotent.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Handles a message and says how it is to be settled; must not settle it itself. It may take any time: the lease is
    /// renewed while it runs, provided that it does not block its thread. It may be dropped at any await when the process
    /// ends.
    async fn handle(&self, delivery: Delivery) -> Settlement;
}

/// How a message is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Its consequences are durable: it is removed.
    Ack,
    /// To be delivered again, after this time.
    Retry(Duration),
    /// Not at all: it is delivered again when its lease has run out.
    Leave,
}

impl Settlement {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Retry(_) => "retry",
            Self::Leave => "leave",
        }
    }
}

/// How many messages may be in hand at once.
#[derive(Clone)]
pub struct Limit {
    room: Arc<Semaphore>,
    /// The room that a message takes which is received now.
    weight: Arc<dyn Fn() -> u32 + Send + Sync>,
    /// For how long nothing is to be received.
    pause: Arc<dyn Fn() -> Option<Duration> + Send + Sync>,
}

impl Limit {
    /// Messages for which there is room, where one takes `weight` of it: at least 1, at most all of `room`. Asked for every
    /// message that is received.
    pub fn weighted(room: u32, weight: impl Fn() -> u32 + Send + Sync + 'static) -> Self {
        let room = room.max(1);
        let weight = move || weight().clamp(1, room);
        Self {
            room: Arc::new(Semaphore::new(room as usize)),
            weight: Arc::new(weight),
            pause: Arc::new(|| None),
        }
    }

    /// The same, and while `pause` answers a time, nothing more is received. Asked before every receipt.
    #[must_use]
    pub fn pausing(self, pause: impl Fn() -> Option<Duration> + Send + Sync + 'static) -> Self {
        Self { pause: Arc::new(pause), ..self }
    }

    /// Waits until messages may be received.
    async fn open(&self) {
        while let Some(pause) = (self.pause)() {
            sleep(pause).await;
        }
    }

    /// Waits for room for one message.
    async fn one(&self) -> OwnedSemaphorePermit {
        let room = Arc::clone(&self.room).acquire_many_owned((self.weight)()).await;
        room.expect("the semaphore is never closed")
    }

    /// Messages for which there is room now.
    fn more(&self) -> usize {
        self.room.available_permits() / (self.weight)() as usize
    }
}

/// So many messages, at least 1.
impl From<usize> for Limit {
    fn from(messages: usize) -> Self {
        Self::weighted(u32::try_from(messages).unwrap_or(u32::MAX), || 1)
    }
}

/// Serves a queue until `stop` is cancelled, with at most `limit` messages in hand, each in a task and a span of its own. `lease` is the bus's: a message in hand renews it three times as often. The queue may not exist yet, the bus may
/// be away: the loop tries again until they are there.
///
/// After `stop` nothing more is received; messages in hand have [`GRACE`] to end, and handlers that hold the same token can
/// hurry. What has not ended by then is dropped and given back.
pub async fn serve_queue<H>(
    bus: SharedBus,
    queue: Queue,
    limit: impl Into<Limit>,
    lease: Duration,
    metrics: Metrics,
    stop: CancellationToken,
    handler: Arc<H>,
) where
    H: Handler + 'static,
{
    let abandon = CancellationToken::new();
    let desk = Arc::new(Desk { queue, lease, metrics, handler, abandon: abandon.clone() });
    let tasks = TaskTracker::new();
    let limit = limit.into();

    stop.run_until_cancelled(receive(&bus, &desk, &tasks, &limit)).await;

    tasks.close();
    if !tasks.is_empty() {
        tracing::info!(queue = queue.label(), messages = tasks.len(), "waiting for messages in hand");
    }
    if timeout(GRACE, tasks.wait()).await.is_err() {
        tracing::warn!(queue = queue.label(), messages = tasks.len(), "giving messages back");
        abandon.cancel();
        tasks.wait().await;
    }
}

/// Reports how much each of `queues` holds, every `period`, until `stop` is cancelled.
pub async fn report_depths(
    bus: SharedBus,
    queues: Vec<Queue>,
    period: Duration,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let report = async {
        loop {
            for &queue in &queues {
                // What is not known is not reported; the loop of the queue says why.
                if let Ok(depth) = bus.backlog(queue).await {
                    metrics.queue_depth(queue, depth);
                }
            }
            sleep(period).await;
        }
    };
    stop.run_until_cancelled(report).await;
}

/// Receives without end. Dropping it loses nothing: a message is in the hands of a task or still on the bus.
async fn receive<H: Handler + 'static>(
    bus: &SharedBus,
    desk: &Arc<Desk<H>>,
    tasks: &TaskTracker,
    limit: &Limit,
) {
    let mut pull = None;
    let mut health = BusHealth::new(desk.queue);
    loop {
        let slot = limit.one().await;
        limit.open().await;
        match fetch(bus, desk.queue, &mut pull, 1 + limit.more()).await {
            Ok(deliveries) => {
                health.up();
                let mut slot = Some(slot);
                for delivery in deliveries {
                    let slot = match slot.take() {
                        Some(slot) => slot,
                        None => limit.one().await,
                    };
                    let span = span(desk.queue, &delivery);
                    tasks.spawn(Arc::clone(desk).work(delivery, slot).instrument(span));
                }
                tokio::task::yield_now().await;
            }
            Err(error) => {
                pull = None;
                drop(slot);
                sleep(health.down(&error)).await;
            }
        }
    }
}

async fn fetch(
    bus: &SharedBus,
    queue: Queue,
    pull: &mut Option<Box<dyn QueueReceiver>>,
    max: usize,
) -> Result<Vec<Delivery>, BusError> {
    let open = match pull {
        Some(open) => open,
        None => pull.insert(bus.open_queue(queue).await?),
    };
    open.fetch(max).await
}

/// Whether the bus gives messages: said once for each change.
struct BusHealth {
    queue: Queue,
    failing: Option<mem::Discriminant<BusError>>,
    wait: Duration,
}

impl BusHealth {
    fn new(queue: Queue) -> Self {
        Self { queue, failing: None, wait: BACKOFF.0 }
    }

    fn up(&mut self) {
        self.wait = BACKOFF.0;
        if self.failing.take().is_some() {
            tracing::info!(queue = self.queue.label(), "receiving messages again");
        }
    }

    /// Answers how long to wait before the next attempt.
    fn down(&mut self, error: &BusError) -> Duration {
        let kind = mem::discriminant(error);
        if self.failing.replace(kind) != Some(kind) {
            tracing::warn!(queue = self.queue.label(), %error, "cannot receive messages; trying again");
        }
        let wait = self.wait;
        self.wait = (wait * 2).min(BACKOFF.1);
        wait
    }
}

/// A span whose parent is the one that sent the message.
fn span(queue: Queue, delivery: &Delivery) -> Span {
    let queue = queue.label();
    let span = trace::span_from(&delivery.message.headers, || {
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
    if let Some(trace_id) = trace::start(&span, format!("process {queue}")) {
        span.record("trace_id", trace_id);
    }
    span
}

/// Where the messages of a queue are worked on.
struct Desk<H> {
    queue: Queue,
    lease: Duration,
    metrics: Metrics,
    handler: Arc<H>,
    abandon: CancellationToken,
}

impl<H: Handler> Desk<H> {
    async fn work(self: Arc<Self>, delivery: Delivery, slot: OwnedSemaphorePermit) {
        let started = Instant::now();
        let settle = Arc::clone(&delivery.lease);
        let settlement = tokio::select! {
            biased;
            settlement = self.handle_and_settle(delivery, &settle) => settlement,
            () = self.abandon.cancelled() => {
                // Others can have it at once; if this does not arrive, they have it when the lease has run out.
                let _ = timeout(GIVE_BACK, settle.retry(Duration::ZERO)).await;
                Settlement::Leave
            }
        };
        drop(slot);
        let elapsed = started.elapsed();
        self.metrics.message(self.queue, settlement.as_str(), elapsed);
        tracing::debug!(outcome = settlement.as_str(), ms = elapsed.as_millis() as u64, "settled");
    }

    async fn handle_and_settle(&self, delivery: Delivery, settle: &Arc<dyn DeliveryLease>) -> Settlement {
        let settlement = tokio::select! {
            biased;
            settlement = self.handle(delivery) => settlement,
            never = self.renew(settle) => match never {},
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
            tracing::error!(panic = panic_text(&*panic), "the handler panicked: the message is tried again");
            Settlement::Retry(AFTER_PANIC)
        })
    }

    /// Renews a message's lease without end.
    async fn renew(&self, settle: &Arc<dyn DeliveryLease>) -> Infallible {
        let period = (self.lease / 3).max(Duration::from_millis(1));
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            settle.renew().await;
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests;
