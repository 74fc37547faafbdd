//! Processes that are killed while jobs are in all phases, and messages that come twice.

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
    mix::{Witness, all_complete, eta, id, mix, slow, start_slow, submit_all, until_shards},
    support::{Cluster, Place, insurance, with},
};

/// Kills a service as soon as jobs are accepted, while they run, and near their end; and starts it again each time.
fn killed_again_and_again(service: &str, arguments: &[&str]) {
    let mut cluster = slow(Place::Directory);
    let witness = Witness::of(&cluster);
    let envelopes = mix(service);
    submit_all(&cluster, &envelopes);
    for shards in [0, 40, 140] {
        until_shards(&cluster, id(&envelopes[0]), shards);
        cluster.kill(service);
        // Others must not depend on it being there.
        thread::sleep(Duration::from_millis(300));
        cluster.spawn(service, arguments);
    }
    // One that comes when the others are all but done.
    let late = insurance(&format!("{service}-late"), 8);
    cluster.submit(&late);
    all_complete(&cluster, &witness, &envelopes);
    all_complete(&cluster, &witness, &[late]);
    witness.saw_all_cleared();
}

#[test]
fn a_planner_is_killed_again_and_again() {
    killed_again_and_again("planner", &["planner"]);
}

#[test]
fn an_aggregator_is_killed_again_and_again() {
    killed_again_and_again("aggregator", &["aggregator"]);
}

#[test]
fn a_verifier_is_killed_again_and_again() {
    killed_again_and_again("verifier", &["verifier"]);
}

#[test]
fn a_worker_is_killed_again_and_again() {
    killed_again_and_again("worker", &["worker", "--backend", "scalar"]);
}

#[test]
fn an_aggregator_is_killed_while_it_completes_jobs() {
    let mut cluster = slow(Place::Directory);
    let witness = Witness::of(&cluster);
    // Small jobs end one after the other: whenever it is killed, some are being completed.
    let envelopes: Vec<_> =
        (0..40).map(|number| insurance(&format!("small-{number}"), 1 + number % 4)).collect();
    for (number, envelope) in envelopes.iter().enumerate() {
        cluster.submit(envelope);
        if number % 8 == 7 {
            cluster.kill("aggregator");
            cluster.spawn("aggregator", &["aggregator"]);
        }
    }
    all_complete(&cluster, &witness, &envelopes);
    witness.saw_all_cleared();
}

#[test]
fn everything_is_stopped_in_the_middle_of_jobs_and_started_again() {
    let mut cluster = slow(Place::Directory);
    let witness = Witness::of(&cluster);
    let envelopes = mix("upgrade");
    submit_all(&cluster, &envelopes);
    until_shards(&cluster, id(&envelopes[0]), 40);
    for service in ["planner", "worker", "verifier", "aggregator"] {
        cluster.kill(service);
    }
    // What is submitted meanwhile waits.
    let waiting = insurance("upgrade-waiting", 8);
    let message = Message::new(topology::SUBMIT_SUBJECT, waiting.to_string().into_bytes());
    witness.run(witness.bus.publish(message, "waiting")).unwrap();
    start_slow(&mut cluster);
    all_complete(&cluster, &witness, &envelopes);
    all_complete(&cluster, &witness, &[waiting]);
    witness.saw_all_cleared();
}

#[test]
fn two_of_each_compete_and_one_of_each_is_killed() {
    let mut cluster = Cluster::empty(Place::Directory);
    start_slow(&mut cluster);
    cluster.spawn("planner-2", &["planner"]);
    cluster.spawn("aggregator-2", &["aggregator"]);
    let witness = Witness::of(&cluster);
    let envelopes = mix("compete");
    let more: Vec<_> = (0..4).map(|number| eta(&format!("more-{number}"), 3 + number)).collect();
    submit_all(&cluster, &envelopes);
    submit_all(&cluster, &more);
    until_shards(&cluster, id(&envelopes[0]), 60);
    cluster.kill("planner");
    cluster.kill("aggregator-2");
    all_complete(&cluster, &witness, &envelopes);
    all_complete(&cluster, &witness, &more);
    witness.saw_all_cleared();
}

#[test]
fn every_message_comes_twice() {
    let mut cluster = slow(Place::Directory);
    cluster.spawn("planner-2", &["planner"]);
    cluster.spawn("aggregator-2", &["aggregator"]);
    let witness = Witness::of(&cluster);
    let copies = Arc::new(AtomicU64::new(0));
    for subject in [
        "forge.v1.shards.>",
        "forge.v1.duplicates.>",
        "forge.v1.results.>",
        "forge.v1.verdicts.>",
        "forge.v1.reduce.>",
    ] {
        witness.spawn(echo(witness.bus.clone(), subject, Arc::clone(&copies)));
    }
    let envelopes = mix("twice");
    for (number, envelope) in envelopes.iter().enumerate() {
        for copy in 0..2 {
            let message = Message::new(topology::SUBMIT_SUBJECT, envelope.to_string());
            witness.run(witness.bus.publish(message, &format!("raw-{number}-{copy}"))).unwrap();
        }
    }
    let records = all_complete(&cluster, &witness, &envelopes);
    assert_eq!(records[0]["progress"]["shards_done"], 240);
    assert_eq!(records[1]["progress"]["shards_verified"], 120);
    // Shards and their results, duplicates and verdicts of those that are checked, orders.
    let copies = copies.load(Ordering::Relaxed);
    assert!(copies >= 2 * (240 + 120 + 64) + 2 * (24 + 120 + 32) + 3, "{copies}");
}

/// Marks copies, which are not copied again.
const COPY: &str = "Test-Copy";

/// Publishes a copy of every message on a subject, once, under another id.
async fn echo(bus: SharedBus, subject: &str, copies: Arc<AtomicU64>) {
    let mut heard = bus.subscribe(subject).await.unwrap();
    while let Some(message) = heard.next().await {
        if message.headers.get(COPY).is_none() {
            let number = copies.fetch_add(1, Ordering::Relaxed);
            bus.publish(message.with_header(COPY, "1"), &format!("copy-{number}")).await.unwrap();
        }
    }
}

#[test]
fn the_same_envelope_from_all_sides_is_one_job() {
    let mut cluster = slow(Place::Directory);
    cluster.spawn("planner-2", &["planner"]);
    let witness = Witness::of(&cluster);
    let envelope = with(insurance("same", 30), "/policy/verify", json!("spotcheck"));
    let others = [eta("same-eta", 12), insurance("same-small", 2)];
    submit_all(&cluster, &others);
    for number in 0..10 {
        let message = Message::new(topology::SUBMIT_SUBJECT, envelope.to_string());
        witness.run(witness.bus.publish(message, &format!("same-{number}"))).unwrap();
    }
    all_complete(&cluster, &witness, &[envelope]);
    all_complete(&cluster, &witness, &others);
    witness.saw_all_cleared();
}
