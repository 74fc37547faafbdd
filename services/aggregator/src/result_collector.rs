//! Collecting a job's results: reads results and verdicts off the bus, has each examined, feeds the
//! [`JobReduction`] and carries out what it decides. Writes the job's progress, never its end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use forge_bus::{
    Message, ReplayContent, SharedBus, StoredMessage,
    topology::{self, Bucket, ShardMessageKind},
};
use forge_contract::{
    agent::{AgentId, Identity},
    artifact::Phase,
    error::FailureCode,
    job::JobState,
    shard::ShardId,
    shard_result::ShardResult,
    task::{Attestation, Claim, EndOrder, VerifierTask},
    verdict::VerdictOutcome,
};
use forge_documents::Job;
use forge_service::{
    Metrics, job_records,
    metrics::ResultOutcome,
    retry::retry_until_stopped,
    shard_messages::{self, Judgement},
    trace,
};
use futures_util::{FutureExt, StreamExt};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    examiner::{ClaimedResult, Examiner},
    kept_results::{KeptResults, KeptResultsLimit},
    reduction::{AggregationError, JobReduction, ReducedJob, ResultDisposition, VerdictEffect},
    verification_key::VerificationKey,
};

/// Interval between two updates of a job's progress in its record.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// Collects the results of jobs.
#[derive(Debug)]
pub(crate) struct ResultCollector {
    pub bus: SharedBus,
    pub examiner: Examiner,
    /// Signs the rejections of invalid results.
    pub identity: Arc<Identity>,
    pub verification_key: VerificationKey,
    pub metrics: Metrics,
    /// How much of the shards' results is returned.
    pub kept_results: KeptResultsLimit,
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
    /// An accepted result was refuted.
    AcceptedResultRefuted,
    /// The job cannot complete.
    JobFailed(EndOrder),
}

/// One pass over the messages about a job's shards.
struct Collection<'a> {
    collector: &'a ResultCollector,
    bucket: &'a Bucket,
    job_end: &'a CancellationToken,
    job: Arc<Job>,
    reduction: JobReduction,
    /// Rejections that have not been published: message and its deduplication id.
    rejections: Vec<(Message, String)>,
    kept_results: KeptResults,
}

impl ResultCollector {
    /// Collects results until the job is complete. The caller must drop the future once `job_end`
    /// is cancelled, because it may wait forever then. `bucket` holds the job's record; `started`
    /// is when the reduce order was received.
    ///
    /// # Errors
    /// The order to end a job that cannot complete.
    pub async fn collect(
        &self,
        job: &Arc<Job>,
        bucket: &Bucket,
        job_end: &CancellationToken,
        started: Instant,
    ) -> Result<CollectedResults, EndOrder> {
        let mut reduction = JobReduction::new(Arc::clone(job), self.verification_key.clone());
        loop {
            let mut collection = Collection {
                collector: self,
                bucket,
                job_end,
                job: Arc::clone(job),
                reduction,
                rejections: Vec::new(),
                kept_results: KeptResults::new(self.kept_results.clone()),
            };
            match collection.run().await {
                Ok(reduced) => {
                    let (execution_duration, kept_results) = (started.elapsed(), collection.kept_results);
                    return Ok(CollectedResults { reduced, execution_duration, kept_results });
                }
                Err(Interruption::JobFailed(order)) => return Err(order),
                Err(Interruption::AcceptedResultRefuted) => {
                    reduction = collection.reduction.restart();
                    let excluded = reduction.excluded_agents();
                    tracing::warn!(
                        job = %job.id, ?excluded,
                        "an accepted result was refuted; restarting the reduction without these agents"
                    );
                }
            }
        }
    }
}

impl Collection<'_> {
    async fn run(&mut self) -> Result<ReducedJob, Interruption> {
        let bus = &self.collector.bus;
        let replay = retry_until_stopped(self.job_end, "reading results", || {
            bus.replay(topology::shard_message_subjects(&self.job.id), ReplayContent::Full)
        });
        let Some(mut messages) = replay.await else { return std::future::pending().await };
        let mut progress_ticks = interval(PROGRESS_INTERVAL);
        progress_ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        progress_ticks.reset();
        while !self.reduction.is_complete() {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => self.handle_message(message).await?,
                    None => return std::future::pending().await,
                },
                _ = progress_ticks.tick() => self.write_progress().await,
            }
            // Handling everything that has arrived before publishing sends messages in batches.
            while let Some(Some(message)) = messages.next().now_or_never() {
                self.handle_message(message).await?;
            }
            self.publish_pending().await;
        }
        self.reduction.reduced_job().map_err(|error| self.aggregation_failed(&error))
    }

    async fn handle_message(&mut self, stored: StoredMessage) -> Result<(), Interruption> {
        let subject = &stored.message.subject;
        match topology::parse_shard_message_subject(subject) {
            Some((ShardMessageKind::Result, _, shard)) => self.handle_result(shard, stored).await,
            Some((ShardMessageKind::Verdict, _, shard)) => self.handle_verdict(shard, &stored.message).await,
            None => Ok(()),
        }
    }

    async fn handle_result(&mut self, shard: ShardId, stored: StoredMessage) -> Result<(), Interruption> {
        let Some(attestation) = shard_messages::parse_attestation(&stored.message) else {
            let subject = &stored.message.subject;
            tracing::warn!(subject, "ignoring a result without an attestation");
            return Ok(());
        };
        // The cheap test first: a redelivered result is not examined again.
        if self.reduction.is_accepted(shard, &attestation) {
            self.collector.metrics.count_result(ResultOutcome::Duplicate);
            return Ok(());
        }
        let payload = stored.message.payload;
        let disposition = match self.examine(shard, &attestation, &payload).await {
            Ok(result) => self
                .reduction
                .add_result(shard, attestation.clone(), &result)
                .map_err(|error| self.aggregation_failed(&error))?,
            Err(reason) => ResultDisposition::Invalid(reason),
        };
        self.collector.metrics.count_result(match &disposition {
            ResultDisposition::Accepted => ResultOutcome::Accepted,
            ResultDisposition::Redundant => ResultOutcome::Duplicate,
            ResultDisposition::Contradicting(_) => ResultOutcome::Contradiction,
            ResultDisposition::Invalid(_) => ResultOutcome::Rejected,
        });
        match disposition {
            ResultDisposition::Accepted => self.kept_results.insert(shard, payload),
            ResultDisposition::Redundant => {}
            ResultDisposition::Contradicting(accepted_agent) => {
                self.log_contradiction(shard, &attestation, &accepted_agent);
            }
            ResultDisposition::Invalid(reason) => {
                self.reject(shard, &attestation, stored.sequence, reason);
            }
        }
        Ok(())
    }

    async fn examine(
        &self,
        shard: ShardId,
        attestation: &Attestation,
        payload: &[u8],
    ) -> Result<ShardResult, String> {
        let claimed = ClaimedResult { job: &self.job.id, shard, attestation, payload };
        let excluded = self.reduction.excluded_agents();
        self.collector.examiner.examine_result(claimed, excluded, self.job_end).await
    }

    fn log_contradiction(&self, shard: ShardId, attestation: &Attestation, accepted_agent: &AgentId) {
        let (job, agent) = (&self.job.id, &attestation.agent_id);
        if agent == accepted_agent {
            tracing::warn!(%job, %shard, %agent, "the agent returned two different results of the shard");
        } else {
            tracing::warn!(
                %job, %shard, %agent, %accepted_agent,
                "a result contradicts the accepted result of its shard; both are verified"
            );
        }
    }

    /// Rejects an invalid result, so that the planner dispatches its shard again.
    fn reject(&mut self, shard: ShardId, attestation: &Attestation, sequence: u64, reason: String) {
        let (job, agent) = (&self.job.id, &attestation.agent_id);
        tracing::warn!(%job, %shard, %agent, reason, "a result is invalid; rejecting it");
        if !self.reduction.needs_result(shard) {
            return;
        }
        let judgement = Judgement::without_execution(VerdictOutcome::Rejected, reason);
        let (identity, hash) = (&self.collector.identity, attestation.result_hash);
        let (message, id) = shard_messages::build_verdict(identity, job, shard, agent, hash, judgement);
        // The sequence makes the id unique: if an agent returns the same invalid result again, the
        // stream must not drop the second rejection as a duplicate.
        self.rejections.push((message, format!("{id}.{sequence}")));
    }

    async fn handle_verdict(&mut self, shard: ShardId, message: &Message) -> Result<(), Interruption> {
        let examiner = &self.collector.examiner;
        let verdict = examiner.examine_verdict(&self.job.id, shard, message, self.job_end).await;
        let Some(verdict) = verdict else { return Ok(()) };
        match self.reduction.apply_verdict(shard, &verdict) {
            VerdictEffect::Recorded => Ok(()),
            VerdictEffect::RestartRequired => Err(Interruption::AcceptedResultRefuted),
            VerdictEffect::Undecidable => {
                let message = format!("shard {shard}: {}", verdict.reason);
                Err(self.job_failed(FailureCode::VerificationFailed, Phase::Verify, message))
            }
        }
    }

    fn aggregation_failed(&self, error: &AggregationError) -> Interruption {
        tracing::error!(job = %self.job.id, %error, "the reduction contradicts the plan; failing the job");
        let message = format!("the results could not be merged: {error}");
        self.job_failed(FailureCode::AggregationFailed, Phase::Reduce, message)
    }

    fn job_failed(&self, code: FailureCode, phase: Phase, message: String) -> Interruption {
        let job = self.job.id.clone();
        Interruption::JobFailed(EndOrder::new(job, self.bucket.name(), code, phase, message))
    }

    /// Publishes rejections and requests for verification.
    async fn publish_pending(&mut self) {
        let mut messages = std::mem::take(&mut self.rejections);
        let requests = self.reduction.take_verification_requests().into_iter();
        messages.extend(requests.map(|(shard, claim)| verification_request(&self.job, shard, claim)));
        if messages.is_empty() {
            return;
        }
        let bus = &self.collector.bus;
        retry_until_stopped(self.job_end, "publishing rejections and verification requests", || {
            bus.publish_all(messages.clone())
        })
        .await;
    }

    async fn write_progress(&self) {
        let (bus, job) = (self.collector.bus.as_ref(), &self.job.id);
        let progress = self.reduction.progress();
        let update = job_records::update(bus, self.bucket, job, |record| {
            let changed = record.progress != progress || record.state < JobState::Running;
            record.state = record.state.max(JobState::Running);
            record.progress = progress;
            changed
        });
        if let Err(error) = update.await {
            tracing::warn!(%job, %error, "writing the job's progress failed; retrying at the next interval");
        }
    }
}

/// The message that asks a verifier to re-execute a shard, and its deduplication id.
fn verification_request(job: &Job, shard: ShardId, claim: Claim) -> (Message, String) {
    let id = format!("check.{}.{shard}.{}.{}", job.id, claim.agent_id, claim.result_hash);
    let task = job.shard_task(shard, 0);
    let payload = serde_json::to_vec(&VerifierTask { task, claim: Some(claim) });
    let payload = payload.expect("a verifier task serializes to JSON");
    let mut message = Message::new(topology::verification_subject(&job.id, shard), payload);
    trace::inject_context(&mut message.headers);
    (message, id)
}
