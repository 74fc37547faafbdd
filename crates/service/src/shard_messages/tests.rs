//! Messages parse to the content that they were built from, and the error distinguishes a malformed
//! payload from one of another version.

use std::time::Duration;

use forge_contract::{ids::TaskId, shard::ShardId};
use forge_kernel::backend::scalar::Scalar;

use super::*;

const JOB: JobUid = JobUid([1; 16]);

fn task() -> ShardTask {
    ShardTask {
        protocol: PROTOCOL,
        job_uid: JOB,
        shard_id: ShardId { height: 0, index: 3 },
        iterations: 10,
        seed: Digest([2; 32]),
        program: Digest([3; 32]),
        kernel: 1,
        task_id: TaskId([4; 32]),
    }
}

fn execution() -> ShardExecution {
    let bytes = Bytes::from_static(b"the result");
    ShardExecution {
        hash: Digest::hash_parts(&[&bytes]),
        bytes,
        iterations: 10,
        wall: Duration::from_micros(5),
        cpu: Duration::from_micros(4),
    }
}

#[test]
fn a_result_states_its_task_and_is_signed_and_has_no_headers() {
    let (agent, pool) = (Identity::from_random([1; 32]), "rented".parse().unwrap());
    let (message, id) = build_result(&agent, &pool, &Scalar, &task(), &execution());
    assert_eq!(message.subject, topology::result_subject(&pool, JOB, task().shard_id));
    assert_eq!(message.headers.iter().count(), 0);
    let (attestation, bytes) = parse_result(&message.payload).unwrap();
    assert_eq!(bytes, execution().bytes);
    assert!(attestation.is_signature_valid());
    assert_eq!((attestation.wall_us, attestation.cpu_us), (5, 4));
    let statement = attestation.statement;
    assert_eq!(
        (statement.job_uid, statement.shard_id, statement.task_id),
        (JOB, task().shard_id, task().task_id)
    );
    assert_eq!((statement.pool, statement.agent_id), (pool.clone(), agent.id().clone()));
    assert_eq!((statement.result_hash, statement.backend.as_str()), (execution().hash, "scalar"));
    assert_ne!(id, build_result(&agent, &pool, &Scalar, &task(), &execution()).1);
}

#[test]
fn a_malformed_result_is_told_apart_from_one_of_another_version() {
    let agent = Identity::from_random([1; 32]);
    let (message, _) = build_result(&agent, &PoolName::default(), &Scalar, &task(), &execution());
    let frame = |json: &str| {
        let length = (json.len() as u32).to_le_bytes();
        Bytes::from([length.as_slice(), json.as_bytes(), b"result"].concat())
    };
    let (attestation, _) = parse_result(&message.payload).unwrap();
    let json = serde_json::to_string(&attestation).unwrap();
    assert_eq!(parse_result(&frame(&json)).unwrap().1, "result");
    let newer = parse_result(&frame(r#"{"protocol":2,"shard":3}"#));
    assert_eq!(newer, Err(UnreadableMessage::OtherVersion(2)));

    let long_backend = json.replace(r#""backend":"scalar""#, &format!(r#""backend":"{}""#, "x".repeat(129)));
    let padded = format!("{json}{}", " ".repeat(MAX_ATTESTATION_BYTES));
    let mut too_long = frame(&json).to_vec();
    too_long[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let malformed = [
        Bytes::new(),
        Bytes::from_static(b"abc"),
        frame("{}"),
        frame(&json[..json.len() - 1]),
        frame(&long_backend),
        frame(&padded),
        frame(&json.replacen(r#""statement":{"protocol":1"#, r#""statement":{"protocol":2"#, 1)),
        Bytes::from(too_long),
    ];
    for payload in malformed {
        let parsed = parse_result(&payload);
        assert!(matches!(parsed, Err(UnreadableMessage::Malformed(_))), "{payload:?}: {parsed:?}");
    }
}

#[test]
fn a_verdict_names_the_claim_and_the_task() {
    let (verifier, agent) = (Identity::from_random([1; 32]), Identity::from_random([2; 32]));
    let claim = Claim {
        pool: PoolName::default(),
        agent_id: agent.id().clone(),
        backend: "gpu".to_owned(),
        adapter: None,
        result_hash: Digest([7; 32]),
    };
    let judgement = Judgement::from_execution(
        &Scalar,
        VerdictOutcome::Refuted,
        Some(Digest([8; 32])),
        "they differ".to_owned(),
    );
    let (message, id) = build_verdict(&verifier, JOB, &task(), &claim, judgement.clone());
    assert_eq!(topology::parse_verdict_subject(&message.subject), Some((JOB, task().shard_id)));
    let verdict = parse_verdict(&message.payload).unwrap();
    assert!(verdict.is_signature_valid());
    let statement = verdict.statement;
    assert_eq!((statement.outcome, statement.correct), (judgement.outcome, judgement.correct));
    assert_eq!(
        (statement.pool, statement.agent_id, statement.result_hash),
        (claim.pool.clone(), claim.agent_id.clone(), claim.result_hash)
    );
    assert_eq!(
        (statement.job_uid, statement.task_id, &statement.verifier_id),
        (JOB, task().task_id, verifier.id())
    );
    assert_ne!(id, build_verdict(&verifier, JOB, &task(), &claim, judgement).1);
    assert_eq!(parse_verdict(br#"{"protocol":7}"#), Err(UnreadableMessage::OtherVersion(7)));
}

#[test]
fn outcomes_parse_in_order() {
    let outcomes: Vec<_> =
        (0..3).map(|index| ShardOutcome::Reopened { shard_id: ShardId { height: 0, index } }).collect();
    let (message, id) = build_outcomes(JOB, outcomes.clone());
    assert_eq!(message.subject, topology::outcomes_subject(JOB));
    assert_eq!(parse_outcomes(&message.payload), Ok(OutcomeBatch::new(outcomes.clone())));
    assert_ne!(id, build_outcomes(JOB, outcomes).1);
}
