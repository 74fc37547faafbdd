//! Workers that return wrong results, malformed results or none. The job still has the right
//! result, or fails and names the reason.

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
    support::{Cluster, TestStore, WAIT_LIMIT, insurance_envelope, is_terminal, with_field},
};

/// Pool of the honest workers. The faulty ones are in the pool `faulty`.
const HONEST_POOL: &str = "honest";
const FAULTY_POOL: &str = "faulty";

/// Starts a planner, an aggregator, a verifier, `honest` workers and one worker per fault.
fn start_cluster(honest: usize, faulty: &[&str]) -> (Cluster, BusObserver) {
    let mut cluster = Cluster::empty(TestStore::Directory);
    cluster.environment.push(("FORGE_SHARD_PATIENCE_MS".to_owned(), "4000".to_owned()));
    for service in ["planner", "aggregator", "verifier"] {
        cluster.spawn(service, &[service]);
    }
    let observer = BusObserver::connect(&cluster);
    use_pool(&mut cluster, FAULTY_POOL);
    for fault in faulty {
        cluster.spawn_faulty(fault, fault);
    }
    use_pool(&mut cluster, HONEST_POOL);
    for number in 0..honest {
        spawn_honest_worker(&mut cluster, number);
    }
    let workers =
        u64::try_from(honest + faulty.iter().filter(|fault| **fault == "wrong-bytes").count()).unwrap();
    observer.block_on(wait_for_workers(&observer, workers));
    (cluster, observer)
}

/// Puts the workers started from now on into a pool.
fn use_pool(cluster: &mut Cluster, pool: &str) {
    cluster.environment.retain(|(name, _)| name != "FORGE_POOL");
    cluster.environment.push(("FORGE_POOL".to_owned(), pool.to_owned()));
}

fn spawn_honest_worker(cluster: &mut Cluster, number: usize) {
    cluster.spawn(&format!("worker-{number}"), &["worker", "--backend", "scalar"]);
}

/// Submits jobs to a cluster that has only a faulty worker, and starts an honest one once the
/// first job has `shards` results or one of them was found to be wrong. However busy the machine
/// is, lies are then among the results.
fn submit_to_the_faulty_worker_first(
    cluster: &mut Cluster,
    observer: &BusObserver,
    envelopes: &[Value],
    shards: u64,
) {
    submit_all(cluster, envelopes);
    cluster.wait_until(job_id(&envelopes[0]), "lied to", |record| {
        record["progress"]["shards_done"].as_u64().is_some_and(|done| done >= shards)
            || !quarantined_agents(observer).is_empty()
    });
    spawn_honest_worker(cluster, 0);
}

async fn wait_for_workers(observer: &BusObserver, workers: u64) {
    let registered = async || observer.bus.keys(&Bucket::Workers).await.unwrap_or_default().len() as u64;
    while registered().await < workers {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Names of the registry's keys below a prefix.
fn registry_names(observer: &BusObserver, prefix: &str) -> BTreeSet<String> {
    let keys = observer.block_on(observer.bus.keys(&Bucket::Agents)).unwrap_or_default();
    keys.iter().filter_map(|key| key.strip_prefix(prefix).map(str::to_owned)).collect()
}

/// Ids of the agents in quarantine.
fn quarantined_agents(observer: &BusObserver) -> BTreeSet<String> {
    registry_names(observer, "quarantine.")
}

/// Pools whose results a job used.
fn executing_pools(cluster: &Cluster, record: &Value) -> BTreeSet<String> {
    let executions = read_document(cluster, record, "executions.json");
    let executions = executions["executions"].as_array().unwrap().iter();
    executions.map(|execution| execution["pool"].as_str().unwrap().to_owned()).collect()
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
    refuted.map(|verdict| verdict["statement"]["agent_id"].as_str().unwrap().to_owned()).collect()
}

/// The mixed jobs, each with full verification.
fn fully_verified_jobs(prefix: &str) -> Vec<Value> {
    mixed_jobs(prefix).map(|envelope| with_field(envelope, "/policy", json!({"verify": "full"}))).to_vec()
}

#[test]
fn worker_returning_wrong_bytes_is_detected_and_replaced() {
    let (mut cluster, observer) = start_cluster(0, &["wrong-bytes"]);
    let envelopes = fully_verified_jobs("wrong");
    submit_to_the_faulty_worker_first(&mut cluster, &observer, &envelopes, 1);
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
    let (mut cluster, observer) = start_cluster(0, &["wrong-bytes"]);
    let policy = json!({"verify": "spotcheck", "verify_ratio": 0.3});
    let envelopes = mixed_jobs("spot").map(|envelope| with_field(envelope, "/policy", policy.clone()));
    // 72 of the first job's 240 shards are verified: none of 40 with a probability of 3e-7. A
    // smaller job may end before the worker is detected, and may be wrong: spot checks allow that.
    submit_to_the_faulty_worker_first(&mut cluster, &observer, &envelopes, 40);
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
    // One job: the next one would wait for a worker, if the lies were found out before its start.
    let include = json!(["executions_json", "verification_json", "result_json"]);
    let envelope = with_field(insurance_envelope("alone", 12), "/artifacts/include", include);
    let envelopes = [with_field(envelope, "/policy", json!({"verify": "full"}))];
    submit_all(&cluster, &envelopes);
    let records = assert_all_complete(&cluster, &observer, &envelopes);
    let quarantined = quarantined_agents(&observer);
    for record in &records {
        assert!(executing_agents(&cluster, record).is_disjoint(&quarantined), "{record:#}");
    }
    assert_eq!(quarantined.len(), 1);
    observer.assert_drained();
}

/// Jobs that are run until a lie of a worker is drawn in one.
const SYBIL_JOBS: usize = 12;

/// A worker that signs every lie with a new key is found out as a pool: once one of its lies is
/// drawn, none of them is part of the result.
#[test]
fn lies_under_new_keys_do_not_ship_once_one_of_them_is_drawn() {
    for policy in [json!({"verify": "spotcheck"}), json!({"verify": "full"})] {
        let (mut cluster, observer) = start_cluster(0, &["new-keys"]);
        let include = json!(["result_json", "executions_json", "verification_json"]);
        let drawn = (0..SYBIL_JOBS).find_map(|number| {
            let envelope = insurance_envelope(&format!("sybil-{number}"), 240);
            let envelope = with_field(envelope, "/policy", policy.clone());
            let envelope = with_field(envelope, "/artifacts/include", include.clone());
            let envelopes = std::slice::from_ref(&envelope);
            submit_to_the_faulty_worker_first(&mut cluster, &observer, envelopes, 40);
            let record = cluster.wait_for_end(job_id(&envelope));
            cluster.kill("worker-0");
            let verification = read_document(&cluster, &record, "verification.json");
            let suspects = &verification["suspect_pools"];
            (*suspects != json!([])).then(|| (envelope, suspects.clone()))
        });
        let (envelope, suspects) = drawn.expect("no lie was drawn in any job");
        assert_eq!(suspects, json!([FAULTY_POOL]));
        let record = cluster.assert_completes(&envelope);
        assert!(!executing_pools(&cluster, &record).contains(FAULTY_POOL), "{record:#}");
        // After three keys the pool goes into quarantine as a whole.
        let pools = registry_names(&observer, "quarantined-pools.");
        assert!(pools.is_empty() || pools == BTreeSet::from([FAULTY_POOL.to_owned()]), "{pools:?}");
        if quarantined_agents(&observer).len() >= 3 {
            assert_eq!(pools.len(), 1);
        }
        observer.assert_drained();
    }
}

/// Results that answer no hand-out, that state another seed, or that have headers.
#[test]
fn malformed_results_cost_no_job_its_result() {
    for fault in ["unknown-task", "wrong-seed", "header"] {
        let (cluster, observer) = start_cluster(1, &[fault]);
        let envelopes = mixed_jobs(fault);
        submit_all(&cluster, &envelopes);
        let records = assert_all_complete(&cluster, &observer, &envelopes);
        for record in records.iter().filter(|_| fault != "header") {
            assert!(!executing_pools(&cluster, record).contains(FAULTY_POOL), "{fault}: {record:#}");
        }
        assert!(quarantined_agents(&observer).is_empty(), "{fault}");
        observer.assert_drained();
    }
}

/// A refused delivery is no crash, however often a shard is refused.
#[test]
fn worker_that_refuses_every_shard_ends_no_job() {
    let (cluster, observer) = start_cluster(1, &["refuse"]);
    let envelopes = mixed_jobs("refused");
    submit_all(&cluster, &envelopes);
    assert_all_complete(&cluster, &observer, &envelopes);
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

/// Deliveries that end in a crash are counted. Then a verifier executes the shard in a process of
/// its own, which the fault of the worker does not reach.
#[test]
fn shard_that_crashes_every_worker_is_executed_by_a_verifier() {
    let (mut cluster, observer) = start_cluster(0, &[]);
    // Shards in flight on a worker use up a delivery when it crashes, so that the other jobs run
    // before and after this one.
    let before = [insurance_envelope("before", 1), eta_envelope("before-too", 1)];
    cluster.spawn_faulty("crash", "crash");
    submit_all(&cluster, &before);
    assert_all_complete(&cluster, &observer, &before);
    let deadly =
        with_field(insurance_envelope("deadly", 8), "/artifacts/include", json!(["executions_json"]));
    cluster.submit(&deadly);
    let started = Instant::now();
    while !cluster.record("deadly")["state"].as_str().is_some_and(is_terminal) {
        assert!(started.elapsed() < WAIT_LIMIT, "{}", cluster.logs());
        if !cluster.is_running("crash") {
            cluster.kill("crash");
            cluster.spawn_faulty("crash", "crash");
        }
        thread::sleep(Duration::from_millis(50));
    }
    let records = assert_all_complete(&cluster, &observer, &[deadly]);
    assert!(executing_pools(&cluster, &records[0]).contains("verifiers"), "{:#}", records[0]);
    let after = [insurance_envelope("after", 1), eta_envelope("after-too", 1)];
    submit_all(&cluster, &after);
    assert_all_complete(&cluster, &observer, &after);
    observer.assert_drained();
}
