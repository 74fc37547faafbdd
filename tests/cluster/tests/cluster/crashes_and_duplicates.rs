//! Services killed while jobs are in every phase, and messages delivered more than once. No job is
//! lost, and no result changes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use forge_bus::{Message, SharedBus, topology};
use futures_util::StreamExt;
use serde_json::json;

use crate::{
    bus_observer::BusObserver,
    job_mix::{
        assert_all_complete, eta_envelope, job_id, mixed_jobs, spawn_slow_services, start_slow_cluster,
        submit_all, wait_for_shards,
    },
    support::{Cluster, TestStore, insurance_envelope, with_field},
};

/// Kills a service when jobs have been accepted, while they run, and near their end. Restarts it
/// each time, and asserts that all jobs complete.
fn assert_jobs_survive_repeated_kills(service: &str, arguments: &[&str]) {
    let mut cluster = start_slow_cluster(TestStore::Directory);
    let observer = BusObserver::connect(&cluster);
    let envelopes = mixed_jobs(service);
    submit_all(&cluster, &envelopes);
    for shards in [0, 40, 140] {
        wait_for_shards(&cluster, job_id(&envelopes[0]), shards);
        cluster.kill(service);
        // The other services keep running without it.
        thread::sleep(Duration::from_millis(300));
        cluster.spawn(service, arguments);
    }
    // A job submitted when the others are nearly complete.
    let late = insurance_envelope(&format!("{service}-late"), 8);
    cluster.submit(&late);
    assert_all_complete(&cluster, &observer, &envelopes);
    assert_all_complete(&cluster, &observer, &[late]);
    observer.assert_drained();
}

#[test]
fn jobs_survive_repeated_planner_kills() {
    assert_jobs_survive_repeated_kills("planner", &["planner"]);
}

#[test]
fn jobs_survive_repeated_aggregator_kills() {
    assert_jobs_survive_repeated_kills("aggregator", &["aggregator"]);
}

#[test]
fn jobs_survive_repeated_verifier_kills() {
    assert_jobs_survive_repeated_kills("verifier", &["verifier"]);
}

#[test]
fn jobs_survive_repeated_worker_kills() {
    assert_jobs_survive_repeated_kills("worker", &["worker", "--backend", "scalar"]);
}

#[test]
fn jobs_survive_aggregator_kills_during_completion() {
    let mut cluster = start_slow_cluster(TestStore::Directory);
    let observer = BusObserver::connect(&cluster);
    // Small jobs end in quick succession, so that every kill hits some of them during completion.
    let envelopes: Vec<_> =
        (0..40).map(|number| insurance_envelope(&format!("small-{number}"), 1 + number % 4)).collect();
    for (number, envelope) in envelopes.iter().enumerate() {
        cluster.submit(envelope);
        if number % 8 == 7 {
            cluster.kill("aggregator");
            cluster.spawn("aggregator", &["aggregator"]);
        }
    }
    assert_all_complete(&cluster, &observer, &envelopes);
    observer.assert_drained();
}

#[test]
fn jobs_survive_a_restart_of_all_services() {
    let mut cluster = start_slow_cluster(TestStore::Directory);
    let observer = BusObserver::connect(&cluster);
    let envelopes = mixed_jobs("upgrade");
    submit_all(&cluster, &envelopes);
    wait_for_shards(&cluster, job_id(&envelopes[0]), 40);
    for service in ["planner", "worker", "verifier", "aggregator"] {
        cluster.kill(service);
    }
    // A job submitted while nothing runs waits in the stream.
    let waiting = insurance_envelope("upgrade-waiting", 8);
    let message = Message::new(topology::SUBMIT_SUBJECT, waiting.to_string().into_bytes());
    observer.block_on(observer.bus.publish(message, "waiting")).unwrap();
    spawn_slow_services(&mut cluster);
    assert_all_complete(&cluster, &observer, &envelopes);
    assert_all_complete(&cluster, &observer, &[waiting]);
    observer.assert_drained();
}

#[test]
fn second_replica_takes_over_when_one_is_killed() {
    let mut cluster = Cluster::empty(TestStore::Directory);
    spawn_slow_services(&mut cluster);
    cluster.spawn("planner-2", &["planner"]);
    cluster.spawn("aggregator-2", &["aggregator"]);
    let observer = BusObserver::connect(&cluster);
    let envelopes = mixed_jobs("compete");
    let small_jobs: Vec<_> =
        (0..4).map(|number| eta_envelope(&format!("more-{number}"), 3 + number)).collect();
    submit_all(&cluster, &envelopes);
    submit_all(&cluster, &small_jobs);
    wait_for_shards(&cluster, job_id(&envelopes[0]), 60);
    cluster.kill("planner");
    cluster.kill("aggregator-2");
    assert_all_complete(&cluster, &observer, &envelopes);
    assert_all_complete(&cluster, &observer, &small_jobs);
    observer.assert_drained();
}

#[test]
fn duplicated_messages_do_not_change_results() {
    let mut cluster = start_slow_cluster(TestStore::Directory);
    cluster.spawn("planner-2", &["planner"]);
    cluster.spawn("aggregator-2", &["aggregator"]);
    let observer = BusObserver::connect(&cluster);
    let copies = Arc::new(AtomicU64::new(0));
    for subject in [
        "forge.v1.shards.>",
        "forge.v1.duplicates.>",
        "forge.v1.results.>",
        "forge.v1.verdicts.>",
        "forge.v1.outcomes.>",
        "forge.v1.reduce.>",
    ] {
        observer.spawn(duplicate_messages(observer.bus.clone(), subject, Arc::clone(&copies)));
    }
    let envelopes = mixed_jobs("twice");
    for (number, envelope) in envelopes.iter().enumerate() {
        for copy in 0..2 {
            let message = Message::new(topology::SUBMIT_SUBJECT, envelope.to_string());
            observer.block_on(observer.bus.publish(message, &format!("raw-{number}-{copy}"))).unwrap();
        }
    }
    let records = assert_all_complete(&cluster, &observer, &envelopes);
    assert_eq!(records[0]["progress"]["shards_done"], 240);
    assert_eq!(records[1]["progress"]["shards_verified"], 120);
    // Every shard and its result, every verification and its verdict, every order. Outcomes come
    // in batches.
    let copies = copies.load(Ordering::Relaxed);
    assert!(copies >= 2 * (240 + 120 + 64) + 2 * (24 + 120 + 32) + 3, "{copies}");
}

/// Header of copies, which are not copied again.
const COPY_HEADER: &str = "Test-Copy";

/// Publishes one copy of every message of a subject, under another message id.
async fn duplicate_messages(bus: SharedBus, subject: &str, copies: Arc<AtomicU64>) {
    let mut messages = bus.subscribe(subject).await.unwrap();
    while let Some(message) = messages.next().await {
        if message.headers.get(COPY_HEADER).is_none() {
            let number = copies.fetch_add(1, Ordering::Relaxed);
            bus.publish(message.with_header(COPY_HEADER, "1"), &format!("copy-{number}")).await.unwrap();
        }
    }
}

#[test]
fn repeated_submissions_of_one_envelope_are_one_job() {
    let mut cluster = start_slow_cluster(TestStore::Directory);
    cluster.spawn("planner-2", &["planner"]);
    let observer = BusObserver::connect(&cluster);
    let envelope = with_field(insurance_envelope("same", 30), "/policy/verify", json!("spotcheck"));
    let other_jobs = [eta_envelope("same-eta", 12), insurance_envelope("same-small", 2)];
    submit_all(&cluster, &other_jobs);
    for number in 0..10 {
        let message = Message::new(topology::SUBMIT_SUBJECT, envelope.to_string());
        observer.block_on(observer.bus.publish(message, &format!("same-{number}"))).unwrap();
    }
    assert_all_complete(&cluster, &observer, &[envelope]);
    assert_all_complete(&cluster, &observer, &other_jobs);
    observer.assert_drained();
}
