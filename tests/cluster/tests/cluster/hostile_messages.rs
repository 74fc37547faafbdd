//! Messages that no honest agent sends: forged, misplaced, outdated or of another version. None of
//! them decides about a job, and none costs the services more than a bounded amount of work.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use forge_bus::{
    BusError, Delivery, Message, SharedBus,
    topology::{self, Bucket, JobLength, Queue, SUBMIT_SUBJECT},
};
use forge_contract::{
    agent::Identity,
    artifact::Phase,
    attestation::{Attestation, ResultStatement},
    digest::Digest,
    envelope::Target,
    error::FailureCode,
    ids::{JobUid, PoolName},
    protocol::{PROTOCOL, parse_message},
    shard::ShardId,
    shard_result::ShardResult,
    task::{EndOrder, ShardTask},
};
use forge_kernel::backend::{Backend, scalar::Scalar};
use forge_service::{orders, program_store::ProgramStore};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::{
    bus_observer::BusObserver,
    job_mix::{
        assert_all_complete, convergence_args, eta_envelope, mixed_jobs, start_slow_cluster, submit_all,
    },
    support::{Cluster, TestStore, WAIT_LIMIT, insurance_envelope, with_field},
};

/// Pool of the agents that these tests play.
const FORGER_POOL: &str = "forger";
/// The version of messages that these services do not read.
const OTHER_PROTOCOL: u32 = PROTOCOL + 1;

fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

fn new_identity() -> Identity {
    Identity::from_random(random_bytes())
}

/// The uid of a job.
#[track_caller]
fn job_uid(cluster: &Cluster, job: &str) -> JobUid {
    let record = cluster.wait_until(job, "planned", |record| record["uid"].is_string());
    record["uid"].as_str().unwrap().parse().unwrap()
}

/// Starts every service but the worker.
fn start_without_worker(environment: &[(&str, &str)]) -> (Cluster, BusObserver) {
    let mut cluster = Cluster::empty(TestStore::Directory);
    for (name, value) in environment {
        cluster.environment.push(((*name).to_owned(), (*value).to_owned()));
    }
    for service in ["planner", "aggregator", "verifier"] {
        cluster.spawn(service, &[service]);
    }
    let observer = BusObserver::connect(&cluster);
    (cluster, observer)
}

/// Receives `count` shards as a worker does.
async fn receive_shards(bus: &SharedBus, count: usize) -> Vec<(Delivery, ShardTask)> {
    let mut queue = bus.open_queue(Queue::Shards(Target::Any, JobLength::Short)).await.unwrap();
    let mut received = Vec::new();
    while received.len() < count {
        for delivery in queue.fetch(count - received.len()).await.unwrap() {
            let task = parse_message(&delivery.message.payload).unwrap();
            received.push((delivery, task));
        }
    }
    received
}

/// Executes a shard.
async fn execute(bus: &SharedBus, task: &ShardTask) -> ShardResult {
    let program = ProgramStore::new(bus.clone(), 1).get(task.program).await.unwrap();
    Scalar.execute(&program, &[task.shard()], &()).unwrap().remove(0)
}

/// The message of an agent that returns `result` for a task, with a valid signature.
fn result_message(agent: &Identity, pool: &str, task: &ShardTask, result: &[u8]) -> Message {
    let pool: PoolName = pool.parse().unwrap();
    let statement = ResultStatement {
        protocol: PROTOCOL,
        job_uid: task.job_uid,
        shard_id: task.shard_id,
        iterations: task.iterations,
        seed: task.seed,
        program: task.program,
        kernel: task.kernel,
        task_id: task.task_id,
        pool: pool.clone(),
        agent_id: agent.id().clone(),
        backend: "scalar".to_owned(),
        adapter: None,
        result_hash: Digest::hash_parts(&[result]),
    };
    let signature = statement.sign(agent);
    let attestation = Attestation { protocol: PROTOCOL, statement, wall_us: 1, cpu_us: 1, signature };
    let json = serde_json::to_vec(&attestation).unwrap();
    let length = u32::try_from(json.len()).unwrap().to_le_bytes();
    let payload = [&length[..], &json, result].concat();
    Message::new(topology::result_subject(&pool, task.job_uid, task.shard_id), payload)
}

async fn publish(bus: &SharedBus, message: Message) {
    bus.publish(message, &hex_id()).await.unwrap();
}

/// An id that no other message has.
fn hex_id() -> String {
    JobUid(random_bytes()).to_string()
}

/// Counts the messages of a subject from now on.
fn count_messages(observer: &BusObserver, subject: &str) -> Arc<AtomicU64> {
    let (bus, count) = (observer.bus.clone(), Arc::new(AtomicU64::new(0)));
    let mut messages = observer.block_on(bus.subscribe(subject)).unwrap();
    let counted = Arc::clone(&count);
    observer.spawn(async move {
        while messages.next().await.is_some() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    count
}

/// The planner used to wait for a height of the plan that only this message had reached.
#[test]
fn unsigned_result_outside_the_plan_does_not_stall_a_converging_job() {
    let (mut cluster, observer) = start_without_worker(&[]);
    let envelope = with_field(insurance_envelope("outside", 4000), "/args/convergence", convergence_args());
    cluster.submit(&envelope);
    let uid = job_uid(&cluster, "outside");
    for id in [
        ShardId { height: 0, index: 8 },
        ShardId { height: 9, index: 0 },
        ShardId { height: 0, index: 1 << 20 },
    ] {
        let subject = topology::result_subject(&PoolName::default(), uid, id);
        observer.block_on(publish(&observer.bus, Message::new(subject, "x")));
    }
    cluster.spawn("worker", &["worker", "--backend", "scalar"]);
    assert_all_complete(&cluster, &observer, &[envelope]);
    observer.assert_drained();
}

/// Every contradiction has a key of its own and a valid signature. The verifier examines no more
/// than two claims of a pool.
#[test]
fn contradictions_cost_the_verifier_a_bounded_number_of_executions() {
    let (mut cluster, observer) = start_without_worker(&[]);
    let envelope = with_field(insurance_envelope("contradicted", 8), "/policy/verify", json!("none"));
    cluster.submit(&envelope);
    let verifications = count_messages(&observer, "forge.v1.duplicates.>");
    observer.block_on(async {
        let bus = &observer.bus;
        let received = receive_shards(bus, 2).await;
        let (delivery, task) = &received[0];
        let result = execute(bus, task).await;
        publish(bus, result_message(&new_identity(), "honest", task, &result.encode())).await;
        delivery.lease.ack().await;
        for number in 0..2000 {
            let mut wrong = result.clone();
            wrong.components[0].occurrences += 1 + number;
            let message = result_message(&new_identity(), FORGER_POOL, task, &wrong.encode());
            // The stream holds a limited number of messages about one shard from one pool. It is
            // full while the aggregator has not removed those that do not count.
            match bus.publish(message, &hex_id()).await {
                Ok(()) => {}
                Err(BusError::Full(_)) => assert!(number > 8),
                Err(error) => panic!("{error}"),
            }
        }
    });
    // The second shard that this test holds keeps the job open until its lease ends.
    cluster.spawn("worker", &["worker", "--backend", "scalar"]);
    assert_all_complete(&cluster, &observer, &[envelope]);
    assert!(verifications.load(Ordering::Relaxed) <= 4, "{verifications:?}");
    observer.assert_drained();
}

/// A count that no JSON document can state exactly.
#[test]
fn result_with_a_count_beyond_2_to_the_53_crashes_no_service() {
    let (mut cluster, observer) = start_without_worker(&[]);
    let envelope = with_field(insurance_envelope("huge", 8), "/policy/verify", json!("none"));
    cluster.submit(&envelope);
    observer.block_on(async {
        for (delivery, task) in receive_shards(&observer.bus, 2).await {
            let mut result = execute(&observer.bus, &task).await;
            result.components[0].occurrences = 1 << 60;
            publish(&observer.bus, result_message(&new_identity(), FORGER_POOL, &task, &result.encode()))
                .await;
            delivery.lease.ack().await;
        }
    });
    cluster.spawn("worker", &["worker", "--backend", "scalar"]);
    assert_all_complete(&cluster, &observer, &[envelope]);
    assert!(cluster.is_running("aggregator") && !cluster.logs().contains("panic"), "{}", cluster.logs());
    observer.assert_drained();
}

/// A result that is signed for one job is worth nothing in another.
#[test]
fn result_of_one_job_is_not_accepted_in_another() {
    let (mut cluster, observer) = start_without_worker(&[]);
    let first = insurance_envelope("first", 1);
    let second = with_field(insurance_envelope("second", 1), "/seed/value", json!("another"));
    submit_all(&cluster, &[first.clone(), second.clone()]);
    observer.block_on(async {
        let received = receive_shards(&observer.bus, 2).await;
        let (one, other) = (&received[0].1, &received[1].1);
        let result = execute(&observer.bus, one).await.encode();
        let mut message = result_message(&new_identity(), FORGER_POOL, one, &result);
        message.subject =
            topology::result_subject(&FORGER_POOL.parse().unwrap(), other.job_uid, other.shard_id);
        publish(&observer.bus, message).await;
    });
    cluster.spawn("worker", &["worker", "--backend", "scalar"]);
    assert_all_complete(&cluster, &observer, &[first, second]);
}

/// The bytes of a submission; past the command line's validation.
fn publish_submission(observer: &BusObserver, envelope: &Value) {
    let message = Message::new(SUBMIT_SUBJECT, envelope.to_string());
    observer.block_on(publish(&observer.bus, message));
}

/// Two jobs of one id used to share all subjects, and with them their results.
#[test]
fn one_job_id_cannot_be_used_in_two_namespaces() {
    let (mut cluster, observer) = start_without_worker(&[("FORGE_KV_NAMESPACES", "jobs,other")]);
    let first = with_field(insurance_envelope("same", 12), "/policy/verify", json!("full"));
    cluster.submit(&first);
    let second = with_field(first.clone(), "/seed/value", json!("another"));
    let second = with_field(second, "/artifacts/kv_namespace", json!("other"));
    publish_submission(&observer, &second);
    let rejected =
        format!("rejected-{}", &Digest::hash_parts(&[second.to_string().as_bytes()]).to_hex()[..16]);
    let record = cluster.wait_for_end(&rejected);
    assert_eq!(record["error"]["code"], "conflict", "{record:#}");
    cluster.spawn("worker", &["worker", "--backend", "scalar"]);
    assert_all_complete(&cluster, &observer, &[first]);
    let other = Bucket::Jobs("other".to_owned());
    let entry = observer.block_on(observer.bus.get(&other, "same")).unwrap();
    assert!(entry.is_none(), "{entry:?}");
    let quarantined = observer.block_on(observer.bus.keys(&Bucket::Agents)).unwrap();
    assert!(!quarantined.iter().any(|key| key.starts_with("quarantine.")), "{quarantined:?}");
}

/// An order names the submission that it ends.
#[test]
fn order_to_end_an_earlier_job_does_not_end_a_job_of_the_same_id() {
    let cluster = start_slow_cluster(TestStore::Directory);
    let observer = BusObserver::connect(&cluster);
    let envelope = insurance_envelope("again", 60);
    cluster.submit(&envelope);
    job_uid(&cluster, "again");
    let stale = EndOrder::new(
        "again".parse().unwrap(),
        JobUid(random_bytes()),
        "jobs",
        FailureCode::Timeout,
        Phase::Execute,
        "an order of yesterday",
    );
    let (message, _) = orders::build_end(stale);
    observer.block_on(publish(&observer.bus, message));
    assert_all_complete(&cluster, &observer, &[envelope]);
    observer.assert_drained();
}

/// They would otherwise fill the storage of JetStream.
#[test]
fn results_of_unknown_jobs_are_purged() {
    let cluster = start_slow_cluster(TestStore::Directory);
    let observer = BusObserver::connect(&cluster);
    let envelopes = [insurance_envelope("beside", 8), eta_envelope("beside-too", 4)];
    observer.block_on(async {
        for number in 0..20 {
            let id = ShardId { height: 0, index: number };
            let subject = topology::result_subject(&PoolName::default(), JobUid(random_bytes()), id);
            publish(&observer.bus, Message::new(subject, vec![0; 100_000])).await;
        }
    });
    submit_all(&cluster, &envelopes);
    assert_all_complete(&cluster, &observer, &envelopes);
    observer.assert_drained_by_janitor();
}

/// Publishes messages of another version on every subject that services read.
async fn publish_other_version(bus: &SharedBus, job: JobUid) -> BTreeSet<String> {
    let shard = ShardId { height: 0, index: 0 };
    let payload = json!({"protocol": OTHER_PROTOCOL, "unheard_of": true}).to_string().into_bytes();
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    let framed = [&length[..], &payload].concat();
    let result = topology::result_subject(&PoolName::default(), job, shard);
    let subjects = [
        topology::shard_subject(Target::Any, JobLength::Short, job, shard),
        topology::verification_subject(JobLength::Short, job, shard),
        topology::verdict_subject(job, shard),
        topology::outcomes_subject(job),
        topology::reduce_subject(JobUid(random_bytes())),
        topology::end_subject(job),
    ];
    for subject in &subjects {
        publish(bus, Message::new(subject, payload.clone())).await;
    }
    publish(bus, Message::new(&result, framed)).await;
    subjects.into_iter().chain([result]).collect()
}

/// As in a rolling upgrade: each service leaves what it cannot read to one that can, and says so.
#[test]
fn messages_of_another_version_are_refused_and_fail_no_job() {
    let cluster = start_slow_cluster(TestStore::Directory);
    let observer = BusObserver::connect(&cluster);
    let envelopes = mixed_jobs("mixed");
    submit_all(&cluster, &envelopes);
    let uid = job_uid(&cluster, "mixed-large");
    let subjects = observer.block_on(publish_other_version(&observer.bus, uid));
    assert_eq!(subjects.len(), 7);
    assert_all_complete(&cluster, &observer, &envelopes);
    let refusal = format!("protocol version {OTHER_PROTOCOL}");
    let started = Instant::now();
    for service in ["planner", "aggregator", "verifier", "worker"] {
        let log = cluster.directory.path().join(format!("{service}.log"));
        while !std::fs::read_to_string(&log).unwrap().contains(&refusal) {
            assert!(started.elapsed() < WAIT_LIMIT, "{service}: {}", cluster.logs());
            thread::sleep(Duration::from_millis(100));
        }
    }
}
