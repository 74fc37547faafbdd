//! What the first refutation of a pool changes.

use super::{simulation::Simulation, *};

const SPOTCHECK: &str = "spotcheck";

fn spotcheck(leaves: u64, ratio: f64) -> TestJob {
    TestJob::with_small_results(leaves, json!({"verify": SPOTCHECK, "verify_ratio": ratio}))
}

/// An agent of a pool with a key that no other result has.
fn agent(number: u8) -> AgentId {
    identity(number).id().clone()
}

fn merged(job: &TestJob) -> Vec<u8> {
    merge_results(&job.context.job.request.program, &job.results).encode()
}

#[test]
fn one_drawn_lie_of_a_pool_replaces_all_its_lies() {
    // As in an attack on a cluster: 59 of 64 lies shipped, because each had a key of its own.
    let job = spotcheck(64, 0.1);
    let mut simulation = Simulation::new(&job);
    let (liars, honest) = (pool("alpha"), pool("beta"));
    for position in 0..64 {
        let sender = (&liars, &agent(position as u8));
        simulation.return_result(job.unsigned_result(sender, position, 1, &job.lies[position][0]));
    }
    assert_eq!(simulation.accepted.len(), 64);
    simulation.verify_all();
    assert_eq!(simulation.restarts, 1, "all results of the pool are dropped at once");
    assert!(simulation.accepted.is_empty() && !simulation.reduction.is_complete());
    for position in 0..64 {
        let sender = (&honest, &agent(100));
        simulation.return_result(job.unsigned_result(sender, position, 2, &job.truth[position]));
    }
    simulation.verify_all();
    assert!(simulation.reduction.is_complete());
    let reduced = simulation.reduction.reduced_job().unwrap();
    assert_eq!(reduced.merged.encode(), merged(&job));
    assert!(reduced.executions.iter().all(|execution| execution.pool == honest));
    assert_eq!(reduced.verification.suspect_pools, [liars]);
    // Every lie was found: they contradict the results that replaced them.
    assert_eq!(reduced.verification.refuted.len(), 64);
}

#[test]
fn job_of_one_pool_with_a_broken_machine_completes() {
    let job = spotcheck(20, 0.2);
    let only = pool("default");
    for broken in 0..4 {
        let mut simulation = Simulation::new(&job);
        let mut number = 0;
        let (good, bad) = (agent(1), agent(2));
        for position in 0..20 {
            let (sender, result) = match position % 4 == broken {
                true => (&bad, &job.lies[position][0]),
                false => (&good, &job.truth[position]),
            };
            simulation.return_result(job.unsigned_result((&only, sender), position, number, result));
        }
        simulation.verify_all();
        for _ in 0..2 {
            for position in 0..20 {
                number += 1;
                if !simulation.accepted.contains(&job.shard(position)) {
                    let result = job.unsigned_result((&only, &good), position, number, &job.truth[position]);
                    simulation.return_result(result);
                }
            }
            simulation.verify_all();
        }
        assert!(simulation.reduction.is_complete());
        let reduced = simulation.reduction.reduced_job().unwrap();
        let verification = reduced.verification;
        if verification.suspect_pools.is_empty() {
            assert_ne!(reduced.merged.encode(), merged(&job), "no lie was drawn");
        } else {
            assert_eq!((reduced.merged.encode(), verification.checked.len()), (merged(&job), 20));
            assert!(reduced.executions.iter().all(|execution| execution.agent_id == good));
        }
    }
}

#[test]
fn another_pool_is_not_suspect() {
    let job = TestJob::new(3, Value::Null, json!({"verify": "full"}));
    let mut first = reduction(&job);
    let wrong = falsified(&job.results[0], 1);
    add(&mut first, &job, A, 0, &wrong);
    add(&mut first, &job, A, 1, &job.results[1]);
    add(&mut first, &job, B, 2, &job.results[2]);
    assert_eq!(requested(&mut first), [0, 1, 2]);
    judge(&mut first, &job, B, 2, &job.results[2], VerdictOutcome::Confirmed);
    first.take_outcomes();
    assert_eq!(
        judge(&mut first, &job, A, 0, &wrong, VerdictOutcome::Refuted),
        VerdictEffect::RestartRequired
    );
    let mut second = first.restart();
    let reopened = |position| ShardOutcome::Reopened { shard_id: job.shard(position) };
    let rejected = ShardOutcome::Rejected { shard_id: job.shard(0), task_id: job.task(0, 1) };
    assert_eq!(second.take_outcomes(), [rejected, reopened(0), reopened(1)]);

    // The stream is replayed: the refuted agent's results are rejected, those of its pool are held.
    assert_eq!(add(&mut second, &job, A, 0, &wrong), ResultDisposition::Redundant);
    assert!(is_rejected(&add(&mut second, &job, A, 1, &job.results[1])));
    assert_eq!(add(&mut second, &job, B, 2, &job.results[2]), ResultDisposition::Accepted);
    let colleague = Sender("alpha", 7, 7);
    for position in 0..2 {
        assert_eq!(
            add(&mut second, &job, colleague, position, &job.results[position]),
            ResultDisposition::Held
        );
    }
    assert_eq!(second.progress().shards_done, 1);
    assert_eq!(requested(&mut second), [0, 1]);
    for position in 0..2 {
        assert!(!second.is_complete());
        judge(&mut second, &job, colleague, position, &job.results[position], VerdictOutcome::Confirmed);
    }
    assert!(second.is_complete());
    let reduced = second.reduced_job().unwrap();
    assert_eq!(reduced.merged.encode(), merged(&job));
    assert_eq!((reduced.verification.checked.len(), reduced.verification.refuted.len()), (3, 1));
}

#[test]
fn held_results_are_rejected_with_every_task_when_they_are_refuted() {
    let job = TestJob::new(2, Value::Null, json!({}));
    let mut reduction = reduction(&job);
    let wrong = falsified(&job.results[0], 1);
    // The verdict is about a result that has not arrived.
    judge(&mut reduction, &job, A, 1, &wrong, VerdictOutcome::Refuted);
    let (first, second) = (Sender("alpha", 3, 3), Sender("alpha", 4, 4));
    assert_eq!(add(&mut reduction, &job, first, 0, &wrong), ResultDisposition::Held);
    assert_eq!(add(&mut reduction, &job, second, 0, &wrong), ResultDisposition::Held);
    assert_eq!(add(&mut reduction, &job, second, 0, &wrong), ResultDisposition::Redundant);
    reduction.take_outcomes();
    assert_eq!(requested(&mut reduction), [0], "one verification says whether the bytes are right");
    judge(&mut reduction, &job, first, 0, &wrong, VerdictOutcome::Refuted);
    let rejected = |number| ShardOutcome::Rejected { shard_id: job.shard(0), task_id: job.task(0, number) };
    assert_eq!(reduction.take_outcomes(), [rejected(3), rejected(4)]);
}

#[test]
fn verdict_may_arrive_before_its_result() {
    let job = TestJob::new(2, Value::Null, json!({"verify": "full"}));
    let mut reduction = reduction(&job);
    let wrong = falsified(&job.results[1], 1);
    judge(&mut reduction, &job, A, 0, &job.results[0], VerdictOutcome::Confirmed);
    judge(&mut reduction, &job, A, 1, &wrong, VerdictOutcome::Refuted);
    // The confirmed result counts, although its agent lied elsewhere.
    assert_eq!(add(&mut reduction, &job, A, 0, &job.results[0]), ResultDisposition::Accepted);
    assert_eq!(add(&mut reduction, &job, A, 1, &wrong), ResultDisposition::Redundant);
    // So does the confirmed result when another agent returns it.
    assert_eq!(reduction.progress().shards_verified, 1);
    let colleague = Sender("alpha", 3, 3);
    judge(&mut reduction, &job, colleague, 1, &job.results[1], VerdictOutcome::Confirmed);
    assert_eq!(
        add(&mut reduction, &job, Sender("alpha", 4, 4), 1, &job.results[1]),
        ResultDisposition::Accepted
    );
    assert!(reduction.is_complete() && requested(&mut reduction).is_empty());
}

#[test]
fn refuted_result_of_another_agent_gets_a_verdict_of_its_own() {
    let job = TestJob::new(1, Value::Null, json!({}));
    let mut reduction = reduction(&job);
    let wrong = falsified(&job.results[0], 1);
    judge(&mut reduction, &job, A, 0, &wrong, VerdictOutcome::Refuted);
    assert_eq!(add(&mut reduction, &job, B, 0, &wrong), ResultDisposition::Held);
    assert_eq!(requested(&mut reduction), [0]);
    judge(&mut reduction, &job, B, 0, &wrong, VerdictOutcome::Refuted);
    assert_eq!(reduction.suspect_pools().len(), 2);
    assert_eq!(reduction.verification().refuted.len(), 2);
}

#[test]
fn confirmed_results_beyond_the_memory_limit_are_read_again() {
    let job = TestJob::new(2, Value::Null, json!({}));
    let mut first = reduction(&job);
    judge(&mut first, &job, A, 0, &falsified(&job.results[0], 1), VerdictOutcome::Refuted);
    let large = bytes::Bytes::from(vec![0; 64 << 20]);
    let filler = (7, job.results[1].digest());
    first.held.hold(filler, job.result(B, 1, &job.results[1]).attestation, large);
    let colleague = Sender("alpha", 3, 3);
    for position in 0..2 {
        assert_eq!(
            add(&mut first, &job, colleague, position, &job.results[position]),
            ResultDisposition::Held
        );
    }
    first.held.release(&filler);
    let confirm = |reduction: &mut JobReduction, position: usize| {
        judge(reduction, &job, colleague, position, &job.results[position], VerdictOutcome::Confirmed)
    };
    assert_eq!(confirm(&mut first, 0), VerdictEffect::Recorded);
    assert_eq!(confirm(&mut first, 1), VerdictEffect::RestartRequired);
    let mut second = first.restart();
    for position in 0..2 {
        let disposition = add(&mut second, &job, colleague, position, &job.results[position]);
        assert_eq!(disposition, ResultDisposition::Accepted);
    }
    assert!(second.is_complete());
}
