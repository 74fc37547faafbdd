//! Handing out a job's shards until it has ended: carries out what [`Dispatcher`] decides.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use forge_bus::{
    Message, ReplayContent, StoredMessage,
    topology::{self, Bucket, ShardMessageKind, Stream},
};
use forge_contract::{
    artifact::Phase,
    error::FailureCode,
    ids::JobId,
    job::JobState,
    task::{EndOrder, ReduceOrder, VerifierTask},
};
use forge_service::{
    clock::elapsed_since, job_records, orders, queue_worker::Settlement, registry::LiveCapacity,
    retry::retry_until_stopped, shard_messages,
};
use futures_util::{FutureExt, StreamExt};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    absence::Absence,
    admit::Admitted,
    dispatch::{Dispatcher, Handout, Recipient},
    planner::{Planner, message},
};

/// Time between two looks at what no message tells: agents that come and go, shards that are overdue.
const TICK: Duration = Duration::from_millis(500);
/// A planner that takes a job over waits until no result has come for this long, before it hands out what is missing.
const QUIET: Duration = Duration::from_millis(200);
/// Time after which a worker has heard that a job has ended, or will have returned what it was executing.
const LATE: Duration = Duration::from_secs(5);
/// An agent gets work for about this long in advance.
const AHEAD: Duration = Duration::from_millis(50);

/// How the handing out ended.
enum Ended {
    /// The job has ended.
    Job,
    /// The service is to stop.
    Service,
}

/// Why a job cannot go on.
struct Failure {
    code: FailureCode,
    phase: Phase,
    message: String,
}

impl Planner {
    /// Hands out a job until it has ended.
    /// `started` is when its submission was taken up.
    pub(crate) async fn drive(&self, admitted: Admitted, started: Instant) -> Settlement {
        let endings = retry_until_stopped(&self.stop, "looking at the job's record", || {
            self.job_watch.watch(&admitted.bucket, &admitted.job.id)
        });
        let Some(ending) = endings.await else { return Settlement::Retry(Duration::ZERO) };
        let ended = ending.token();
        let (active, out) = (self.metrics.track_active_job(), AtomicUsize::new(0));
        let settlement = tokio::select! {
            () = ended.cancelled() => Ok(Ended::Job),
            () = self.stop.cancelled() => Ok(Ended::Service),
            failure = self.hand_out(&admitted, started, ended, &out) => Err(failure),
        };
        drop(active);
        let settlement = match settlement {
            Ok(Ended::Job) => Settlement::Ack,
            Ok(Ended::Service) => Settlement::Retry(Duration::ZERO),
            Err(failure) => self.fail(&admitted, failure, ended).await,
        };
        if settlement == Settlement::Ack && out.into_inner() > 0 {
            self.sweep(admitted.job.id.clone(), admitted.bucket);
        }
        settlement
    }

    /// Removes, a while after a job has ended, what came after its messages were removed: shards that were just being
    /// handed out, and results of workers that had not heard of its end.
    pub(crate) fn sweep(&self, job: JobId, bucket: Bucket) {
        let (bus, stop) = (self.bus.clone(), self.stop.clone());
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            sleep(LATE).await;
            let swept = async {
                // Its record may have been removed, and the job submitted anew.
                let found = job_records::get(bus.as_ref(), &bucket, &job).await?;
                if found.is_some_and(|found| found.record.state.is_terminal()) {
                    let leavings = topology::job_subjects(&job).into_iter();
                    for (stream, subject) in leavings.filter(|(stream, _)| *stream != Stream::Reduce) {
                        bus.purge(stream, &subject).await?;
                    }
                }
                Ok::<_, forge_bus::BusError>(())
            };
            if let Err(error) = swept.await {
                tracing::warn!(%job, %error, "what the job has left is left to its age");
            }
        }));
    }

    /// Tells an aggregator that the job has failed, and waits until its record says so.
    async fn fail(&self, admitted: &Admitted, failure: Failure, ended: &CancellationToken) -> Settlement {
        let order = EndOrder::new(
            admitted.job.id.clone(),
            admitted.bucket.name(),
            failure.code,
            failure.phase,
            failure.message,
        );
        let told = retry_until_stopped(&self.stop, "ending the job", || self.end(order.clone())).await;
        if told.is_none() || self.stop.run_until_cancelled(ended.cancelled()).await.is_none() {
            return Settlement::Retry(Duration::ZERO);
        }
        Settlement::Ack
    }

    /// Hands out shards; returns when the job cannot go on. Dropped when it has ended.
    /// `out` is told how many shards are out.
    async fn hand_out(
        &self,
        admitted: &Admitted,
        started: Instant,
        ended: &CancellationToken,
        out: &AtomicUsize,
    ) -> Failure {
        let planned = started.elapsed();
        let timeout = self.timeout(admitted);
        tokio::pin!(timeout);
        tokio::select! {
            failure = &mut timeout => return failure,
            enough = self.enough_agents(admitted) => if let Err(failure) = enough {
                return failure;
            },
        }
        tokio::select! {
            failure = &mut timeout => failure,
            failure = self.distribute(admitted, planned, ended, out) => failure,
        }
    }

    /// Returns when the job's time is up.
    async fn timeout(&self, admitted: &Admitted) -> Failure {
        let allowed = admitted.job.request.envelope.policy.timeout_ms;
        if allowed == 0 {
            std::future::pending::<()>().await;
        }
        let elapsed = elapsed_since(&admitted.record.submitted_at);
        sleep(Duration::from_millis(allowed).saturating_sub(elapsed)).await;
        let message = format!("the job did not end within policy.timeout_ms, {allowed} ms");
        Failure { code: FailureCode::Timeout, phase: Phase::Execute, message }
    }

    /// Waits for `policy.min_agents`.
    async fn enough_agents(&self, admitted: &Admitted) -> Result<(), Failure> {
        let policy = &admitted.job.request.envelope.policy;
        let started = Instant::now();
        // Short at first: a planner that has just started does not know all agents that are there.
        let mut pause = Duration::from_millis(1);
        loop {
            let live = self.registry.live_capacity(policy.target).agents;
            if live >= policy.min_agents {
                return Ok(());
            }
            if started.elapsed() >= self.settings.agent_wait {
                let message = format!(
                    "policy.min_agents is {}, and {live} live agents take shards for target {} after {} s",
                    policy.min_agents,
                    topology::target_token(policy.target),
                    self.settings.agent_wait.as_secs()
                );
                return Err(Failure { code: FailureCode::InsufficientAgents, phase: Phase::Plan, message });
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(64));
        }
    }

    async fn distribute(
        &self,
        admitted: &Admitted,
        planned: Duration,
        ended: &CancellationToken,
        out: &AtomicUsize,
    ) -> Failure {
        let (job, started) = (&admitted.job, Instant::now());
        let outcomes = retry_until_stopped(ended, "preparing the job", || async {
            let (_, _, outcomes) = tokio::try_join!(
                self.programs.put(job.request.program_digest, &job.request.program),
                self.announce(admitted, planned),
                self.bus.replay(topology::shard_message_subjects(&job.id), ReplayContent::Headers),
            )?;
            Ok(outcomes)
        });
        let Some(mut outcomes) = outcomes.await else { return std::future::pending().await };
        let mut dispatcher = Dispatcher::new(&job.request.plan);
        if admitted.taken_over {
            while let Ok(Some(outcome)) = tokio::time::timeout(QUIET, outcomes.next()).await {
                take(&mut dispatcher, &outcome);
            }
        }
        let (mut live, mut absence) = (self.live(admitted), Absence::default());
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = started.elapsed();
            dispatcher.unattended(absence.total(now));
            let handouts = dispatcher.take(window(admitted, live, &dispatcher), now);
            out.store(dispatcher.outstanding(), Ordering::Relaxed);
            if let Some(shard) = dispatcher.exhausted() {
                let message =
                    format!("shard {shard}: no valid result after all attempts, a verifier's included");
                return Failure { code: FailureCode::ExecutionFailed, phase: Phase::Execute, message };
            }
            if !handouts.is_empty() {
                let messages: Vec<_> =
                    handouts.into_iter().map(|handout| self.shard_message(admitted, handout)).collect();
                retry_until_stopped(ended, "handing out shards", || self.bus.publish_all(messages.clone()))
                    .await;
            }
            tokio::select! {
                outcome = outcomes.next() => match outcome {
                    Some(outcome) => take(&mut dispatcher, &outcome),
                    None => return std::future::pending().await,
                },
                _ = tick.tick() => {
                    live = self.live(admitted);
                    let now = started.elapsed();
                    if absence.look(live.agents > 0, now) {
                        let target = topology::target_token(admitted.job.request.envelope.policy.target);
                        tracing::warn!(hardware = target, "the job waits: no live agent takes its shards");
                    }
                    dispatcher.unattended(absence.total(now));
                    dispatcher.overdue(now, self.settings.shard_patience);
                }
            }
            while let Some(Some(outcome)) = outcomes.next().now_or_never() {
                take(&mut dispatcher, &outcome);
            }
        }
    }

    /// Has an aggregator take the job in, and says in its record that it is planned.
    async fn announce(&self, admitted: &Admitted, planned: Duration) -> Result<(), forge_bus::BusError> {
        let job = &admitted.job;
        let (message, id) = orders::build_reduce(ReduceOrder {
            job_id: job.id.clone(),
            envelope: job.request.envelope.clone(),
            plan_us: planned.as_micros() as u64,
        });
        self.bus.publish(message, &id).await?;
        let plan = &job.request.plan;
        job_records::update(self.bus.as_ref(), &admitted.bucket, &job.id, |record| {
            let planned = record.state < JobState::Planned;
            if planned {
                record.state = JobState::Planned;
                record.progress.iterations = plan.iterations();
                record.progress.shards = plan.shard_count();
            }
            planned
        })
        .await?;
        Ok(())
    }

    /// The live agents of the job's target.
    fn live(&self, admitted: &Admitted) -> LiveCapacity {
        self.registry.live_capacity(admitted.job.request.envelope.policy.target)
    }

    fn shard_message(&self, admitted: &Admitted, handout: Handout) -> (Message, String) {
        let request = &admitted.job.request;
        let Handout { shard, attempt, to } = handout;
        let task = admitted.job.shard_task(shard, attempt);
        let job = &admitted.job.id;
        let id = format!("shard.{job}.{shard}.{attempt}");
        match to {
            Recipient::Worker => {
                (message(topology::shard_subject(request.envelope.policy.target, job, shard), &task), id)
            }
            Recipient::Verifier => {
                (message(topology::verification_subject(job, shard), &VerifierTask { task, claim: None }), id)
            }
        }
    }
}

/// How many of a job's shards may be out at once. Who is not there yet finds some, and who executes several together finds
/// full batches.
fn window(admitted: &Admitted, live: LiveCapacity, dispatcher: &Dispatcher<'_>) -> usize {
    let policy = &admitted.job.request.envelope.policy;
    let mean = dispatcher.mean_wall().map_or(AHEAD.as_secs_f64(), |mean| mean.as_secs_f64());
    let each = (AHEAD.as_secs_f64() / mean.max(1e-6)).clamp(2.0, 256.0) as usize;
    let (slots, together) = (live.slots.max(1) as usize, live.shards as usize);
    let window = (slots * each).max(together * 2).min(16_384);
    if policy.max_agents == 0 { window } else { window.min(policy.max_agents as usize) }
}

/// Tells the dispatcher of a result or a verdict. What cannot be read is not a result; an aggregator says so.
fn take(dispatcher: &mut Dispatcher<'_>, outcome: &StoredMessage) {
    let message = &outcome.message;
    let Some((kind, job, shard)) = topology::parse_shard_message_subject(&message.subject) else { return };
    match kind {
        ShardMessageKind::Result => {
            if let Some(attestation) = shard_messages::parse_attestation(message) {
                dispatcher.returned(shard, &attestation.agent_id, attestation.wall_us);
            }
        }
        ShardMessageKind::Verdict => {
            if let Some(verdict) = shard_messages::parse_signed_verdict(message, &job, shard) {
                dispatcher.judged(shard, &verdict.agent_id, verdict.outcome);
            }
        }
    }
}

#[cfg(test)]
mod tests;
