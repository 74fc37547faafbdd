//! The dispatch loop of a job: feeds the [`Dispatcher`] with outcomes, clock and agents, and
//! publishes the shards that it returns. Takes no dispatch decision itself.

use std::{future::pending, time::Duration};

use forge_bus::{
    BusError, Replay, SharedBus, StoredMessage,
    topology::{Stream, shards_filter},
};
use forge_service::{random, registry::Registry, retry::retry_transient, shard_messages};
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    dispatch_failure::DispatchFailure,
    dispatch_message::dispatch_message,
    dispatch_window::dispatch_window,
    dispatcher::{DispatchTime, Dispatcher, ShardDispatch, ShardRecipient},
    queue_watch::QueueWatch,
    space_watch::SpaceWatch,
    starvation::Starvation,
};
use crate::admitted_job::AdmittedJob;

/// Interval between two checks for changes that no message announces: live agents and overdue
/// shards.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// How long a job may have no live agent before it gives its slot back. Longer than a planner that
/// has just started needs to receive the heartbeats.
const MAX_STARVATION: Duration = Duration::from_secs(1);

/// Why the dispatch of a job stopped before the job has ended.
#[derive(Debug, PartialEq, Eq)]
pub enum DispatchStop {
    /// The job must be ended.
    Failed(DispatchFailure),
    /// The job waits for a live agent. Its in-flight shards stay queued for the first one.
    Starved,
    /// The bus refuses this planner an operation, until an operator acts.
    Blocked(BusError),
}

impl DispatchStop {
    /// The stop after an operation that failed with an error that is not transient.
    pub fn after(operation: &str, error: BusError) -> Self {
        if error.class().is_retryable() {
            Self::Blocked(error)
        } else {
            Self::Failed(DispatchFailure::refused(operation, &error))
        }
    }
}

/// Dispatches the shards of jobs.
#[derive(Debug)]
pub struct DispatchLoop {
    bus: SharedBus,
    registry: Registry,
    queue_watch: QueueWatch,
    space_watch: SpaceWatch,
    shard_patience: Duration,
}

impl DispatchLoop {
    /// `shard_patience` is the time after which a shard's first attempt is overdue.
    pub fn new(
        bus: SharedBus,
        registry: Registry,
        queue_watch: QueueWatch,
        space_watch: SpaceWatch,
        shard_patience: Duration,
    ) -> Self {
        Self { bus, registry, queue_watch, space_watch, shard_patience }
    }

    /// Dispatches a job's shards. Returns only when the job has failed or is starved. Never returns
    /// for a job that ends otherwise: the caller drops the future then. `outcomes` are the outcomes
    /// of the job's shards from the first on. Reports the number of in-flight shards before it
    /// publishes any.
    pub async fn run(
        &self,
        admitted: &AdmittedJob,
        mut outcomes: Replay,
        ended: &CancellationToken,
        report_in_flight: impl Fn(usize),
    ) -> DispatchStop {
        let started = Instant::now();
        let mut dispatcher = Dispatcher::new(&admitted.job.request.plan);
        if admitted.taken_over
            && let Err(stop) = self.take_over(admitted, &mut dispatcher, &mut outcomes, ended).await
        {
            return stop;
        }
        let live_capacity = || self.registry.live_capacity(admitted.target());
        let (mut live, mut starvation) = (live_capacity(), Starvation::default());
        let time_at = |now, starvation: &Starvation| DispatchTime {
            now,
            starved: starvation.total(now),
            delivered_before: self.queue_watch.delivered_before(
                admitted.target(),
                admitted.length(),
                started,
            ),
        };
        let mut checks = interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (uid, key) = (admitted.uid(), &admitted.key);
        let mut space = self.space_watch.follow(dispatcher.result_volume()).await;
        loop {
            let now = started.elapsed();
            let window = dispatch_window(live, dispatcher.mean_shard_time(), admitted.policy().max_agents)
                .min(space.room(dispatcher.result_volume()));
            let issue_task = |shard, recipient: ShardRecipient| {
                key.issue_task(uid, shard, recipient.mark_nonce(random::bytes()))
            };
            let dispatches = dispatcher.dispatch(window, time_at(now, &starvation), issue_task);
            report_in_flight(dispatcher.in_flight());
            match dispatches {
                Ok(dispatches) => {
                    if let Err(stop) = self.publish(admitted, &dispatches, ended).await {
                        return stop;
                    }
                    dispatcher.note_published(&dispatches, started.elapsed());
                }
                Err(fatal) => return DispatchStop::Failed(DispatchFailure::fatal_shard(&fatal)),
            }
            if starvation.current(now) >= MAX_STARVATION && dispatcher.needs_workers() {
                return DispatchStop::Starved;
            }
            // The check comes first: a flood of outcomes must not hold it up.
            tokio::select! {
                biased;
                _ = checks.tick() => {
                    let now = started.elapsed();
                    live = live_capacity();
                    starvation.observe(live.agents > 0, now);
                    dispatcher.requeue_overdue(time_at(now, &starvation), self.shard_patience);
                }
                message = outcomes.next() => match message {
                    Some(message) => apply_outcomes(&mut dispatcher, &message),
                    // Only a bus that is shutting down ends the stream.
                    None => return pending().await,
                },
            }
            while let Some(Some(message)) = outcomes.next().now_or_never() {
                apply_outcomes(&mut dispatcher, &message);
            }
        }
    }

    /// Applies the stored outcomes, because only then it is known which shards are missing. Then
    /// removes shards that an earlier planner left in the queue: each is dispatched again, and
    /// would otherwise be executed twice.
    async fn take_over(
        &self,
        admitted: &AdmittedJob,
        dispatcher: &mut Dispatcher<'_>,
        outcomes: &mut Replay,
        ended: &CancellationToken,
    ) -> Result<(), DispatchStop> {
        while let Some(message) = outcomes.next_stored().await {
            apply_outcomes(dispatcher, &message);
        }
        let filter = shards_filter(admitted.uid());
        let purge = || self.bus.purge(Stream::Shards, &filter);
        let operation = "purging queued shards of an earlier planner";
        unless_blocked(operation, retry_transient(ended, operation, purge).await)
    }

    /// Publishes dispatched shards; retries transient errors until that succeeds or the job has
    /// ended.
    async fn publish(
        &self,
        admitted: &AdmittedJob,
        dispatches: &[ShardDispatch],
        ended: &CancellationToken,
    ) -> Result<(), DispatchStop> {
        if dispatches.is_empty() {
            return Ok(());
        }
        let messages: Vec<_> =
            dispatches.iter().map(|dispatch| dispatch_message(admitted, *dispatch)).collect();
        let operation = "publishing shards";
        let published = retry_transient(ended, operation, || self.bus.publish_all(messages.clone()));
        unless_blocked(operation, published.await)
    }
}

/// The caller drops its future when the job has ended, and then there is no result.
fn unless_blocked(operation: &str, result: Option<Result<(), BusError>>) -> Result<(), DispatchStop> {
    result.unwrap_or(Ok(())).map_err(|error| DispatchStop::after(operation, error))
}

/// Applies a message with outcomes. Skips one that cannot be read: the shards concerned become
/// overdue.
fn apply_outcomes(dispatcher: &mut Dispatcher<'_>, stored: &StoredMessage) {
    match shard_messages::parse_outcomes(&stored.message.payload) {
        Ok(batch) => batch.outcomes.into_iter().for_each(|outcome| dispatcher.apply_outcome(outcome)),
        Err(error) => {
            let (subject, sequence) = (&stored.message.subject, stored.sequence);
            tracing::warn!(%error, subject, sequence, "skipping outcomes that cannot be read");
        }
    }
}
