//! Jobs that end because of a policy, a cancellation or an invalid envelope, and the bounds that
//! policies set on running jobs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use forge_bus::{Message, SharedBus, topology};
use forge_contract::{digest::Digest, ids::JobUid, shard::ShardId};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::{
    bus_observer::BusObserver,
    job_mix::{
        assert_all_complete, convergence_args, eta_envelope, job_id, mixed_jobs, spawn_slow_services,
        start_slow_cluster, submit_all, wait_for_shards,
    },
    support::{Cluster, TestStore, insurance_envelope, with_field},
};

/// Waits for the end of a job and asserts its state and failure code.
#[track_caller]
fn assert_ends(cluster: &Cluster, observer: &BusObserver, job: &str, state: &str, code: &str) -> Value {
    let record = cluster.wait_for_end(job);
    assert_eq!((&record["state"], &record["error"]["code"]), (&json!(state), &json!(code)), "{record:#}");
    observer.assert_ended_once(job);
    record
}

/// Publishes bytes as a submission, past the command line's validation.
fn publish_submission(observer: &BusObserver, bytes: &[u8], id: &str) {
    let message = Message::new(topology::SUBMIT_SUBJECT, bytes.to_vec());
    observer.block_on(observer.bus.publish(message, id)).unwrap();
}

/// The job id under which bytes that are not an envelope are recorded.
fn rejected_job_id(bytes: &[u8]) -> String {
    format!("rejected-{}", &Digest::hash_parts(&[bytes]).to_hex()[..16])
}

#[test]
fn policy_limits_and_cancellation_end_jobs() {
    let mut cluster = Cluster::empty(TestStore::Directory);
    cluster.environment.push(("FORGE_AGENTS_WAIT_MS".to_owned(), "1500".to_owned()));
    spawn_slow_services(&mut cluster);
    let observer = BusObserver::connect(&cluster);
    let understaffed = with_field(insurance_envelope("understaffed", 4), "/policy", json!({"min_agents": 2}));
    let too_long = with_field(insurance_envelope("too-long", 40_000), "/policy", json!({"timeout_ms": 1500}));
    let cancelled = insurance_envelope("cancelled", 40_000);
    let within_limits = with_field(
        insurance_envelope("within-limits", 30),
        "/policy",
        json!({"min_agents": 1, "timeout_ms": 100_000}),
    );
    submit_all(&cluster, &[understaffed, too_long, cancelled, within_limits.clone()]);
    wait_for_shards(&cluster, "cancelled", 3);
    let cancel = cluster.run(&["cancel", "cancelled"]);
    assert!(cancel.status.success(), "{}", String::from_utf8_lossy(&cancel.stderr));
    let watch = |job: &str| cluster.run(&["watch", job]).status.code();
    assert_eq!(
        (watch("cancelled"), watch("understaffed"), watch("too-long"), watch("within-limits")),
        (Some(3), Some(3), Some(3), Some(0))
    );

    let record = assert_ends(&cluster, &observer, "cancelled", "cancelled", "cancelled");
    assert!(record["progress"]["shards_done"].as_u64() < record["progress"]["shards"].as_u64(), "{record:#}");
    let record = assert_ends(&cluster, &observer, "understaffed", "failed", "insufficient_agents");
    assert_eq!(record["progress"]["shards_done"], 0);
    assert_ends(&cluster, &observer, "too-long", "failed", "timeout");
    assert_all_complete(&cluster, &observer, &[within_limits]);
    for job in ["cancelled", "understaffed", "too-long"] {
        let error = cluster.directory.path().join(format!("out/jobs/{job}/error.json"));
        let error: Value = serde_json::from_slice(&std::fs::read(error).unwrap()).unwrap();
        assert_eq!(error["job_id"], job);
    }
    // Cancelling is idempotent.
    assert!(cluster.run(&["cancel", "cancelled"]).status.success());
    observer.assert_drained();
}

#[test]
fn invalid_envelopes_are_recorded_as_failed_jobs() {
    let cluster = start_slow_cluster(TestStore::Directory);
    let observer = BusObserver::connect(&cluster);
    let envelopes = mixed_jobs("beside");
    submit_all(&cluster, &envelopes);
    let wrong = with_field(
        with_field(insurance_envelope("wrong", 1), "/args/claim_freq", json!(-1)),
        "/policy/color",
        json!("red"),
    );
    publish_submission(&observer, wrong.to_string().as_bytes(), "wrong");
    let record = assert_ends(&cluster, &observer, "wrong", "failed", "invalid_request");
    let details = record["error"]["details"].as_array().unwrap().iter();
    let pointers: Vec<_> = details.map(|detail| detail["pointer"].as_str().unwrap()).collect();
    assert!(pointers.contains(&"/args/claim_freq") && pointers.contains(&"/policy/color"), "{record:#}");
    assert_eq!(record["error"]["phase"], "validate");

    // The same bytes twice give one record.
    for number in 0..2 {
        publish_submission(&observer, b"{\"op\": nonsense", &format!("nonsense-{number}"));
    }
    assert_ends(&cluster, &observer, &rejected_job_id(b"{\"op\": nonsense"), "failed", "invalid_request");
    publish_submission(&observer, b"", "nothing");
    assert_ends(&cluster, &observer, &rejected_job_id(b""), "failed", "invalid_request");

    // An existing job id, with another valid envelope and with an invalid one.
    let other = insurance_envelope(job_id(&envelopes[0]), 7).to_string();
    let invalid = with_field(insurance_envelope(job_id(&envelopes[1]), 7), "/args/iterations", json!("many"))
        .to_string();
    publish_submission(&observer, other.as_bytes(), "other");
    publish_submission(&observer, invalid.as_bytes(), "invalid");
    assert_ends(&cluster, &observer, &rejected_job_id(other.as_bytes()), "failed", "conflict");
    assert_ends(&cluster, &observer, &rejected_job_id(invalid.as_bytes()), "failed", "invalid_request");
    assert_all_complete(&cluster, &observer, &envelopes);
    let error = cluster.run(&["status", "no-such-job"]);
    assert!(!error.status.success());
    observer.assert_drained();
}

#[test]
fn giant_job_does_not_starve_small_ones_and_convergence_stops_early() {
    let cluster = start_slow_cluster(TestStore::Directory);
    let observer = BusObserver::connect(&cluster);
    // Executing all of it would take the worker a quarter of an hour.
    let giant = with_field(insurance_envelope("giant", 100_000), "/policy", json!({"max_agents": 2}));
    let converges =
        with_field(insurance_envelope("converges", 100_000), "/args/convergence", convergence_args());
    cluster.submit(&giant);
    wait_for_shards(&cluster, "giant", 1);
    let unstored = with_field(insurance_envelope("unstored", 4), "/artifacts/persist", json!(false));
    let small = [eta_envelope("small", 6), unstored, converges];
    submit_all(&cluster, &small);
    let records = assert_all_complete(&cluster, &observer, &small);
    assert!(records[1]["manifest"].is_null() && records[1]["artifacts"].is_null(), "{:#}", records[1]);
    assert!(!cluster.directory.path().join("out/jobs/unstored").exists());
    let done = records[2]["progress"]["iterations_done"].as_u64().unwrap();
    assert!(
        done < 1000 * 65_536 && records[2]["progress"]["shards_done"] == records[2]["progress"]["shards"],
        "{:#}",
        records[2]
    );
    assert_eq!(cluster.record("giant")["state"], "running");
    assert!(cluster.run(&["cancel", "giant"]).status.success());
    assert_ends(&cluster, &observer, "giant", "cancelled", "cancelled");
    observer.assert_drained();
}

#[test]
fn max_agents_bounds_a_jobs_in_flight_shards() {
    let mut cluster = start_slow_cluster(TestStore::Directory);
    cluster.spawn("worker-2", &["worker", "--backend", "scalar"]);
    let observer = BusObserver::connect(&cluster);
    let limited = with_field(insurance_envelope("limited", 12), "/policy", json!({"max_agents": 1}));
    let other_jobs = [eta_envelope("beside", 20), insurance_envelope("beside-2", 10)];
    let peaks = PeakInFlight::default();
    observer.spawn(track_peak_in_flight(observer.bus.clone(), Arc::clone(&peaks)));
    submit_all(&cluster, std::slice::from_ref(&limited));
    submit_all(&cluster, &other_jobs);
    let records = assert_all_complete(&cluster, &observer, &[limited]);
    assert_all_complete(&cluster, &observer, &other_jobs);
    assert_eq!(peaks.lock().unwrap()[records[0]["uid"].as_str().unwrap()], 1);
    observer.assert_drained();
}

/// Highest number of in-flight shards, by job.
type PeakInFlight = Arc<Mutex<BTreeMap<String, usize>>>;

/// Records the highest number of in-flight shards of every job.
async fn track_peak_in_flight(bus: SharedBus, peaks: PeakInFlight) {
    let mut messages = bus.subscribe("forge.v1.>").await.unwrap();
    let mut in_flight: BTreeMap<JobUid, BTreeSet<ShardId>> = BTreeMap::new();
    while let Some(message) = messages.next().await {
        if let Some((job, shard)) = topology::parse_shard_subject(&message.subject) {
            let shards = in_flight.entry(job).or_default();
            shards.insert(shard);
            let mut peaks = peaks.lock().unwrap();
            let peak = peaks.entry(job.to_string()).or_default();
            *peak = shards.len().max(*peak);
        } else if let Some((_, job, shard)) = topology::parse_result_subject(&message.subject) {
            in_flight.entry(job).or_default().remove(&shard);
        }
    }
}
