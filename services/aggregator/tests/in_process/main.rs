//! The whole aggregator on the in-process bus, with results and verdicts as workers and verifiers
//! send them.

mod job_orders;
mod late_refutations;
mod panics;
mod stale_reads;
mod stored_manifests;

use std::{sync::Arc, time::Duration};

use forge_aggregator::{AggregatorSettings, JobCompletion, run};
use forge_bus::{
    MemoryBus, SharedBus,
    topology::{self, Bucket, JobLength, Queue, Stream, TopologySettings},
};
use forge_contract::{
    agent::Identity,
    artifact::VerificationDocument,
    envelope::Target,
    ids::{JobUid, PoolName},
    job::{JobRecord, JobState},
    protocol::{PROTOCOL, parse_message},
    shard_result::ShardResult,
    task::{OutcomeBatch, ReduceOrder, ShardOutcome, VerifierTask},
    verdict::VerdictOutcome,
};
use forge_documents::Job;
use forge_kernel::{
    KERNEL,
    backend::{Backend, scalar::Scalar},
    job_key::JobKey,
    request::Request,
};
use forge_service::{
    Metrics,
    executor::ShardExecution,
    job_keys, job_records, orders,
    registry::{self, AgentCapacity, Role},
    shard_messages::{self, Judgement},
};
use forge_store::Store;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);
const UID: JobUid = JobUid([1; 16]);

/// An aggregator and a job of two shards, with workers of two pools and a registered verifier.
struct Fixture {
    bus: SharedBus,
    store: Arc<Store>,
    metrics: Metrics,
    job: Job,
    key: JobKey,
    results: Vec<ShardResult>,
    workers: [Identity; 2],
    verifier: Identity,
    completions: mpsc::UnboundedReceiver<JobCompletion>,
    stop: CancellationToken,
    service: JoinHandle<Result<(), forge_bus::BusError>>,
}

impl Fixture {
    async fn start() -> Self {
        Self::start_with(AggregatorSettings::default().pool_quarantine_after).await
    }

    async fn start_with(pool_quarantine_after: usize) -> Self {
        Self::start_settings(AggregatorSettings { pool_quarantine_after, ..AggregatorSettings::default() })
            .await
    }

    async fn start_settings(settings: AggregatorSettings) -> Self {
        Self::start_on(settings, |bus| bus, Store::in_memory()).await
    }

    /// With an aggregator that sees the bus through `wrap`, and this store.
    async fn start_on(
        settings: AggregatorSettings,
        wrap: impl FnOnce(SharedBus) -> SharedBus,
        store: Store,
    ) -> Self {
        let envelope = json!({
            "op": {"name": "mc", "version": 1, "profile": "insurance.v1"},
            "args": {"iterations": 100_000, "claim_freq": 0.1, "claim_severity_mu": 6, "claim_severity_sig": 1},
            "ctx": {"job_id": "j"},
            "artifacts": {"include": ["result_json", "verification_json"]},
        });
        let job = Job::new(Request::from_json(envelope.to_string().as_bytes()).unwrap());
        let shards: Vec<_> = job.request.plan.shards().map(|shard| job.request.shard(shard)).collect();
        assert_eq!(shards.len(), 2);
        let results = Scalar.execute(&job.request.program, &shards, &()).unwrap();

        let bus: SharedBus = MemoryBus::new(TopologySettings::default());
        let store = Arc::new(store);
        let (sender, completions) = mpsc::unbounded_channel();
        let settings = AggregatorSettings { completions: Some(sender), ..settings };
        let (metrics, stop) = (Metrics::new("forge-aggregator"), CancellationToken::new());
        bus.prepare().await.unwrap();
        let service = tokio::spawn(run(
            wrap(bus.clone()),
            Arc::clone(&store),
            Identity::from_random([9; 32]),
            settings,
            metrics.clone(),
            stop.clone(),
        ));
        let workers = [1, 2].map(|number| Identity::from_random([number; 32]));
        let (verifier, key) = (Identity::from_random([3; 32]), JobKey::from([7; 32]));
        let fixture =
            Self { bus, store, metrics, job, key, results, workers, verifier, completions, stop, service };
        fixture.register_verifier().await;
        job_keys::create(fixture.bus.as_ref(), UID, &fixture.key).await.unwrap();
        assert!(job_records::create(fixture.bus.as_ref(), &Bucket::default_jobs(), &record()).await.unwrap());
        fixture
    }

    async fn register_verifier(&self) {
        let record = registry::agent_record(&self.verifier, Target::Any, AgentCapacity::none(), KERNEL);
        registry::register(self.bus.clone(), Role::Verifier, record, self.stop.clone()).await.unwrap();
    }

    async fn order_reduction(&self) {
        let (job_id, envelope) = (self.job.id.clone(), self.job.request.envelope.clone());
        let order = ReduceOrder { protocol: PROTOCOL, job_id, job_uid: UID, envelope, plan_us: 1 };
        let (message, id) = orders::build_reduce(order);
        self.bus.publish(message, &id).await.unwrap();
    }

    async fn return_result(&self, worker: usize, position: usize, result: &ShardResult) {
        let shard = self.job.request.plan.shards().nth(position).unwrap();
        let task = self.key.issue_task(UID, shard, [worker as u8; 16]);
        let task = self.job.shard_task(UID, shard, task);
        let bytes = result.encode().into();
        let (wall, cpu) = (Duration::from_millis(1), Duration::from_millis(1));
        let execution =
            ShardExecution { bytes, hash: result.digest(), iterations: result.iterations, wall, cpu };
        let (identity, pool) = (&self.workers[worker], pool(worker));
        let (message, id) = shard_messages::build_result(identity, &pool, &Scalar, &task, &execution);
        self.bus.publish(message, &id).await.unwrap();
    }

    /// The outcomes that were published so far.
    async fn outcomes(&self) -> Vec<ShardOutcome> {
        let filter = topology::outcomes_subject(UID);
        let mut replay = self.bus.replay(Stream::Verdicts, vec![filter]).await.unwrap();
        let mut outcomes = Vec::new();
        while let Some(stored) = replay.next_stored().await {
            outcomes.extend(parse_message::<OutcomeBatch>(&stored.message.payload).unwrap().outcomes);
        }
        outcomes
    }

    /// Orders the reduction, with a right and a wrong result of a shard, while the verifier is not
    /// in the registry. Its next heartbeat stores it again.
    async fn dispute_before_the_verifier_is_known(&self) {
        self.bus.delete(&Bucket::Agents, &self.verifier_key()).await.unwrap();
        self.order_reduction().await;
        self.return_result(0, 0, &self.results[0]).await;
        self.return_result(1, 0, &falsified(&self.results[0])).await;
    }

    fn verifier_key(&self) -> String {
        format!("verifiers.{}", self.verifier.id())
    }

    /// Waits for two verification requests; confirms right results and refutes wrong ones.
    async fn verify_two_claims(&self) {
        let mut queue = self.bus.open_queue(Queue::Verifications(JobLength::Short)).await.unwrap();
        let mut verified = 0;
        while verified < 2 {
            for delivery in timeout(PATIENCE, queue.fetch(2)).await.unwrap().unwrap() {
                let task: VerifierTask = serde_json::from_slice(&delivery.message.payload).unwrap();
                let (shard, claim) = (task.task.shard_id, task.claim.unwrap());
                let position = self.job.request.plan.shards().position(|planned| planned == shard).unwrap();
                let correct = self.results[position].digest();
                let outcome = match claim.result_hash == correct {
                    true => VerdictOutcome::Confirmed,
                    false => VerdictOutcome::Refuted,
                };
                let judgement = Judgement::from_execution(&Scalar, outcome, Some(correct), String::new());
                let (message, id) =
                    shard_messages::build_verdict(&self.verifier, UID, &task.task, &claim, judgement);
                self.bus.publish(message, &id).await.unwrap();
                verified += 1;
            }
        }
    }

    async fn completion(&mut self) -> JobCompletion {
        timeout(PATIENCE, self.completions.recv()).await.unwrap().unwrap()
    }

    /// The stored verification.json.
    async fn stored_verification(&self) -> Value {
        let manifest = self.store.get_manifest(&self.job.id).await.unwrap().unwrap();
        let reference = manifest.artifacts.iter().find(|artifact| artifact.name == "verification.json");
        serde_json::from_slice(&self.store.get_artifact(reference.unwrap()).await.unwrap()).unwrap()
    }

    async fn ended_record(&self) -> JobRecord {
        let read = async {
            loop {
                let record = job_records::get(self.bus.as_ref(), &Bucket::default_jobs(), &self.job.id).await;
                let record = record.unwrap().unwrap().record;
                if record.state.is_terminal() {
                    return record;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, read).await.unwrap()
    }

    /// The value of the sample of forge_results_total with this outcome; 0 if there is none.
    fn result_count(&self, outcome: &str) -> u64 {
        let metrics = self.metrics.encode();
        let label = format!("outcome=\"{outcome}\"");
        let mut samples = metrics.lines().filter(|line| line.starts_with("forge_results_total{"));
        let sample = samples.find(|line| line.contains(&label));
        sample.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    async fn wait_for_deleted_key(&self) {
        let deleted = async {
            while job_keys::load(self.bus.as_ref(), UID).await.unwrap().is_some() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, deleted).await.unwrap();
    }

    async fn shut_down(self) {
        self.stop.cancel();
        self.service.await.unwrap().unwrap();
    }
}

fn pool(worker: usize) -> PoolName {
    format!("pool-{worker}").parse().unwrap()
}

fn record() -> JobRecord {
    serde_json::from_value(json!({
        "schema": JobRecord::SCHEMA, "job_id": "j", "uid": UID, "state": "planned", "persist": true, "submission": 1,
        "submitted_at": "2026-11-23T04:21:23.123Z", "updated_at": "2026-11-23T04:21:23.123Z",
        "progress": {"iterations": 100_000, "iterations_done": 0, "shards": 2, "shards_done": 0,
            "shards_verified": 0},
    }))
    .unwrap()
}

/// The result with one occurrence more.
fn falsified(result: &ShardResult) -> ShardResult {
    let mut falsified = result.clone();
    falsified.components[0].occurrences += 1;
    falsified
}

#[tokio::test(start_paused = true)]
async fn contradiction_is_verified_counted_and_reported() {
    for wrong_result_first in [false, true] {
        let mut fixture = Fixture::start().await;
        let (right, wrong) = (fixture.results[0].clone(), falsified(&fixture.results[0]));
        fixture.order_reduction().await;
        if wrong_result_first {
            fixture.return_result(1, 0, &wrong).await;
            fixture.return_result(0, 0, &right).await;
        } else {
            fixture.return_result(0, 0, &right).await;
            fixture.return_result(1, 0, &wrong).await;
        }
        fixture.verify_two_claims().await;
        fixture.return_result(0, 1, &fixture.results[1]).await;
        let completion = fixture.completion().await;
        let cheat = fixture.workers[1].id();
        assert!(completion.executions.iter().all(|execution| execution.agent_id != *cheat));
        assert!(fixture.result_count("contradiction") >= 1);

        let stored = fixture.stored_verification().await;
        let document: VerificationDocument = serde_json::from_value(stored).unwrap();
        assert_eq!(document, completion.verification);
        assert_eq!(document.refuted.len(), 1);
        let [contradiction] = &document.contradictions[..] else { panic!("{document:#?}") };
        assert_eq!(document.suspect_pools, [pool(1)]);
        let (statement, refuted) = (&contradiction.statement, &document.refuted[0].statement);
        assert_eq!((&statement.agent_id, &statement.pool), (cheat, &pool(1)));
        assert_eq!((statement.shard_id, statement.task_id), (refuted.shard_id, refuted.task_id));
        assert_eq!(statement.result_hash, wrong.digest());
        assert!(contradiction.is_signature_valid() && document.refuted[0].is_signature_valid());
        let [confirmed] = &document.checked[..] else { panic!("{document:#?}") };
        assert_eq!((confirmed.statement.result_hash, &confirmed.statement.pool), (right.digest(), &pool(0)));
        fixture.shut_down().await;
    }
}

#[tokio::test(start_paused = true)]
async fn job_without_contradictions_completes_and_reveals_its_key() {
    let mut fixture = Fixture::start().await;
    fixture.order_reduction().await;
    for (position, result) in fixture.results.iter().enumerate() {
        fixture.return_result(0, position, result).await;
        // An equal result of another agent is a duplicate.
        fixture.return_result(1, position, result).await;
    }
    let completion = fixture.completion().await;
    assert_eq!(fixture.result_count("contradiction"), 0);
    assert_eq!(fixture.stored_verification().await["contradictions"], json!([]));
    let manifest = fixture.store.get_manifest(&fixture.job.id).await.unwrap().unwrap();
    assert_eq!((manifest.job_uid, manifest.job_key.0), (UID, *fixture.key.as_bytes()));
    let record = fixture.ended_record().await;
    assert_eq!((record.state, record.result), (JobState::Completed, Some(completion.job_result.hash)));
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn planner_is_told_what_became_of_every_result() {
    let fixture = Fixture::start().await;
    fixture.order_reduction().await;
    fixture.return_result(0, 0, &fixture.results[0]).await;
    // The result of another shard is not valid, and one without a task of this job has no effect.
    fixture.return_result(1, 1, &fixture.results[0]).await;
    let filter = topology::result_subject(&pool(1), UID, fixture.job.request.plan.shards().next().unwrap());
    fixture.bus.publish(forge_bus::Message::new(filter, "{}"), "invented").await.unwrap();
    let outcomes = async {
        loop {
            let outcomes = fixture.outcomes().await;
            if outcomes.len() == 2 && fixture.result_count("unknown") == 1 {
                return outcomes;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let outcomes = timeout(PATIENCE, outcomes).await.unwrap();
    let shards: Vec<_> = fixture.job.request.plan.shards().collect();
    let task = |position: usize| fixture.key.issue_task(UID, shards[position], [position as u8; 16]);
    let result_bytes = fixture.results[0].encode().len() as u64;
    let accepted =
        ShardOutcome::Accepted { shard_id: shards[0], task_id: task(0), wall_us: 1000, result_bytes };
    assert_eq!(outcomes, [accepted, ShardOutcome::Rejected { shard_id: shards[1], task_id: task(1) }]);
    fixture.shut_down().await;
}

/// An aggregator that lost its lease may have accepted a result, and this one removed it.
#[tokio::test(start_paused = true)]
async fn shards_that_another_aggregator_accepted_are_reopened_without_a_result() {
    let fixture = Fixture::start().await;
    let shards: Vec<_> = fixture.job.request.plan.shards().collect();
    let accept = async |position: usize| {
        let task_id = fixture.key.issue_task(UID, shards[position], [1; 16]);
        let outcome =
            ShardOutcome::Accepted { shard_id: shards[position], task_id, wall_us: 1, result_bytes: 1 };
        let (message, id) = shard_messages::build_outcomes(UID, vec![outcome]);
        fixture.bus.publish(message, &id).await.unwrap();
    };
    let reopened = async |position: usize| {
        let outcome = ShardOutcome::Reopened { shard_id: shards[position] };
        while !fixture.outcomes().await.contains(&outcome) {
            sleep(Duration::from_millis(100)).await;
        }
    };
    accept(0).await;
    fixture.order_reduction().await;
    timeout(PATIENCE, reopened(0)).await.unwrap();
    // One that lives on while this one reduces the job, too.
    accept(1).await;
    timeout(2 * PATIENCE, reopened(1)).await.unwrap();
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn pool_with_enough_quarantined_agents_is_quarantined_as_a_whole() {
    let fixture = Fixture::start_with(1).await;
    fixture.order_reduction().await;
    fixture.return_result(0, 0, &fixture.results[0]).await;
    fixture.return_result(1, 0, &falsified(&fixture.results[0])).await;
    fixture.verify_two_claims().await;
    let key = registry::pool_quarantine_key(&pool(1));
    let quarantined = async {
        while fixture.bus.get(&Bucket::Agents, &key).await.unwrap().is_none() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, quarantined).await.unwrap();
    assert!(
        fixture.bus.get(&Bucket::Agents, &registry::pool_quarantine_key(&pool(0))).await.unwrap().is_none()
    );
    fixture.shut_down().await;
}
