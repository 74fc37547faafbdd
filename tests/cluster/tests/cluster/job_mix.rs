//! Envelopes of several models, sizes and policies, and helpers for submitting them together and
//! checking the documents they leave.

use std::fs;

use serde_json::{Value, json};

use crate::{
    bus_observer::BusObserver,
    support::{Cluster, TestStore, insurance_envelope, is_terminal, with_field},
};

/// Every artifact that the mixed jobs request.
const ARTIFACTS: [&str; 5] =
    ["result_json", "executions_json", "metrics_json", "verification_json", "plan_json"];

/// Starts a cluster whose worker executes about a hundred leaves a second, so that a test can act
/// while jobs are running.
pub fn start_slow_cluster(store: TestStore) -> Cluster {
    let mut cluster = Cluster::empty(store);
    spawn_slow_services(&mut cluster);
    cluster
}

/// Starts one process of each service, the worker on the scalar backend.
pub fn spawn_slow_services(cluster: &mut Cluster) {
    for service in ["planner", "aggregator", "verifier"] {
        cluster.spawn(service, &[service]);
    }
    cluster.spawn("worker", &["worker", "--backend", "scalar"]);
}

/// Three jobs of different models, sizes and policies. The last one converges before it has used
/// all its iterations.
pub fn mixed_jobs(prefix: &str) -> [Value; 3] {
    let name = |suffix: &str| format!("{prefix}-{suffix}");
    let large =
        with_field(insurance_envelope(&name("large"), 240), "/policy", json!({"verify": "spotcheck"}));
    let medium = with_field(eta_envelope(&name("eta"), 120), "/policy", json!({"verify": "full"}));
    let converging = insurance_envelope(&name("converges"), 4000);
    let converging = with_field(converging, "/args/convergence", convergence_args());
    let converging = with_field(converging, "/policy", json!({"verify": "spotcheck", "verify_ratio": 0.5}));
    [large, medium, converging].map(|envelope| with_field(envelope, "/artifacts/include", json!(ARTIFACTS)))
}

/// A target that [`insurance_envelope`] reaches after 64 leaves.
pub fn convergence_args() -> Value {
    json!({"metric": "mean", "relative_half_width": 0.006})
}

/// An envelope of `eta.v1` with `leaves` leaves of 65,536 iterations.
pub fn eta_envelope(job: &str, leaves: u64) -> Value {
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
pub fn job_id(envelope: &Value) -> &str {
    envelope["ctx"]["job_id"].as_str().unwrap()
}

/// Submits each envelope.
#[track_caller]
pub fn submit_all(cluster: &Cluster, envelopes: &[Value]) {
    envelopes.iter().for_each(|envelope| drop(cluster.submit(envelope)));
}

/// Waits for all jobs and asserts that each completed with the result of `forge run` and one
/// terminal record. Returns the records.
#[track_caller]
pub fn assert_all_complete(cluster: &Cluster, observer: &BusObserver, envelopes: &[Value]) -> Vec<Value> {
    let records: Vec<_> = envelopes.iter().map(|envelope| cluster.assert_completes(envelope)).collect();
    envelopes.iter().for_each(|envelope| observer.assert_ended_once(job_id(envelope)));
    records
}

/// Waits until at least `shards` shards of a job are done, or the job has ended.
#[track_caller]
pub fn wait_for_shards(cluster: &Cluster, job: &str, shards: u64) {
    cluster.wait_until(job, &format!("past {shards} shards"), |record| {
        record["progress"]["shards_done"].as_u64().is_some_and(|done| done >= shards)
            || record["state"].as_str().is_some_and(is_terminal)
    });
}

/// Reads a JSON artifact of a job from the cluster's directory.
#[track_caller]
pub fn read_document(cluster: &Cluster, record: &Value, name: &str) -> Value {
    let artifacts = record["artifacts"].as_array().unwrap();
    let artifact = artifacts.iter().find(|artifact| artifact["name"] == name);
    let hash = artifact.unwrap_or_else(|| panic!("no {name}: {record:#}"))["sha256"].as_str().unwrap();
    let path = cluster.directory.path().join("out/artifacts/sha256").join(hash).join(name);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}
