//! Workers that return wrong results, nothing, or results of nobody: the job has the right result, or fails and says why.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use forge_bus::topology::Bucket;
use serde_json::{Value, json};

use crate::{
    mix::{Witness, all_complete, document, eta, id, mix, submit_all},
    support::{Cluster, PATIENCE, Place, insurance, with},
};

/// A planner, an aggregator, a verifier, honest workers and faulty ones.
fn cluster(honest: usize, faulty: &[&str]) -> (Cluster, Witness) {
    let mut cluster = Cluster::empty(Place::Directory);
    cluster.environment.push(("FORGE_SHARD_PATIENCE_MS".to_owned(), "4000".to_owned()));
    for service in ["planner", "aggregator", "verifier"] {
        cluster.spawn(service, &[service]);
    }
    let witness = Witness::of(&cluster);
    for fault in faulty {
        cluster.spawn_faulty(fault, fault);
    }
    for number in 0..honest {
        cluster.spawn(&format!("worker-{number}"), &["worker", "--backend", "scalar"]);
    }
    let workers =
        u64::try_from(honest + faulty.iter().filter(|fault| **fault == "wrong-bytes").count()).unwrap();
    witness.run(until_registered(&witness, workers));
    (cluster, witness)
}

async fn keys(witness: &Witness, prefix: &str) -> BTreeSet<String> {
    let keys = witness.bus.keys(&Bucket::Agents).await.unwrap_or_default();
    keys.iter().filter_map(|key| key.strip_prefix(prefix).map(str::to_owned)).collect()
}

async fn until_registered(witness: &Witness, workers: u64) {
    while (keys(witness, "workers.").await.len() as u64) < workers {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Agents in quarantine.
fn quarantined(witness: &Witness) -> BTreeSet<String> {
    witness.run(keys(witness, "quarantine."))
}

/// Who executed the shards of a job.
fn executed_by(cluster: &Cluster, record: &Value) -> BTreeSet<String> {
    let executions = document(cluster, record, "executions.json");
    let agents = executions["executions"].as_array().unwrap().iter();
    agents.map(|execution| execution["agent_id"].as_str().unwrap().to_owned()).collect()
}

/// Whom a job's checks refuted.
fn refuted(cluster: &Cluster, record: &Value) -> BTreeSet<String> {
    let verification = document(cluster, record, "verification.json");
    let refuted = verification["refuted"].as_array().unwrap().iter();
    refuted.map(|refuted| refuted["agent_id"].as_str().unwrap().to_owned()).collect()
}

/// Jobs that are all verified in full.
fn verified(prefix: &str) -> Vec<Value> {
    mix(prefix).map(|envelope| with(envelope, "/policy", json!({"verify": "full"}))).to_vec()
}

#[test]
fn a_worker_that_returns_wrong_bytes_is_found_out_and_replaced() {
    let (cluster, witness) = cluster(1, &["wrong-bytes"]);
    let envelopes = verified("wrong");
    submit_all(&cluster, &envelopes);
    let records = all_complete(&cluster, &witness, &envelopes);
    let quarantined = quarantined(&witness);
    assert_eq!(quarantined.len(), 1, "{quarantined:?}");
    for record in &records {
        assert!(executed_by(&cluster, record).is_disjoint(&quarantined), "{record:#}");
        assert!(refuted(&cluster, record).is_subset(&quarantined), "{record:#}");
    }
    assert!(records.iter().any(|record| refuted(&cluster, record) == quarantined));
    witness.saw_all_cleared();
}

#[test]
fn a_spot_check_finds_it_out_too() {
    let (cluster, witness) = cluster(1, &["wrong-bytes"]);
    let policy = json!({"verify": "spotcheck", "verify_ratio": 0.3});
    let envelopes = mix("spot").map(|envelope| with(envelope, "/policy", policy.clone()));
    submit_all(&cluster, &envelopes);
    // Of the 240 shards of the first job, of which 72 are checked, the worker has enough to be found out; a job of which
    // it is not found out in time may be wrong, which is what the policy says.
    let record = cluster.wait(id(&envelopes[0]));
    let quarantined = quarantined(&witness);
    assert_eq!(quarantined.len(), 1);
    assert!(executed_by(&cluster, &record).is_disjoint(&quarantined));
    assert_eq!(refuted(&cluster, &record), quarantined);
    cluster.completes(&envelopes[0]);
    envelopes.iter().for_each(|envelope| {
        assert_eq!(cluster.wait(id(envelope))["state"], "completed");
        witness.saw_one_end(id(envelope));
    });
}

#[test]
fn verifiers_stand_in_where_nobody_honest_is_left() {
    let (cluster, witness) = cluster(0, &["wrong-bytes"]);
    let full = json!({"verify": "full"});
    let envelopes = [insurance("alone-a", 12), eta("alone-b", 6), insurance("alone-c", 1)];
    let envelopes = envelopes.map(|envelope| {
        let envelope = with(
            envelope,
            "/artifacts/include",
            json!(["executions_json", "verification_json", "result_json"]),
        );
        with(envelope, "/policy", full.clone())
    });
    submit_all(&cluster, &envelopes);
    let records = all_complete(&cluster, &witness, &envelopes);
    let quarantined = quarantined(&witness);
    for record in &records {
        assert!(executed_by(&cluster, record).is_disjoint(&quarantined), "{record:#}");
    }
    assert_eq!(quarantined.len(), 1);
    witness.saw_all_cleared();
}

#[test]
fn results_of_nobody_are_rejected() {
    let (cluster, witness) = cluster(1, &["unregistered"]);
    let envelopes = mix("nobody");
    submit_all(&cluster, &envelopes);
    let records = all_complete(&cluster, &witness, &envelopes);
    let known = witness.run(async {
        let workers = keys(&witness, "workers.").await;
        workers.union(&keys(&witness, "verifiers.").await).cloned().collect()
    });
    for record in &records {
        assert!(executed_by(&cluster, record).is_subset(&known));
    }
    assert!(quarantined(&witness).is_empty());
    witness.saw_all_cleared();
}

#[test]
fn shards_that_a_worker_keeps_come_to_others() {
    let (cluster, witness) = cluster(1, &["stall"]);
    let envelopes = mix("stall");
    submit_all(&cluster, &envelopes);
    all_complete(&cluster, &witness, &envelopes);
    assert!(quarantined(&witness).is_empty());
    witness.saw_all_cleared();
}

#[test]
fn a_shard_that_kills_every_worker_fails_its_job_alone() {
    let (mut cluster, witness) = cluster(0, &[]);
    // What is in a worker's hands when it dies is given up with it, so the others come before and after.
    let before = [insurance("before", 1), eta("before-too", 1)];
    cluster.spawn_faulty("crash", "crash");
    submit_all(&cluster, &before);
    all_complete(&cluster, &witness, &before);
    cluster.submit(&insurance("deadly", 8));
    let started = Instant::now();
    while cluster.record("deadly")["state"] != "failed" {
        assert!(started.elapsed() < PATIENCE, "{}", cluster.logs());
        if !cluster.is_running("crash") {
            cluster.kill("crash");
            cluster.spawn_faulty("crash", "crash");
        }
        thread::sleep(Duration::from_millis(50));
    }
    let record = cluster.wait("deadly");
    assert_eq!(record["error"]["code"], "execution_failed", "{record:#}");
    let message = record["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("shard 0-") && message.contains(" was delivered 4 times"), "{message}");
    witness.saw_one_end("deadly");
    let after = [insurance("after", 1), eta("after-too", 1)];
    submit_all(&cluster, &after);
    all_complete(&cluster, &witness, &after);
    witness.saw_all_cleared();
}
