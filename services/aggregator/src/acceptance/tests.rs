//! What is ignored, what is rejected, and that the cheap checks come first.

use forge_contract::shard_result::Tally;
use forge_kernel::{reduction::Reduction, request::Request};
use serde_json::{Value, json};

use super::*;
use crate::test_job::{Sender, TestJob, UID, attest, falsified, frame, pool};

const SENDER: Sender = Sender("alpha", 1, 1);

fn job() -> TestJob {
    TestJob::new(3, Value::Null, json!({}))
}

/// Why the content or the statement of a result is invalid; panics if it is valid.
fn rejection(job: &TestJob, pool_name: &str, result: &AttestedResult) -> String {
    let checked = job.context.check_statement(&pool(pool_name), result);
    checked.and_then(|()| job.context.decode(result).map(drop)).unwrap_err().to_string()
}

#[test]
fn messages_that_answer_no_task_of_the_shard_are_no_results() {
    let job = job();
    let (shard, other) = (job.shard(0), job.shard(1));
    let statement = job.statement(SENDER, 0, &job.results[0]);
    let payload = frame(&attest(statement.clone(), 1), &job.results[0].encode());
    assert!(job.context.identify(UID, shard, &payload).is_ok());
    let identify = |uid, shard, payload: &Bytes| job.context.identify(uid, shard, payload).unwrap_err();
    assert_eq!(identify(JobUid([2; 16]), shard, &payload), NoResult::NotInPlan);
    assert_eq!(identify(UID, ShardId { height: 1, index: 0 }, &payload), NoResult::NotInPlan);
    assert_eq!(identify(UID, other, &payload), NoResult::UnknownTask);
    assert!(matches!(identify(UID, shard, &Bytes::from_static(b"{}")), NoResult::Unreadable(_)));
    // Neither the signature nor the bytes of an invented task are examined.
    let mut invented = attest(statement, 2);
    invented.statement.task_id.0[31] ^= 1;
    assert_eq!(identify(UID, shard, &frame(&invented, b"")), NoResult::UnknownTask);
}

#[test]
fn statement_that_differs_from_the_plan_is_rejected() {
    let job = job();
    let changes: [fn(&mut ResultStatement); 7] = [
        |statement| statement.job_uid = JobUid([9; 16]),
        |statement| statement.shard_id.index = 2,
        |statement| statement.iterations -= 1,
        |statement| statement.seed = Digest([9; 32]),
        |statement| statement.program = Digest([9; 32]),
        |statement| statement.kernel += 1,
        |statement| statement.pool = pool("beta"),
    ];
    for change in changes {
        let mut statement = job.statement(SENDER, 0, &job.results[0]);
        change(&mut statement);
        let payload = frame(&attest(statement, 1), &job.results[0].encode());
        let result = job.context.identify(UID, job.shard(0), &payload).unwrap();
        assert!(rejection(&job, "alpha", &result).contains("not about this shard"), "{result:?}");
    }
    // The pool is that of the subject, which permissions tie to the credential.
    let result = job.result(SENDER, 0, &job.results[0]);
    assert!(rejection(&job, "beta", &result).contains("not about this shard"));
    assert_eq!(job.context.check_statement(&pool("alpha"), &result), Ok(()));
}

#[test]
fn content_that_no_merge_may_contain_is_rejected() {
    let job = job();
    let right = &job.results[0];
    let reason = |result: &AttestedResult| rejection(&job, "alpha", result);
    let mut foreign = job.result(SENDER, 0, right);
    foreign.bytes = job.results[1].encode().into();
    assert!(reason(&foreign).contains("which is not the attested one"));
    let mut oversized = job.result(SENDER, 0, right);
    oversized.bytes = Bytes::new();
    assert!(reason(&oversized).contains("too large for a message"));
    let mut unsigned = job.result(SENDER, 0, right);
    unsigned.attestation.signature = attest(unsigned.statement().clone(), 2).signature;
    assert!(reason(&unsigned).contains("signature"));
    assert!(reason(&job.result(SENDER, 2, right)).contains("iterations"));
    let mut misshapen = right.clone();
    misshapen.components.push(Tally::default());
    assert!(reason(&job.result(SENDER, 0, &misshapen)).contains("components"));
    let mut slow = job.result(SENDER, 0, right);
    slow.attestation.wall_us = u64::MAX;
    assert!(reason(&slow).contains("a year"));
}

#[test]
fn merged_counts_stay_exact_in_json_whatever_workers_return() {
    // Larger plans allow each shard less, so that all together stay below 2^53.
    let job = job();
    let limit = |iterations| job.context.max_occurrences(iterations);
    let shards: Vec<_> = job.context.job.request.plan.shards().collect();
    let iterations = shards.iter().map(|&shard| job.context.job.request.shard(shard).iterations);
    assert!(iterations.map(limit).sum::<u128>() <= (1 << 53) - (1 << 48));
    // Of a run with the most shards, each may have few occurrences, though decoding allows 2^43.
    let envelope = json!({"op": {"name": "mc", "version": 1, "profile": "insurance.v1"}, "args": {
        "iterations": 1_u64 << 48, "claim_freq": 0.1, "claim_severity_mu": 6, "claim_severity_sig": 1}});
    let request = Request::from_json(envelope.to_string().as_bytes()).unwrap();
    let large = JobContext::new(Arc::new(Job::new(request)), UID, JobKey::from([7; 32]));
    let iterations = 1 << 28;
    assert_eq!(large.job.request.plan.shard_count(), 1 << 20);
    let statement = ResultStatement { iterations, ..job.statement(SENDER, 0, &job.results[0]) };
    let check = |occurrences: u64| {
        let mut result = Reduction::new(&large.job.request.program).result();
        result.iterations = iterations;
        result.components[0].occurrences = occurrences;
        large.check_content(&statement, &result)
    };
    let most = u64::try_from(large.max_occurrences(iterations)).unwrap();
    assert_eq!(check(most), Ok(()));
    assert!(check(most + 1).unwrap_err().to_string().contains("occurrences"));
    let huge = falsified(&job.results[0], 1 << 53);
    // Decoding allows 2^15 occurrences an iteration, which is less in a shard of one leaf.
    assert!(job.context.decode(&job.result(SENDER, 0, &huge)).is_err());
}
