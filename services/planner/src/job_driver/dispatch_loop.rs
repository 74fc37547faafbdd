//! The dispatch loop of a job: feeds the [`Dispatcher`] with events, clock and agents, and
//! publishes the shards that it returns. Takes no dispatch decision itself.

use std::{future::pending, time::Duration};

use forge_bus::{Replay, SharedBus, StoredMessage, topology::target_token};
use forge_service::{registry::Registry, retry::retry_until_stopped};
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    dispatch_failure::DispatchFailure,
    dispatch_message::dispatch_message,
    dispatch_window::dispatch_window,
    dispatcher::{Dispatcher, MAX_ATTEMPTS, ShardDispatch},
    shard_event::parse_shard_event,
    starvation::Starvation,
};
use crate::admitted_job::AdmittedJob;

/// Interval between two checks for changes that no message announces: live agents and overdue
/// shards.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Dispatches the shards of jobs.
#[derive(Debug)]
pub struct DispatchLoop {
    bus: SharedBus,
    registry: Registry,
    shard_patience: Duration,
}

impl DispatchLoop {
    /// `shard_patience` is the time after which a shard's first attempt is overdue.
    pub fn new(bus: SharedBus, registry: Registry, shard_patience: Duration) -> Self {
        Self { bus, registry, shard_patience }
    }

    /// Dispatches a job's shards. Returns only when the job has failed; dropped when it has ended.
    /// `messages` are the job's results and verdicts from the first on. Reports the number of
    /// in-flight shards before it publishes any.
    pub async fn run(
        &self,
        admitted: &AdmittedJob,
        mut messages: Replay,
        ended: &CancellationToken,
        report_in_flight: impl Fn(usize),
    ) -> DispatchFailure {
        let started = Instant::now();
        let mut dispatcher = Dispatcher::new(&admitted.job.request.plan);
        if admitted.taken_over {
            // Only then does this planner know which shards are missing.
            while let Some(message) = messages.next_stored().await {
                apply(&mut dispatcher, &message);
            }
        }
        let (mut live, mut starvation) =
            (self.registry.live_capacity(admitted.target()), Starvation::default());
        let mut checks = interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = started.elapsed();
            dispatcher.set_starved_time(starvation.total(now));
            let window = dispatch_window(live, dispatcher.mean_shard_time(), admitted.policy().max_agents);
            let dispatches = dispatcher.dispatch(window, now);
            report_in_flight(dispatcher.in_flight());
            if let Some(shard) = dispatcher.exhausted() {
                return DispatchFailure::exhausted(shard, MAX_ATTEMPTS);
            }
            self.publish(admitted, dispatches, ended).await;
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => apply(&mut dispatcher, &message),
                    // Only a bus that is shutting down ends the stream.
                    None => return pending().await,
                },
                _ = checks.tick() => {
                    let now = started.elapsed();
                    live = self.registry.live_capacity(admitted.target());
                    if starvation.observe(live.agents > 0, now) {
                        let hardware = target_token(admitted.target());
                        tracing::warn!(hardware, "no live agent accepts the job's shards; waiting for one");
                    }
                    dispatcher.set_starved_time(starvation.total(now));
                    dispatcher.requeue_overdue(now, self.shard_patience);
                }
            }
            while let Some(Some(message)) = messages.next().now_or_never() {
                apply(&mut dispatcher, &message);
            }
        }
    }

    /// Publishes dispatched shards; retries until that succeeds or the job has ended.
    async fn publish(
        &self,
        admitted: &AdmittedJob,
        dispatches: Vec<ShardDispatch>,
        ended: &CancellationToken,
    ) {
        if dispatches.is_empty() {
            return;
        }
        let messages: Vec<_> =
            dispatches.into_iter().map(|dispatch| dispatch_message(admitted, dispatch)).collect();
        retry_until_stopped(ended, "publishing shards", || self.bus.publish_all(messages.clone())).await;
    }
}

fn apply(dispatcher: &mut Dispatcher<'_>, message: &StoredMessage) {
    if let Some(event) = parse_shard_event(message) {
        dispatcher.apply(event);
    }
}
