//! Policies, refusals, and ends that are asked for.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use forge_bus::{
    Message, SharedBus,
    topology::{self, ShardMessageKind},
};
use forge_contract::digest::Digest;
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::{
    mix::{Witness, all_complete, convergence, eta, id, mix, slow, start_slow, submit_all, until_shards},
    support::{Cluster, Place, insurance, with},
};

#[track_caller]
fn ends_with(cluster: &Cluster, witness: &Witness, job: &str, state: &str, code: &str) -> Value {
    let record = cluster.wait(job);
    assert_eq!((&record["state"], &record["error"]["code"]), (&json!(state), &json!(code)), "{record:#}");
    witness.saw_one_end(job);
    record
}

fn publish(witness: &Witness, bytes: &[u8], id: &str) {
    let message = Message::new(topology::SUBMIT_SUBJECT, bytes.to_vec());
    witness.run(witness.bus.publish(message, id)).unwrap();
}

fn rejected(bytes: &[u8]) -> String {
    format!("rejected-{}", &Digest::hash_parts(&[bytes]).to_hex()[..16])
}

#[test]
fn jobs_end_as_their_policies_say() {
    let mut cluster = Cluster::empty(Place::Directory);
    cluster.environment.push(("FORGE_AGENTS_WAIT_MS".to_owned(), "1500".to_owned()));
    start_slow(&mut cluster);
    let witness = Witness::of(&cluster);
    let lonely = with(insurance("lonely", 4), "/policy", json!({"min_agents": 2}));
    let late = with(insurance("late", 40_000), "/policy", json!({"timeout_ms": 1500}));
    let cancelled = insurance("cancelled", 40_000);
    let fine = with(insurance("fine", 30), "/policy", json!({"min_agents": 1, "timeout_ms": 100_000}));
    submit_all(&cluster, &[lonely, late, cancelled, fine.clone()]);
    until_shards(&cluster, "cancelled", 3);
    let cancel = cluster.run(&["cancel", "cancelled"]);
    assert!(cancel.status.success(), "{}", String::from_utf8_lossy(&cancel.stderr));
    let watch = |job: &str| cluster.run(&["watch", job]).status.code();
    assert_eq!(
        (watch("cancelled"), watch("lonely"), watch("late"), watch("fine")),
        (Some(3), Some(3), Some(3), Some(0))
    );

    let record = ends_with(&cluster, &witness, "cancelled", "cancelled", "cancelled");
    assert!(record["progress"]["shards_done"].as_u64() < record["progress"]["shards"].as_u64(), "{record:#}");
    let record = ends_with(&cluster, &witness, "lonely", "failed", "insufficient_agents");
    assert_eq!(record["progress"]["shards_done"], 0);
    ends_with(&cluster, &witness, "late", "failed", "timeout");
    all_complete(&cluster, &witness, &[fine]);
    for job in ["cancelled", "lonely", "late"] {
        let error = cluster.directory.path().join(format!("out/jobs/{job}/error.json"));
        let error: Value = serde_json::from_slice(&std::fs::read(error).unwrap()).unwrap();
        assert_eq!(error["job_id"], job);
    }
    // It can be cancelled as often as one likes.
    assert!(cluster.run(&["cancel", "cancelled"]).status.success());
    witness.saw_all_cleared();
}

#[test]
fn what_is_no_envelope_is_recorded() {
    let cluster = slow(Place::Directory);
    let witness = Witness::of(&cluster);
    let envelopes = mix("beside");
    submit_all(&cluster, &envelopes);
    let wrong =
        with(with(insurance("wrong", 1), "/args/claim_freq", json!(-1)), "/policy/color", json!("red"));
    publish(&witness, wrong.to_string().as_bytes(), "wrong");
    let record = ends_with(&cluster, &witness, "wrong", "failed", "invalid_request");
    let details = record["error"]["details"].as_array().unwrap().iter();
    let pointers: Vec<_> = details.map(|detail| detail["pointer"].as_str().unwrap()).collect();
    assert!(pointers.contains(&"/args/claim_freq") && pointers.contains(&"/policy/color"), "{record:#}");
    assert_eq!(record["error"]["phase"], "validate");

    // Twice the same: one record.
    for number in 0..2 {
        publish(&witness, b"{\"op\": nonsense", &format!("nonsense-{number}"));
    }
    ends_with(&cluster, &witness, &rejected(b"{\"op\": nonsense"), "failed", "invalid_request");
    publish(&witness, b"", "nothing");
    ends_with(&cluster, &witness, &rejected(b""), "failed", "invalid_request");

    // The same job id: with another envelope, and with one that is not valid.
    let other = insurance(id(&envelopes[0]), 7).to_string();
    let invalid = with(insurance(id(&envelopes[1]), 7), "/args/iterations", json!("many")).to_string();
    publish(&witness, other.as_bytes(), "other");
    publish(&witness, invalid.as_bytes(), "invalid");
    ends_with(&cluster, &witness, &rejected(other.as_bytes()), "failed", "conflict");
    ends_with(&cluster, &witness, &rejected(invalid.as_bytes()), "failed", "invalid_request");
    all_complete(&cluster, &witness, &envelopes);
    let error = cluster.run(&["status", "no-such-job"]);
    assert!(!error.status.success());
    witness.saw_all_cleared();
}

#[test]
fn a_giant_does_not_starve_small_jobs_and_runs_no_further_than_it_has_to() {
    let cluster = slow(Place::Directory);
    let witness = Witness::of(&cluster);
    // Would take the worker a quarter of an hour.
    let giant = with(insurance("giant", 100_000), "/policy", json!({"max_agents": 2}));
    let converges = with(insurance("converges", 100_000), "/args/convergence", convergence());
    cluster.submit(&giant);
    until_shards(&cluster, "giant", 1);
    let nowhere = with(insurance("nowhere", 4), "/artifacts/persist", json!(false));
    let small = [eta("small", 6), nowhere, converges];
    submit_all(&cluster, &small);
    let records = all_complete(&cluster, &witness, &small);
    assert!(records[1]["manifest"].is_null() && records[1]["artifacts"].is_null(), "{:#}", records[1]);
    assert!(!cluster.directory.path().join("out/jobs/nowhere").exists());
    let done = records[2]["progress"]["iterations_done"].as_u64().unwrap();
    assert!(
        done < 1000 * 65_536 && records[2]["progress"]["shards_done"] == records[2]["progress"]["shards"],
        "{:#}",
        records[2]
    );
    assert_eq!(cluster.record("giant")["state"], "running");
    assert!(cluster.run(&["cancel", "giant"]).status.success());
    ends_with(&cluster, &witness, "giant", "cancelled", "cancelled");
    witness.saw_all_cleared();
}

#[test]
fn at_most_max_agents_execute_a_job_at_once() {
    let mut cluster = slow(Place::Directory);
    cluster.spawn("worker-2", &["worker", "--backend", "scalar"]);
    let witness = Witness::of(&cluster);
    let one = with(insurance("one", 12), "/policy", json!({"max_agents": 1}));
    let others = [eta("beside", 20), insurance("beside-2", 10)];
    let most = Arc::new(AtomicU64::new(0));
    witness.spawn(outstanding(witness.bus.clone(), Arc::clone(&most)));
    submit_all(&cluster, std::slice::from_ref(&one));
    submit_all(&cluster, &others);
    all_complete(&cluster, &witness, &[one]);
    all_complete(&cluster, &witness, &others);
    assert_eq!(most.load(Ordering::Relaxed), 1);
    witness.saw_all_cleared();
}

/// Follows how many shards of the job `one` are out, and remembers the most.
async fn outstanding(bus: SharedBus, most: Arc<AtomicU64>) {
    let mut heard = bus.subscribe("forge.v1.>").await.unwrap();
    let mut out = BTreeSet::new();
    while let Some(message) = heard.next().await {
        if let Some((job, shard)) = topology::parse_shard_subject(&message.subject) {
            if job.as_str() == "one" {
                out.insert(shard);
                most.fetch_max(out.len() as u64, Ordering::Relaxed);
            }
        } else if let Some((ShardMessageKind::Result, job, shard)) =
            topology::parse_shard_message_subject(&message.subject)
            && job.as_str() == "one"
        {
            out.remove(&shard);
        }
    }
}
