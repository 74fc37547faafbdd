//! The memory and the slots of all jobs together are bounded: further jobs wait, can be ended while
//! they wait, and jobs without progress make way for them.

use std::{sync::Arc, time::Duration};

use forge_aggregator::{AggregatorSettings, run};
use forge_bus::{
    MemoryBus, SharedBus,
    topology::{Bucket, TopologySettings},
};
use forge_contract::{
    agent::Identity,
    artifact::Phase,
    error::FailureCode,
    ids::JobUid,
    job::{JobRecord, JobState},
    protocol::PROTOCOL,
    task::{EndOrder, ReduceOrder},
};
use forge_kernel::{job_key::JobKey, request::Request};
use forge_service::{Metrics, job_keys, job_memory, job_records, orders};
use forge_store::Store;
use serde_json::json;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

/// Jobs of two shards, whose ids are one character.
struct Jobs(SharedBus);

fn request(job: &str) -> Request {
    let envelope = json!({
        "op": {"name": "mc", "version": 1, "profile": "insurance.v1"},
        "args": {"iterations": 100_000, "claim_freq": 0.1, "claim_severity_mu": 6, "claim_severity_sig": 1},
        "ctx": {"job_id": job},
        "artifacts": {"persist": false},
    });
    Request::from_json(envelope.to_string().as_bytes()).unwrap()
}

fn uid(job: &str) -> JobUid {
    JobUid([job.as_bytes()[0]; 16])
}

impl Jobs {
    async fn order_reduction(&self, job: &str) {
        let (uid, job_id) = (uid(job), job.parse().unwrap());
        let time = "2026-11-23T04:21:23.123Z";
        let record: JobRecord = serde_json::from_value(json!({
            "schema": JobRecord::SCHEMA, "job_id": job, "uid": uid, "state": "planned", "persist": false,
            "submission": 1, "submitted_at": time, "updated_at": time,
            "progress": {"iterations": 100_000, "iterations_done": 0, "shards": 2, "shards_done": 0,
                "shards_verified": 0},
        }))
        .unwrap();
        assert!(job_records::create(self.0.as_ref(), &Bucket::default_jobs(), &record).await.unwrap());
        job_keys::create(self.0.as_ref(), uid, &JobKey::from([7; 32])).await.unwrap();
        let envelope = request(job).envelope;
        let order = ReduceOrder { protocol: PROTOCOL, job_id, job_uid: uid, envelope, plan_us: 1 };
        let (message, id) = orders::build_reduce(order);
        self.0.publish(message, &id).await.unwrap();
    }

    async fn cancel(&self, job: &str) {
        let (job_id, code) = (job.parse().unwrap(), FailureCode::Cancelled);
        let order = EndOrder::new(job_id, uid(job), "jobs", code, Phase::Execute, "cancelled on request");
        let (message, id) = orders::build_end(order);
        self.0.publish(message, &id).await.unwrap();
    }

    async fn record(&self, job: &str) -> JobRecord {
        let job = job.parse().unwrap();
        job_records::get(self.0.as_ref(), &Bucket::default_jobs(), &job).await.unwrap().unwrap().record
    }

    async fn wait_for(&self, job: &str, state: JobState) -> JobRecord {
        let reached = async {
            loop {
                let record = self.record(job).await;
                if record.state == state {
                    return record;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("job {job} does not become {state:?}"))
    }
}

/// Runs `test` beside an aggregator with this much memory for jobs.
async fn with_memory(job_memory: u64, test: impl AsyncFnOnce(Jobs)) {
    with_settings(AggregatorSettings { job_memory, ..AggregatorSettings::default() }, test).await;
}

async fn with_settings(settings: AggregatorSettings, test: impl AsyncFnOnce(Jobs)) {
    let bus: SharedBus = MemoryBus::new(TopologySettings::default());
    bus.prepare().await.unwrap();
    let (stop, identity) = (CancellationToken::new(), Identity::from_random([9; 32]));
    let (store, metrics) = (Arc::new(Store::in_memory()), Metrics::new("forge-aggregator"));
    let service = tokio::spawn(run(bus.clone(), store, identity, settings, metrics, stop.clone()));
    test(Jobs(bus)).await;
    stop.cancel();
    service.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_job_beyond_the_memory_waits_and_can_be_cancelled() {
    let one_job = job_memory::aggregation_bytes(&request("a"));
    with_memory(one_job * 3 / 2, async |jobs: Jobs| {
        jobs.order_reduction("a").await;
        jobs.wait_for("a", JobState::Running).await;
        jobs.order_reduction("b").await;
        jobs.cancel("b").await;
        jobs.wait_for("b", JobState::Cancelled).await;
        jobs.order_reduction("c").await;
        // Progress is written every 250 ms.
        sleep(Duration::from_millis(600)).await;
        let record = jobs.record("c").await;
        let waiting = Some("other jobs take the memory of the aggregator");
        assert_eq!((record.state, record.waiting.as_deref()), (JobState::Planned, waiting));
        jobs.cancel("a").await;
        assert_eq!(jobs.wait_for("c", JobState::Running).await.waiting, None);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_job_beyond_all_memory_fails_and_says_why() {
    with_memory(1 << 20, async |jobs: Jobs| {
        jobs.order_reduction("a").await;
        let error = jobs.wait_for("a", JobState::Failed).await.error.unwrap();
        assert_eq!(error.code, FailureCode::AggregationFailed);
        assert!(error.message.contains("has 1 MiB for jobs (FORGE_JOB_MEMORY_MIB)"), "{}", error.message);
    })
    .await;
}

/// Jobs for hardware that is not there get no results. They take turns in the slots.
#[tokio::test(start_paused = true)]
async fn jobs_without_progress_make_way_for_others() {
    let settings = AggregatorSettings { max_jobs: 1, ..AggregatorSettings::default() };
    with_settings(settings, async |jobs: Jobs| {
        jobs.order_reduction("a").await;
        jobs.wait_for("a", JobState::Running).await;
        jobs.order_reduction("b").await;
        jobs.wait_for("b", JobState::Running).await;
        jobs.cancel("b").await;
        jobs.wait_for("b", JobState::Cancelled).await;
        assert_eq!(jobs.record("a").await.state, JobState::Running);
    })
    .await;
}
