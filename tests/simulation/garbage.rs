//! Messages that no service of this version has written, on every subject that services read: bytes
//! and headers without sense, JSON of another version, with numbers out of range, very deep or very
//! long, and sound documents about another job than the subject's.

use std::{sync::Arc, time::Duration};

use forge_bus::{
    Bus, Message,
    topology::{self, Bucket, JobLength},
};
use forge_contract::{
    agent::{AgentId, AgentRecord, AgentState, Identity},
    artifact::Phase,
    digest::Digest,
    envelope::Target,
    error::FailureCode,
    ids::{JobUid, PoolName, TaskId},
    protocol::PROTOCOL,
    shard::ShardId,
    task::{AggregatorOrder, EndOrder, OutcomeBatch, ReduceOrder, ShardOutcome, ShardTask, VerifierTask},
    verdict::{VerdictOutcome, VerdictStatement},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    client::ClientLog,
    cluster::SimulatedCluster,
    process::Process,
    process_bus::ProcessBus,
    workload::{parse, valid_envelope},
};

/// Time limit of a request to the API.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Depth of nested arrays.
const DEPTH: usize = 3000;
/// Length of a long text: messages may have 1 MiB.
const LONG_TEXT: usize = 60_000;
/// Requests of the API.
const API_SUBJECTS: [&str; 5] = [
    topology::API_SUBMIT_SUBJECT,
    topology::API_STATUS_SUBJECT,
    topology::API_CANCEL_SUBJECT,
    topology::API_LIST_SUBJECT,
    "forge.v1.api.submit.a.b",
];

/// Where a message goes.
#[derive(Debug, Clone, Copy)]
enum Addressee {
    Planner,
    Registry,
    Worker,
    Verifier,
    Reduction,
    End,
    Results,
    OddResults,
    Verdicts,
    Outcomes,
    Api,
    EndNotice,
}

const ADDRESSEES: [Addressee; 12] = [
    Addressee::Planner,
    Addressee::Registry,
    Addressee::Worker,
    Addressee::Verifier,
    Addressee::Reduction,
    Addressee::End,
    Addressee::Results,
    Addressee::OddResults,
    Addressee::Verdicts,
    Addressee::Outcomes,
    Addressee::Api,
    Addressee::EndNotice,
];

/// Sends what should have no effect.
struct GarbageSender {
    bus: ProcessBus,
    cluster: Arc<SimulatedCluster>,
    log: Arc<Mutex<ClientLog>>,
}

/// Sends garbage during the turmoil.
pub async fn send_garbage(cluster: &Arc<SimulatedCluster>, log: Arc<Mutex<ClientLog>>) {
    let world = &cluster.world;
    let process = Process::immortal("garbage".to_owned(), world);
    let bus = cluster.connect(&process);
    let sender = GarbageSender { bus, cluster: Arc::clone(cluster), log };
    let pause = Duration::from_secs_f64(1.0 / world.options.faults.garbage).min(world.options.turmoil);
    let mut number = 0;
    while world.now() < world.options.turmoil {
        sleep(pause).await;
        number += 1;
        let addressee = ADDRESSEES[world.draw(|rng| rng.usize(0..ADDRESSEES.len()))];
        if matches!(addressee, Addressee::Planner) {
            sender.log.lock().garbage += 1;
        }
        sender.send(addressee, number).await;
    }
}

impl GarbageSender {
    async fn send(&self, addressee: Addressee, number: u64) {
        let known = self.draw_known_job();
        let uid = known.unwrap_or_else(|| self.draw_uid());
        let shard = ShardId { height: 0, index: self.draw(|rng| rng.u64(0..4)) };
        let (payload, is_of_other_version) = self.draw_payload(addressee, shard);
        let pool: PoolName = "others".parse().expect("a valid name");
        let subject = match addressee {
            Addressee::Registry => {
                let key = format!("others.{number}");
                let _ = self.bus.put(&Bucket::Workers, &key, payload.into()).await;
                return;
            }
            Addressee::Api => {
                let subject = API_SUBJECTS[self.draw(|rng| rng.usize(0..API_SUBJECTS.len()))];
                let _ = self.bus.request(self.message(subject, payload), REQUEST_TIMEOUT).await;
                return;
            }
            Addressee::EndNotice => {
                let subject = topology::job_ended_subject(uid);
                let _ = self.bus.broadcast(self.message(&subject, payload)).await;
                return;
            }
            Addressee::Planner => topology::SUBMIT_SUBJECT.to_owned(),
            Addressee::Worker => {
                topology::shard_subject(Target::Any, JobLength::Short, self.draw_uid(), shard)
            }
            Addressee::Verifier => topology::verification_subject(JobLength::Short, self.draw_uid(), shard),
            Addressee::Reduction => topology::reduce_subject(self.draw_uid()),
            Addressee::End => topology::end_subject(self.draw_uid()),
            Addressee::Results => topology::result_subject(&pool, uid, shard),
            Addressee::OddResults => format!("forge.v1.results.others.{number}"),
            Addressee::Verdicts => topology::verdict_subject(uid, shard),
            Addressee::Outcomes => topology::outcomes_subject(uid),
        };
        let is_kept = match addressee {
            Addressee::Worker | Addressee::Verifier => true,
            Addressee::Reduction | Addressee::End => is_of_other_version,
            _ => false,
        };
        if is_kept {
            self.log.lock().kept_garbage.insert(subject.clone());
        }
        let _ = self.bus.publish(self.message(&subject, payload), &format!("garbage-{number}")).await;
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        self.cluster.world.draw(draw)
    }

    fn draw_bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.draw(|rng| rng.fill(&mut bytes));
        bytes
    }

    fn draw_uid(&self) -> JobUid {
        JobUid(self.draw_bytes())
    }

    /// One of the jobs that planners drive, or none.
    fn draw_known_job(&self) -> Option<JobUid> {
        let uids = self.cluster.traffic.driven_jobs();
        let number = self.draw(|rng| rng.usize(0..=uids.len()));
        uids.get(number).copied()
    }

    /// A message with headers that a client library can send; trace contexts and content types are
    /// read from such headers.
    fn message(&self, subject: &str, payload: Vec<u8>) -> Message {
        let message = Message::new(subject, payload);
        match self.draw(|rng| rng.u8(0..6)) {
            0 => {
                message.with_header("traceparent", "99-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
            }
            1 => {
                message.with_header("traceparent", "00-00000000000000000000000000000000-0000000000000000-00")
            }
            2 => message.with_header("traceparent", "x".repeat(LONG_TEXT)).with_header("tracestate", ",,=,"),
            3 => {
                let text: String =
                    self.draw_bytes::<40>().map(|byte| char::from(b' ' + byte % 95)).iter().collect();
                message.with_header("traceparent", text)
            }
            // Two headers that differ in case, which some libraries take for one.
            4 => message.with_header("Traceparent", "00").with_header("TRACEPARENT", "01"),
            _ => message,
        }
    }

    /// A payload, and whether it states another version of the protocol.
    fn draw_payload(&self, addressee: Addressee, shard: ShardId) -> (Vec<u8>, bool) {
        let kind = self.draw(|rng| rng.u8(0..8));
        if kind == 0 {
            let length = self.draw(|rng| rng.usize(0..200));
            return (self.draw_bytes::<200>()[..length].to_vec(), false);
        }
        if kind == 1 {
            let json = format!(r#"{{"protocol":1,"x":{}{}}}"#, "[".repeat(DEPTH), "]".repeat(DEPTH));
            return (json.into(), false);
        }
        let mut document = self.document(addressee, shard);
        match kind {
            2 => document["protocol"] = json!(PROTOCOL + 1),
            3 => document["protocol"] = json!(-1),
            4 => negate_numbers(&mut document),
            5 => document["x"] = json!("x".repeat(LONG_TEXT)),
            6 => document["protocol"] = json!(u64::MAX),
            // A sound document. Its subject is about another job.
            _ => {}
        }
        let json = document.to_string().into_bytes();
        if matches!(addressee, Addressee::Results | Addressee::OddResults) {
            let length = u32::try_from(json.len()).expect("it is short");
            return ([&length.to_le_bytes(), json.as_slice(), b"a result"].concat(), false);
        }
        (json, kind == 2)
    }

    /// A document of the kind that the addressee reads, about a job that does not exist.
    fn document(&self, addressee: Addressee, shard_id: ShardId) -> Value {
        let (job_uid, identity) = (self.draw_uid(), Identity::from_random(self.draw_bytes()));
        let job_id = "job-0".parse().expect("a valid name");
        let task_id = TaskId(self.draw_bytes());
        let task = ShardTask {
            protocol: PROTOCOL,
            job_uid,
            shard_id,
            iterations: 65_536,
            seed: Digest(self.draw_bytes()),
            program: Digest(self.draw_bytes()),
            kernel: 1,
            task_id,
        };
        let json = match addressee {
            Addressee::Planner => Ok(json!({"op": 1})),
            Addressee::Api => Ok(json!({"job_id": "job-99", "limit": 5})),
            Addressee::EndNotice => Ok(json!({"job_uid": job_uid})),
            Addressee::Registry => serde_json::to_value(worker_record(identity.id().clone())),
            Addressee::Worker => serde_json::to_value(task),
            Addressee::Verifier => {
                serde_json::to_value(VerifierTask { protocol: PROTOCOL, task, claim: None })
            }
            Addressee::Reduction => {
                let envelope = parse(&valid_envelope().to_string()).envelope;
                let order = ReduceOrder { protocol: PROTOCOL, job_id, job_uid, envelope, plan_us: 1 };
                serde_json::to_value(AggregatorOrder::Reduce(Box::new(order)))
            }
            Addressee::End => {
                // The record of this id, if there is one, is that of another submission.
                let (code, phase) = (FailureCode::Cancelled, Phase::Execute);
                let order = EndOrder::new(job_id, job_uid, "jobs", code, phase, "an earlier job");
                serde_json::to_value(AggregatorOrder::End(order))
            }
            Addressee::Outcomes => {
                let outcomes = vec![ShardOutcome::Undeliverable { shard_id, task_id }];
                serde_json::to_value(OutcomeBatch::new(outcomes))
            }
            Addressee::Results | Addressee::OddResults | Addressee::Verdicts => {
                serde_json::to_value(refutation(&identity, job_uid, shard_id, task_id).sign(&identity))
            }
        };
        json.expect("documents consist of strings, numbers and lists")
    }
}

/// The heartbeat of a worker with more slots than any machine.
fn worker_record(agent_id: AgentId) -> AgentRecord {
    AgentRecord {
        schema: AgentRecord::SCHEMA.to_owned(),
        agent_id,
        pool: Some("others".parse().expect("a valid name")),
        state: AgentState::Live,
        target: Target::Cpu,
        backend: "none".to_owned(),
        adapter: None,
        slots: u32::MAX,
        batch: u32::MAX,
        kernel: 1,
        version: String::new(),
        host: String::new(),
    }
}

/// A refutation by a verifier that was never registered.
fn refutation(verifier: &Identity, job_uid: JobUid, shard_id: ShardId, task_id: TaskId) -> VerdictStatement {
    VerdictStatement {
        protocol: PROTOCOL,
        outcome: VerdictOutcome::Refuted,
        job_uid,
        shard_id,
        task_id,
        pool: "pool-0".parse().expect("a valid name"),
        agent_id: verifier.id().clone(),
        result_hash: Digest([1; 32]),
        correct: None,
        verifier_id: verifier.id().clone(),
        backend: "scalar".to_owned(),
        adapter: None,
        reason: "it is wrong".to_owned(),
    }
}

/// Makes every number but the version of a document negative.
fn negate_numbers(document: &mut Value) {
    match document {
        Value::Object(members) => {
            members
                .iter_mut()
                .filter(|(name, _)| *name != "protocol")
                .for_each(|(_, value)| negate_numbers(value));
        }
        Value::Array(elements) => elements.iter_mut().for_each(negate_numbers),
        Value::Number(number) => *document = json!(-number.as_f64().unwrap_or(1.0)),
        _ => {}
    }
}
