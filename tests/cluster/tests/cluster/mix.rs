//! Several jobs in flight at once, a witness of their records, and the documents they leave.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use forge_bus::{
    ReplayContent, SharedBus,
    jetstream::{JetStreamBus, JetStreamOptions},
    topology::{self, Bucket, Queue},
};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::support::{Cluster, Place, insurance, with};

/// Everything that a job can leave.
const ALL: [&str; 5] = ["result_json", "executions_json", "metrics_json", "verification_json", "plan_json"];

/// A cluster whose worker takes its time: the scalar reference does about a hundred leaves a second.
pub fn slow(place: Place) -> Cluster {
    let mut cluster = Cluster::empty(place);
    start_slow(&mut cluster);
    cluster
}

/// Starts one of each service; see [`slow`].
pub fn start_slow(cluster: &mut Cluster) {
    for service in ["planner", "aggregator", "verifier"] {
        cluster.spawn(service, &[service]);
    }
    cluster.spawn("worker", &["worker", "--backend", "scalar"]);
}

/// Jobs of different models, sizes and policies; the last one converges before its budget is used up.
pub fn mix(prefix: &str) -> [Value; 3] {
    let name = |what: &str| format!("{prefix}-{what}");
    let large = with(insurance(&name("large"), 240), "/policy", json!({"verify": "spotcheck"}));
    let middle = with(eta(&name("eta"), 120), "/policy", json!({"verify": "full"}));
    let converges = with(insurance(&name("converges"), 4000), "/args/convergence", convergence());
    let converges = with(converges, "/policy", json!({"verify": "spotcheck", "verify_ratio": 0.5}));
    [large, middle, converges].map(|envelope| with(envelope, "/artifacts/include", json!(ALL)))
}

/// Reached by [`insurance`] after 64 leaves.
pub fn convergence() -> Value {
    json!({"metric": "mean", "relative_half_width": 0.006})
}

/// A job of the other profile.
pub fn eta(job: &str, leaves: u64) -> Value {
    json!({
        "ctx": {"job_id": job},
        "op": {"name": "mc", "version": 1, "profile": "eta.v1"},
        "args": {
            "iterations": leaves * 65_536, "base_eta": 1800, "traffic_mean": 300, "traffic_std": 120,
            "weather_prob": 0.1, "weather_mean": 240, "weather_std": 90,
            "incident_prob": 0.02, "incident_mean": 900, "incident_std": 400
        },
        "seed": {"mode": "derived"}
    })
}

/// The job id of an envelope.
pub fn id(envelope: &Value) -> &str {
    envelope["ctx"]["job_id"].as_str().unwrap()
}

/// Submits envelopes.
#[track_caller]
pub fn submit_all(cluster: &Cluster, envelopes: &[Value]) {
    envelopes.iter().for_each(|envelope| drop(cluster.submit(envelope)));
}

/// Waits for all, which have to complete with the results of `forge run`, each with one terminal record.
#[track_caller]
pub fn all_complete(cluster: &Cluster, witness: &Witness, envelopes: &[Value]) -> Vec<Value> {
    let records: Vec<_> = envelopes.iter().map(|envelope| cluster.completes(envelope)).collect();
    envelopes.iter().for_each(|envelope| witness.saw_one_end(id(envelope)));
    records
}

/// Waits until a job has returned so many shards, or has ended.
#[track_caller]
pub fn until_shards(cluster: &Cluster, job: &str, shards: u64) {
    cluster.wait_until(job, "so far", |record| {
        record["progress"]["shards_done"].as_u64().is_some_and(|done| done >= shards)
            || matches!(record["state"].as_str(), Some("completed" | "failed" | "cancelled"))
    });
}

/// A document that a job left in the directory.
#[track_caller]
pub fn document(cluster: &Cluster, record: &Value, name: &str) -> Value {
    let kept = record["artifacts"].as_array().unwrap();
    let found = kept.iter().find(|artifact| artifact["name"] == name);
    let hash = found.unwrap_or_else(|| panic!("no {name}: {record:#}"))["sha256"].as_str().unwrap();
    let path = cluster.directory.path().join("out/artifacts/sha256").join(hash).join(name);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The states that each job's record was seen in, with their revisions.
type Seen = Arc<Mutex<BTreeMap<String, Vec<(u64, String)>>>>;

/// A client of the cluster's bus that sees what becomes of job records.
pub struct Witness {
    runtime: Runtime,
    pub bus: SharedBus,
    seen: Seen,
}

impl Witness {
    /// Connects; services have to be there, or to come.
    pub fn of(cluster: &Cluster) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let options =
            JetStreamOptions { manage_topology: false, ..JetStreamOptions::new(cluster.nats.url()) };
        let bus: SharedBus = runtime.block_on(JetStreamBus::connect(options)).unwrap();
        let seen = Seen::default();
        let mut changes = runtime.block_on(async {
            loop {
                match bus.watch(&Bucket::default_jobs(), ">").await {
                    Ok(changes) => return changes,
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
        let states = Arc::clone(&seen);
        runtime.spawn(async move {
            while let Some(entry) = changes.next().await {
                let record: Value =
                    serde_json::from_slice(&entry.value.unwrap_or_default()).unwrap_or_default();
                let state = record["state"].as_str().unwrap_or("removed").to_owned();
                states.lock().unwrap().entry(entry.key).or_default().push((entry.revision, state));
            }
        });
        Self { runtime, bus, seen }
    }

    /// The job's record has become terminal, and was not written again.
    #[track_caller]
    pub fn saw_one_end(&self, job: &str) {
        let states = |job: &str| self.seen.lock().unwrap().get(job).cloned().unwrap_or_default();
        let terminal = |state: &str| ["completed", "failed", "cancelled"].contains(&state);
        let started = Instant::now();
        while !states(job).iter().any(|(_, state)| terminal(state)) {
            assert!(started.elapsed() < Duration::from_secs(20), "{job}: no end was seen: {:?}", states(job));
            thread::sleep(Duration::from_millis(20));
        }
        let seen = states(job);
        let first = seen.iter().position(|(_, state)| terminal(state)).unwrap();
        assert_eq!(first + 1, seen.len(), "{job}: {seen:?}");
    }

    /// Every queue is empty, soon, and nothing of any job's results is left.
    #[track_caller]
    pub fn saw_all_cleared(&self) {
        let started = Instant::now();
        loop {
            let left = self.runtime.block_on(self.left());
            if left.is_empty() {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "left on the bus: {left:?}");
            thread::sleep(Duration::from_millis(200));
        }
    }

    async fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for queue in Queue::ALL.into_iter().filter(|queue| *queue != Queue::DeadLetters) {
            let count = self.bus.backlog(queue).await.unwrap_or(u64::MAX);
            if count > 0 {
                left.push(format!("{queue:?}: {count}"));
            }
        }
        let outcomes =
            topology::Stream::Results.subjects().iter().map(|&subject| subject.to_owned()).collect();
        let mut outcomes = self.bus.replay(outcomes, ReplayContent::Headers).await.unwrap();
        while let Ok(Some(stored)) = tokio::time::timeout(Duration::from_millis(300), outcomes.next()).await {
            left.push(stored.message.subject);
        }
        left
    }

    /// Does something on the bus.
    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Lets something go on beside the test.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }
}
