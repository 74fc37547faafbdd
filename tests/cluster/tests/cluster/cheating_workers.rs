//! Workers that return wrong results, no results, or results of unregistered agents. The job still
//! has the right result, or fails and names the reason.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use forge_bus::topology::Bucket;
use serde_json::{Value, json};

use crate::{
    bus_observer::BusObserver,
    job_mix::{assert_all_complete, eta_envelope, job_id, mixed_jobs, read_document, submit_all},
    support::{Cluster, TestStore, WAIT_LIMIT, insurance_envelope, with_field},
};

/// Starts a planner, an aggregator, a verifier, `honest` workers and one worker per fault.
fn start_cluster(honest: usize, faulty: &[&str]) -> (Cluster, BusObserver) {
    let mut cluster = Cluster::empty(TestStore::Directory);
    cluster.environment.push(("FORGE_SHARD_PATIENCE_MS".to_owned(), "4000".to_owned()));
    for service in ["planner", "aggregator", "verifier"] {
        cluster.spawn(service, &[service]);
    }
    let observer = BusObserver::connect(&cluster);
    for fault in faulty {
        cluster.spawn_faulty(fault, fault);
    }
    for number in 0..honest {
        cluster.spawn(&format!("worker-{number}"), &["worker", "--backend", "scalar"]);
    }
    let workers =
        u64::try_from(honest + faulty.iter().filter(|fault| **fault == "wrong-bytes").count()).unwrap();
    observer.block_on(wait_for_workers(&observer, workers));
    (cluster, observer)
}

/// Ids of the agents in one part of the registry.
async fn agent_ids(observer: &BusObserver, prefix: &str) -> BTreeSet<String> {
    let keys = observer.bus.keys(&Bucket::Agents).await.unwrap_or_default();
    keys.iter().filter_map(|key| key.strip_prefix(prefix).map(str::to_owned)).collect()
}

async fn wait_for_workers(observer: &BusObserver, workers: u64) {
    while (agent_ids(observer, "workers.").await.len() as u64) < workers {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Ids of the agents in quarantine.
fn quarantined_agents(observer: &BusObserver) -> BTreeSet<String> {
    observer.block_on(agent_ids(observer, "quarantine."))
}

/// Ids of the agents whose results a job used.
fn executing_agents(cluster: &Cluster, record: &Value) -> BTreeSet<String> {
    let executions = read_document(cluster, record, "executions.json");
    let agents = executions["executions"].as_array().unwrap().iter();
    agents.map(|execution| execution["agent_id"].as_str().unwrap().to_owned()).collect()
}

/// Ids of the agents that a job's verification refuted.
fn refuted_agents(cluster: &Cluster, record: &Value) -> BTreeSet<String> {
    let verification = read_document(cluster, record, "verification.json");
    let refuted = verification["refuted"].as_array().unwrap().iter();
    refuted.map(|refuted| refuted["agent_id"].as_str().unwrap().to_owned()).collect()
}

/// The mixed jobs, each with full verification.
fn fully_verified_jobs(prefix: &str) -> Vec<Value> {
    mixed_jobs(prefix).map(|envelope| with_field(envelope, "/policy", json!({"verify": "full"}))).to_vec()
}

#[test]
fn worker_returning_wrong_bytes_is_detected_and_replaced() {
    let (cluster, observer) = start_cluster(1, &["wrong-bytes"]);
    let envelopes = fully_verified_jobs("wrong");
    submit_all(&cluster, &envelopes);
    let records = assert_all_complete(&cluster, &observer, &envelopes);
    let quarantined = quarantined_agents(&observer);
    assert_eq!(quarantined.len(), 1, "{quarantined:?}");
    for record in &records {
        assert!(executing_agents(&cluster, record).is_disjoint(&quarantined), "{record:#}");
        assert!(refuted_agents(&cluster, record).is_subset(&quarantined), "{record:#}");
    }
    assert!(records.iter().any(|record| refuted_agents(&cluster, record) == quarantined));
    observer.assert_drained();
}

#[test]
fn spot_check_detects_wrong_bytes() {
    let (cluster, observer) = start_cluster(1, &["wrong-bytes"]);
    let policy = json!({"verify": "spotcheck", "verify_ratio": 0.3});
    let envelopes = mixed_jobs("spot").map(|envelope| with_field(envelope, "/policy", policy.clone()));
    submit_all(&cluster, &envelopes);
    // 72 of the first job's 240 shards are verified, and the faulty worker executes enough shards
    // for one of its results to be among them. A smaller job may end before the worker is
    // detected, and may be wrong: spot checks allow that.
    let record = cluster.wait_for_end(job_id(&envelopes[0]));
    let quarantined = quarantined_agents(&observer);
    assert_eq!(quarantined.len(), 1);
    assert!(executing_agents(&cluster, &record).is_disjoint(&quarantined));
    assert_eq!(refuted_agents(&cluster, &record), quarantined);
    cluster.assert_completes(&envelopes[0]);
    envelopes.iter().for_each(|envelope| {
        assert_eq!(cluster.wait_for_end(job_id(envelope))["state"], "completed");
        observer.assert_ended_once(job_id(envelope));
    });
}

#[test]
fn verifiers_execute_shards_when_no_honest_worker_is_left() {
    let (cluster, observer) = start_cluster(0, &["wrong-bytes"]);
    let full = json!({"verify": "full"});
    let envelopes =
        [insurance_envelope("alone-a", 12), eta_envelope("alone-b", 6), insurance_envelope("alone-c", 1)];
    let envelopes = envelopes.map(|envelope| {
        let envelope = with_field(
            envelope,
            "/artifacts/include",
            json!(["executions_json", "verification_json", "result_json"]),
        );
        with_field(envelope, "/policy", full.clone())
    });
    submit_all(&cluster, &envelopes);
    let records = assert_all_complete(&cluster, &observer, &envelopes);
    let quarantined = quarantined_agents(&observer);
    for record in &records {
        assert!(executing_agents(&cluster, record).is_disjoint(&quarantined), "{record:#}");
    }
    assert_eq!(quarantined.len(), 1);
    observer.assert_drained();
}

#[test]
fn results_of_unregistered_agents_are_rejected() {
    let (cluster, observer) = start_cluster(1, &["unregistered"]);
    let envelopes = mixed_jobs("nobody");
    submit_all(&cluster, &envelopes);
    let records = assert_all_complete(&cluster, &observer, &envelopes);
    let registered = observer.block_on(async {
        let workers = agent_ids(&observer, "workers.").await;
        workers.union(&agent_ids(&observer, "verifiers.").await).cloned().collect()
    });
    for record in &records {
        assert!(executing_agents(&cluster, record).is_subset(&registered));
    }
    assert!(quarantined_agents(&observer).is_empty());
    observer.assert_drained();
}

#[test]
fn stalled_shards_are_redelivered_to_other_workers() {
    let (cluster, observer) = start_cluster(1, &["stall"]);
    let envelopes = mixed_jobs("stall");
    submit_all(&cluster, &envelopes);
    assert_all_complete(&cluster, &observer, &envelopes);
    assert!(quarantined_agents(&observer).is_empty());
    observer.assert_drained();
}

#[test]
fn shard_that_crashes_every_worker_fails_only_its_own_job() {
    let (mut cluster, observer) = start_cluster(0, &[]);
    // Shards in flight on a worker use up a delivery when it crashes, so that the other jobs run
    // before and after this one.
    let before = [insurance_envelope("before", 1), eta_envelope("before-too", 1)];
    cluster.spawn_faulty("crash", "crash");
    submit_all(&cluster, &before);
    assert_all_complete(&cluster, &observer, &before);
    cluster.submit(&insurance_envelope("deadly", 8));
    let started = Instant::now();
    while cluster.record("deadly")["state"] != "failed" {
        assert!(started.elapsed() < WAIT_LIMIT, "{}", cluster.logs());
        if !cluster.is_running("crash") {
            cluster.kill("crash");
            cluster.spawn_faulty("crash", "crash");
        }
        thread::sleep(Duration::from_millis(50));
    }
    let record = cluster.wait_for_end("deadly");
    assert_eq!(record["error"]["code"], "execution_failed", "{record:#}");
    let message = record["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("shard 0-") && message.contains(" was delivered 4 times"), "{message}");
    observer.assert_ended_once("deadly");
    let after = [insurance_envelope("after", 1), eta_envelope("after-too", 1)];
    submit_all(&cluster, &after);
    assert_all_complete(&cluster, &observer, &after);
    observer.assert_drained();
}
