//! Collecting a job's results: reads results and verdicts off the bus, feeds the [`JobReduction`]
//! and carries out what it decides. Writes the job's progress, never its end.

mod deferred_verdicts;
mod verdict_check;

use std::{sync::Arc, time::Duration};

use forge_bus::{
    BusError, Message, Replay, SharedBus, StoredMessage,
    topology::{self, Bucket, JobLength, Stream},
};
use forge_contract::{
    artifact::Phase,
    error::FailureCode,
    job::JobState,
    protocol::PROTOCOL,
    task::{EndOrder, ShardOutcome, VerifierTask},
};
use forge_service::{
    Metrics, clock::Clock, job_records, metrics::ResultOutcome, registry::Registry, retry::retry_transient,
    shard_messages, trace,
};
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::deferred_verdicts::DeferredVerdicts;
use crate::{
    acceptance::JobContext,
    discarded_results::DiscardedResults,
    kept_results::{KeptResults, ResultMemory},
    pool_quarantine::PoolQuarantine,
    reduction::{AggregationError, JobReduction, ReducedJob, ResultDisposition, VerificationRequest},
    reduction_slots::ReductionSlots,
    reported_shards::reported_as_accepted,
    space_wait::SpaceWait,
    verdict_wait::VerdictWait,
};

/// Interval between two updates of a job's progress in its record.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
/// Time without progress after which a job makes way for others.
const YIELD_PATIENCE: Duration = Duration::from_secs(10);
/// Upper bound on the messages that are handled before the outcomes are published.
const MAX_BATCH: usize = 512;
/// Upper bound on the outcomes in a message, of some 150 bytes each.
const MAX_OUTCOMES: usize = 1000;

/// Collects the results of jobs.
#[derive(Debug)]
pub(crate) struct ResultCollector {
    pub bus: SharedBus,
    pub clock: Clock,
    pub registry: Registry,
    pub pool_quarantine: PoolQuarantine,
    pub metrics: Metrics,
    pub discarded: DiscardedResults,
    /// The memory for results of shards that are kept or held.
    pub memory: ResultMemory,
    pub slots: ReductionSlots,
}

/// A job with all its results.
#[derive(Debug)]
pub(crate) struct CollectedResults {
    pub reduced: ReducedJob,
    /// Time from the order to reduce to the last result or verdict.
    pub execution_duration: Duration,
    /// The accepted results that are kept.
    pub kept_results: KeptResults,
}

/// Why a collection stopped before all results were in.
#[derive(Debug)]
enum Interruption {
    /// Accepted results do not count any more, or results have to be read again.
    RestartRequired,
    /// The collection cannot continue.
    Failed(CollectionError),
}

/// Why the results of a job cannot be collected.
#[derive(Debug)]
pub(crate) enum CollectionError {
    /// The job cannot complete: the order to end it.
    JobFailed(EndOrder),
    /// The bus refuses this aggregator an operation, until an operator acts.
    Blocked(BusError),
    /// The job makes no progress, and others wait for its slot or its memory.
    Yielded,
}

/// One pass over the messages about a job's shards.
struct Collection<'a> {
    collector: &'a ResultCollector,
    bucket: &'a Bucket,
    job_end: &'a CancellationToken,
    context: &'a JobContext,
    reduction: JobReduction,
    /// Sequences of stored results that do not count, while outcomes that follow from them are not
    /// published.
    discarded: Vec<u64>,
    deferred_verdicts: DeferredVerdicts,
    verdict_wait: VerdictWait,
    space_wait: SpaceWait,
}

impl ResultCollector {
    /// Collects results until the job is complete. The caller must drop the future once `job_end`
    /// is cancelled, because it may wait forever then. `bucket` holds the job's record; `started`
    /// is when the reduce order was received.
    ///
    /// # Errors
    /// [`CollectionError`]
    pub async fn collect(
        &self,
        context: &Arc<JobContext>,
        bucket: &Bucket,
        job_end: &CancellationToken,
        started: Instant,
    ) -> Result<CollectedResults, CollectionError> {
        let mut reduction = JobReduction::new(Arc::clone(context), self.memory.clone());
        loop {
            let mut collection = Collection {
                collector: self,
                bucket,
                job_end,
                context,
                reduction,
                discarded: Vec::new(),
                deferred_verdicts: DeferredVerdicts::default(),
                verdict_wait: VerdictWait::default(),
                space_wait: SpaceWait::default(),
            };
            match collection.run().await {
                Ok(reduced) => {
                    let kept_results = collection.reduction.into_kept_results();
                    return Ok(CollectedResults {
                        reduced,
                        execution_duration: started.elapsed(),
                        kept_results,
                    });
                }
                Err(Interruption::Failed(error)) => return Err(error),
                Err(Interruption::RestartRequired) => {
                    reduction = collection.reduction.restart();
                    let (job, suspect_pools) = (&context.job.id, reduction.suspect_pools());
                    tracing::warn!(
                        %job, ?suspect_pools,
                        "a verdict changed which results count; restarting the reduction"
                    );
                }
            }
        }
    }
}

impl Collection<'_> {
    async fn run(&mut self) -> Result<ReducedJob, Interruption> {
        // Before a restart, outcomes say which shards are open again.
        self.publish_pending().await?;
        let uid = self.context.uid;
        let mut verdicts = self.replay(Stream::Verdicts, topology::verdicts_filter(uid)).await?;
        let mut results = self.replay(Stream::Results, topology::results_filter(uid)).await?;
        // Verdicts first: results that they bar are never accepted then.
        while let Some(stored) = verdicts.next_stored().await {
            self.handle_verdict(&stored.message).await?;
        }
        let mut progress_ticks = interval(PROGRESS_INTERVAL);
        progress_ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        progress_ticks.reset();
        let mut is_replaying = true;
        while !self.reduction.is_complete() {
            if is_replaying && results.is_caught_up() {
                is_replaying = false;
                self.reopen_lost_shards().await?;
            }
            self.publish_pending().await?;
            self.collector.discarded.remove(self.discarded.drain(..));
            // The tick comes first: a flood of messages must not hold up the progress.
            tokio::select! {
                biased;
                _ = progress_ticks.tick() => {
                    self.write_progress().await;
                    self.handle_deferred_verdicts().await?;
                    let is_idle = self.verdict_wait.idle_time() >= YIELD_PATIENCE;
                    // A replay that always ends early would never end.
                    if !is_replaying && is_idle && self.collector.slots.are_contended() {
                        return Err(Interruption::Failed(CollectionError::Yielded));
                    }
                    if !is_replaying && self.verdict_wait.is_stalled() {
                        self.reopen_lost_shards().await?;
                    }
                }
                message = verdicts.next() => self.handle_verdict(&expect(message).await.message).await?,
                message = next_result(&mut results) => if let Some(message) = message {
                    self.handle_result(&message)?;
                },
            }
            self.handle_ready(&mut verdicts, &mut results).await?;
        }
        self.publish_pending().await?;
        self.reduction.reduced_job().map_err(|error| self.aggregation_failed(&error))
    }

    /// Reopens shards that outcomes report as accepted although they have no accepted result here:
    /// the aggregator that accepted it did not know the verdict or the quarantine that bars it, or
    /// the result is gone.
    async fn reopen_lost_shards(&mut self) -> Result<(), Interruption> {
        let outcomes = self.replay(Stream::Verdicts, topology::outcomes_subject(self.context.uid)).await?;
        let lost = reported_as_accepted(outcomes, |shard| self.reduction.is_open(shard)).await;
        if !lost.is_empty() {
            let (job, shards) = (&self.context.job.id, lost.len());
            tracing::warn!(%job, shards, "another aggregator accepted results that are gone or do not count; reopening their shards");
        }
        self.reduction.reopen(lost);
        Ok(())
    }

    async fn replay(&self, stream: Stream, filter: String) -> Result<Replay, Interruption> {
        let bus = &self.collector.bus;
        self.retry("reading results and verdicts", || bus.replay(stream, vec![filter.clone()])).await
    }

    /// Runs an operation of the bus until it succeeds, or fails with an error that is not
    /// transient. Waits forever once the job has ended: the caller drops the future then.
    async fn retry<T, F>(&self, operation: &str, attempt: impl FnMut() -> F) -> Result<T, Interruption>
    where
        F: Future<Output = Result<T, BusError>>,
    {
        let result = expect(retry_transient(self.job_end, operation, attempt).await).await;
        result.map_err(|error| {
            if error.class().is_retryable() {
                return Interruption::Failed(CollectionError::Blocked(error));
            }
            let message = format!("{operation} failed: {error}");
            self.job_failed(FailureCode::Internal, Phase::Reduce, message)
        })
    }

    /// Handles messages that have arrived, so that outcomes are published in batches.
    async fn handle_ready(
        &mut self,
        verdicts: &mut Replay,
        results: &mut Replay,
    ) -> Result<(), Interruption> {
        for _ in 0..MAX_BATCH {
            if let Some(Some(stored)) = verdicts.next().now_or_never() {
                self.handle_verdict(&stored.message).await?;
            } else if let Some(Some(stored)) = results.next().now_or_never() {
                self.handle_result(&stored)?;
            } else {
                return Ok(());
            }
        }
        // A flood of messages about one job must not hold up the others.
        tokio::task::yield_now().await;
        Ok(())
    }

    fn handle_result(&mut self, stored: &StoredMessage) -> Result<(), Interruption> {
        let (metrics, subject) = (&self.collector.metrics, &stored.message.subject);
        let Some((pool, uid, shard)) = topology::parse_result_subject(subject) else {
            metrics.count_result(ResultOutcome::Unknown);
            self.discarded.push(stored.sequence);
            return Ok(());
        };
        let result = match self.context.identify(uid, shard, &stored.message.payload) {
            Ok(result) => result,
            Err(reason) => {
                metrics.count_result(ResultOutcome::Unknown);
                self.discarded.push(stored.sequence);
                tracing::debug!(subject, %reason, "ignoring a message that is no result of the job");
                return Ok(());
            }
        };
        let agent = result.statement().agent_id.clone();
        let registry = &self.collector.registry;
        let received =
            self.reduction.receive(&pool, result, |pool, agent| registry.is_quarantined(pool, agent));
        let disposition = received.map_err(|error| self.aggregation_failed(&error))?;
        metrics.count_result(match &disposition {
            ResultDisposition::Accepted => ResultOutcome::Accepted,
            ResultDisposition::Held => ResultOutcome::Held,
            ResultDisposition::Redundant | ResultDisposition::BeyondRun => ResultOutcome::Duplicate,
            ResultDisposition::Contradicting(_) => ResultOutcome::Contradiction,
            ResultDisposition::Rejected(_) => ResultOutcome::Rejected,
        });
        if matches!(disposition, ResultDisposition::Redundant | ResultDisposition::Rejected(_)) {
            self.discarded.push(stored.sequence);
        }
        let job = &self.context.job.id;
        match disposition {
            ResultDisposition::Contradicting(accepted_agent) => tracing::warn!(
                %job, %shard, %pool, %agent, %accepted_agent,
                "a result contradicts the accepted result of its shard; both are verified"
            ),
            ResultDisposition::Rejected(reason) => {
                tracing::warn!(%job, %shard, %pool, %agent, %reason, "rejecting a result");
            }
            ResultDisposition::Accepted
            | ResultDisposition::Held
            | ResultDisposition::Redundant
            | ResultDisposition::BeyondRun => {}
        }
        Ok(())
    }

    fn aggregation_failed(&self, error: &AggregationError) -> Interruption {
        tracing::error!(job = %self.context.job.id, %error, "the reduction contradicts the plan; failing the job");
        let message = format!("the results could not be merged: {error}");
        self.job_failed(FailureCode::AggregationFailed, Phase::Reduce, message)
    }

    fn job_failed(&self, code: FailureCode, phase: Phase, message: String) -> Interruption {
        let (job, uid) = (self.context.job.id.clone(), self.context.uid);
        let order = EndOrder::new(job, uid, self.bucket.name(), code, phase, message);
        Interruption::Failed(CollectionError::JobFailed(order))
    }

    /// Publishes outcomes and requests for verification.
    async fn publish_pending(&mut self) -> Result<(), Interruption> {
        let outcomes = self.reduction.take_outcomes();
        let batches = outcomes.chunks(MAX_OUTCOMES).map(<[ShardOutcome]>::to_vec);
        let batches = batches.map(|batch| shard_messages::build_outcomes(self.context.uid, batch));
        let requests = self.reduction.take_verification_requests().into_iter();
        let requests = requests.map(|request| verification_message(self.context, request));
        let messages: Vec<_> = batches.chain(requests).collect();
        if messages.is_empty() {
            return Ok(());
        }
        let (bus, operation) = (&self.collector.bus, "publishing outcomes and verification requests");
        self.retry(operation, || bus.publish_all(messages.clone())).await
    }

    async fn write_progress(&mut self) {
        let progress = self.reduction.progress();
        let (bus, JobContext { job, uid, .. }) = (self.collector.bus.as_ref(), self.context);
        let for_verdicts = self.verdict_wait.observe(progress, self.reduction.pending_verdicts());
        let (idle, volume) = (self.verdict_wait.idle_time(), self.reduction.result_volume());
        let for_space = self.space_wait.observe(bus, idle, volume).await;
        let waiting = for_space.or(for_verdicts);
        let update = job_records::update(bus, self.collector.clock, self.bucket, &job.id, |record| {
            // An aggregator that died may have left the job in a later state. Orders to end a job
            // that is reduced wait, and would wait for ever while this one waits for results.
            let changed = record.progress != progress || record.state != JobState::Running;
            if changed {
                record.waiting = None;
            }
            record.state = JobState::Running;
            record.progress = progress;
            let is_news = record.waiting.is_none() && waiting.is_some();
            if is_news {
                record.waiting = waiting.map(str::to_owned);
            }
            (changed || is_news) && record.uid == *uid
        });
        if let Err(error) = update.await {
            tracing::warn!(job = %job.id, %error, "writing the job's progress failed; retrying at the next interval");
        }
    }
}

/// The next result; `None` once all results that were stored before have been read.
async fn next_result(results: &mut Replay) -> Option<StoredMessage> {
    if results.is_caught_up() {
        Some(expect(results.next().await).await)
    } else {
        results.next_stored().await
    }
}

/// The value; waits forever if there is none. The bus ends a replay only when the process shuts
/// down, and then the caller drops the collection.
async fn expect<T>(value: Option<T>) -> T {
    match value {
        Some(value) => value,
        None => std::future::pending().await,
    }
}

/// The message that asks a verifier to execute a shard again, and its deduplication id.
fn verification_message(context: &JobContext, request: VerificationRequest) -> (Message, String) {
    let VerificationRequest { shard, task, claim } = request;
    let JobContext { job, uid, .. } = context;
    let length = JobLength::of_job(job.request.plan.is_short());
    let id = format!("check.{uid}.{shard}.{}.{}.{}", claim.pool, claim.agent_id, claim.result_hash);
    let task = job.shard_task(*uid, shard, task);
    let payload = serde_json::to_vec(&VerifierTask { protocol: PROTOCOL, task, claim: Some(claim) });
    let payload = payload.expect("a verifier task serializes to JSON");
    let mut message = Message::new(topology::verification_subject(length, *uid, shard), payload);
    trace::inject_context(&mut message.headers);
    (message, id)
}
