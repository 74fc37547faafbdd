//! Taking in a job's results: reads them off the bus, checks that each is what it says it is, and carries out what the
//! [`Fold`] decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use forge_bus::{
    Message, ReplayContent, StoredMessage,
    topology::{self, Bucket, ShardMessageKind},
};
use forge_contract::{
    agent::AgentId,
    artifact::Phase,
    digest::Digest,
    error::FailureCode,
    job::JobState,
    shard::ShardId,
    shard_result::ShardResult,
    task::{Attestation, Claim, EndOrder, ReduceOrder, VerifierTask},
    verdict::VerdictOutcome,
};
use forge_documents::Job;
use forge_kernel::request::Request;
use forge_service::{
    job_records,
    metrics::ResultOutcome,
    queue_worker::Settlement,
    registry::Role,
    retry::retry_until_stopped,
    shard_messages::{self, Judgement},
    trace,
};
use futures_util::{FutureExt, StreamExt};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    aggregator::Aggregator,
    fold::{Fold, Meaning, Taken},
};

/// Time between two reports of progress.
const REPORT: Duration = Duration::from_millis(250);

/// A job whose results are all there.
pub(crate) struct Gathered {
    pub fold: Fold,
    pub bucket: Bucket,
    pub planning: Duration,
    pub executing: Duration,
    /// The shards' results, if they are kept.
    pub kept: BTreeMap<ShardId, Bytes>,
}

/// How gathering ended, unless well.
enum Interrupted {
    /// A result that counted does not any more.
    BeginAnew(BTreeSet<AgentId>),
    /// The job cannot go on.
    Failed(EndOrder),
}

/// A job while its results come in.
struct Intake<'a> {
    aggregator: &'a Aggregator,
    bucket: &'a Bucket,
    ended: &'a CancellationToken,
    fold: Fold,
    /// Messages to send once all that is there has been looked at.
    rejections: Vec<(Message, String)>,
    kept: BTreeMap<ShardId, Bytes>,
}

impl Aggregator {
    /// Takes in a job until it has ended.
    pub(crate) async fn take_in(&self, order: ReduceOrder) -> Settlement {
        let bucket = Bucket::Jobs(order.envelope.artifacts.kv_namespace.clone());
        let endings = retry_until_stopped(&self.stop, "looking at the job's record", || {
            self.job_watch.watch(&bucket, &order.job_id)
        });
        let Some(ending) = endings.await else { return Settlement::Retry(Duration::ZERO) };
        let ended = ending.token();
        let gathered = tokio::select! {
            () = ended.cancelled() => None,
            () = self.stop.cancelled() => return Settlement::Retry(Duration::ZERO),
            gathered = self.gather(&order, &bucket, ended) => Some(gathered),
        };
        // Not dropped when the job has ended: that is what this does.
        let done = async {
            match gathered {
                Some(Ok(gathered)) => self.complete(gathered).await,
                Some(Err(failure)) => self.fail(&bucket, failure).await,
                None => self.clear(&order.job_id).await,
            }
        };
        match self.stop.run_until_cancelled(done).await {
            Some(Ok(())) => Settlement::Ack,
            Some(Err(error)) => self.later(&error),
            None => Settlement::Retry(Duration::ZERO),
        }
    }

    async fn gather(
        &self,
        order: &ReduceOrder,
        bucket: &Bucket,
        ended: &CancellationToken,
    ) -> Result<Gathered, EndOrder> {
        let started = Instant::now();
        let job = Arc::new(self.read(order, bucket)?);
        let mut excluded = BTreeSet::new();
        loop {
            let intake = Intake {
                aggregator: self,
                bucket,
                ended,
                fold: Fold::new(Arc::clone(&job), &self.verify_key, excluded),
                rejections: Vec::new(),
                kept: BTreeMap::new(),
            };
            match intake.gather().await {
                Ok((fold, kept)) => {
                    return Ok(Gathered {
                        fold,
                        bucket: bucket.clone(),
                        planning: Duration::from_micros(order.plan_us),
                        executing: started.elapsed(),
                        kept,
                    });
                }
                Err(Interrupted::Failed(failure)) => return Err(failure),
                Err(Interrupted::BeginAnew(agents)) => {
                    tracing::warn!(job = %job.id, ?agents, "the job's results are taken in anew, without these agents");
                    excluded = agents;
                }
            }
        }
    }

    fn read(&self, order: &ReduceOrder, bucket: &Bucket) -> Result<Job, EndOrder> {
        let (envelope, models) = (order.envelope.clone(), self.settings.models.as_ref());
        let request = Request::from_envelope_with(envelope, models).map_err(|invalid| {
            let message = format!("the planner accepted an envelope that is not valid here: {invalid}");
            EndOrder::new(order.job_id.clone(), bucket.name(), FailureCode::Internal, Phase::Reduce, message)
        })?;
        Ok(Job::new(request))
    }
}

impl Intake<'_> {
    async fn gather(mut self) -> Result<(Fold, BTreeMap<ShardId, Bytes>), Interrupted> {
        let job = self.fold.job().id.clone();
        let bus = &self.aggregator.bus;
        let opened = retry_until_stopped(self.ended, "reading results", || {
            bus.replay(topology::shard_message_subjects(&job), ReplayContent::Full)
        });
        let Some(mut outcomes) = opened.await else { return std::future::pending().await };
        let mut report = interval(REPORT);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        report.reset();
        while !self.fold.is_complete() {
            tokio::select! {
                outcome = outcomes.next() => match outcome {
                    Some(outcome) => self.take(outcome).await?,
                    None => return std::future::pending().await,
                },
                _ = report.tick() => self.report().await,
            }
            while let Some(Some(outcome)) = outcomes.next().now_or_never() {
                self.take(outcome).await?;
            }
            self.send().await;
        }
        Ok((self.fold, self.kept))
    }

    async fn take(&mut self, stored: StoredMessage) -> Result<(), Interrupted> {
        let Some((kind, _, shard)) = topology::parse_shard_message_subject(&stored.message.subject) else {
            return Ok(());
        };
        match kind {
            ShardMessageKind::Result => self.take_result(shard, stored).await,
            ShardMessageKind::Verdict => self.take_verdict(shard, &stored.message).await?,
        }
        Ok(())
    }

    async fn take_result(&mut self, shard: ShardId, stored: StoredMessage) {
        let Some(attestation) = shard_messages::parse_attestation(&stored.message) else {
            let subject = &stored.message.subject;
            tracing::warn!(subject, "a result without an attestation is ignored");
            return;
        };
        let metrics = &self.aggregator.metrics;
        // Cheap before dear: what is not needed is not looked at further, unless it contradicts.
        if self.fold.counts(shard, &attestation) {
            metrics.count_result(ResultOutcome::Duplicate);
            return;
        }
        let payload = stored.message.payload;
        let taken = match self.examine(shard, &attestation, &payload).await {
            Ok(result) => self.fold.take(shard, attestation.clone(), &result),
            Err(reason) => Taken::Wrong(reason),
        };
        match taken {
            Taken::Accepted => {
                metrics.count_result(ResultOutcome::Accepted);
                if self.aggregator.settings.keep_shards {
                    self.kept.insert(shard, payload);
                }
            }
            Taken::NotNeeded => metrics.count_result(ResultOutcome::Duplicate),
            Taken::Contradicts => metrics.count_result(ResultOutcome::Duplicate),
            Taken::Wrong(reason) => {
                metrics.count_result(ResultOutcome::Rejected);
                self.reject(shard, &attestation, stored.sequence, reason);
            }
        }
    }

    /// Checks everything about a result that can be checked without executing its shard.
    async fn examine(
        &self,
        shard: ShardId,
        attestation: &Attestation,
        payload: &[u8],
    ) -> Result<ShardResult, String> {
        let agent = &attestation.agent_id;
        let registry = &self.aggregator.registry;
        if self.fold.excluded().contains(agent) || registry.is_quarantined(agent) {
            return Err("the agent is in quarantine".to_owned());
        }
        if !attestation.is_signature_valid(&self.fold.job().id, shard) {
            return Err("the signature is not the agent's".to_owned());
        }
        let executes = [Role::Worker, Role::Verifier];
        let registered = retry_until_stopped(self.ended, "looking up an agent", || {
            registry.is_registered(agent, &executes)
        });
        if registered.await != Some(true) {
            return Err("the agent is not registered".to_owned());
        }
        let found = Digest::hash_parts(&[payload]);
        if found != attestation.result_hash {
            return Err(format!("its bytes have the hash {found}, not the attested one"));
        }
        ShardResult::decode(payload).map_err(|error| format!("it is no result: {error}"))
    }

    /// Has the shard executed again, if its result is still wanted.
    fn reject(&mut self, shard: ShardId, attestation: &Attestation, sequence: u64, reason: String) {
        let job = &self.fold.job().id;
        tracing::warn!(%job, %shard, agent = %attestation.agent_id, reason, "a result is rejected");
        if !self.fold.wants(shard) {
            return;
        }
        let judgement = Judgement::without_execution(VerdictOutcome::Rejected, reason);
        let (agent, hash) = (&attestation.agent_id, attestation.result_hash);
        let identity = &self.aggregator.identity;
        let (message, id) = shard_messages::build_verdict(identity, job, shard, agent, hash, judgement);
        // An agent may return the same wrong result again, and every time the shard is to be executed again.
        self.rejections.push((message, format!("{id}.{sequence}")));
    }

    async fn take_verdict(&mut self, shard: ShardId, message: &Message) -> Result<(), Interrupted> {
        let job = &self.fold.job().id;
        let Some(verdict) = shard_messages::parse_signed_verdict(message, job, shard) else {
            tracing::warn!(%job, %shard, "a verdict that nobody signed is ignored");
            return Ok(());
        };
        let registry = &self.aggregator.registry;
        let judges = [Role::Verifier, Role::Aggregator];
        let registered = retry_until_stopped(self.ended, "looking up a verifier", || {
            registry.is_registered(&verdict.verifier_id, &judges)
        });
        if registered.await != Some(true) {
            tracing::warn!(%job, %shard, verifier = %verdict.verifier_id, "a verdict of no registered verifier is ignored");
            return Ok(());
        }
        match self.fold.judge(shard, &verdict) {
            Meaning::Noted => Ok(()),
            Meaning::BeginAnew => Err(Interrupted::BeginAnew(self.fold.excluded().clone())),
            Meaning::Undecided => {
                let message = format!("shard {shard}: {}", verdict.reason);
                let (job, code) = (self.fold.job().id.clone(), FailureCode::VerificationFailed);
                let order = EndOrder::new(job, self.bucket.name(), code, Phase::Verify, message);
                Err(Interrupted::Failed(order))
            }
        }
    }

    /// Sends what is to be sent: rejections, and results to check.
    async fn send(&mut self) {
        let mut messages = std::mem::take(&mut self.rejections);
        let job = Arc::clone(self.fold.job());
        messages
            .extend(self.fold.checks_to_ask().into_iter().map(|(shard, claim)| check(&job, shard, claim)));
        if messages.is_empty() {
            return;
        }
        let bus = &self.aggregator.bus;
        retry_until_stopped(self.ended, "sending checks", || bus.publish_all(messages.clone())).await;
    }

    async fn report(&self) {
        let progress = self.fold.progress();
        let job = &self.fold.job().id;
        let written = job_records::update(self.aggregator.bus.as_ref(), self.bucket, job, |record| {
            let changed = record.progress != progress || record.state < JobState::Running;
            record.state = record.state.max(JobState::Running);
            record.progress = progress;
            changed
        })
        .await;
        if let Err(error) = written {
            tracing::warn!(%job, %error, "progress could not be reported");
        }
    }
}

fn check(job: &Job, shard: ShardId, claim: Claim) -> (Message, String) {
    let id = format!("check.{}.{shard}.{}.{}", job.id, claim.agent_id, claim.result_hash);
    let task = job.shard_task(shard, 0);
    let payload = serde_json::to_vec(&VerifierTask { task, claim: Some(claim) });
    let payload = payload.expect("a task is made of strings and numbers");
    let mut message = Message::new(topology::verification_subject(&job.id, shard), payload);
    trace::inject_context(&mut message.headers);
    (message, id)
}
