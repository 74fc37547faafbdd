//! Dispatch decisions from outcomes, time and window, without a bus.

use std::collections::BTreeSet;

use forge_contract::shard::LEAF_ITERATIONS;
use proptest::prelude::*;

use super::*;

const NOW: Duration = Duration::ZERO;
const SECOND: Duration = Duration::from_secs(1);

/// A time at which no shard is known to be delivered.
fn at(now: Duration, starved: Duration) -> DispatchTime {
    DispatchTime { now, starved, delivered_before: Duration::ZERO }
}

/// A dispatcher that issues numbered tasks.
struct Issuer<'a> {
    dispatcher: Dispatcher<'a>,
    issued: u64,
}

impl<'a> Issuer<'a> {
    fn new(plan: &'a Plan) -> Self {
        Self { dispatcher: Dispatcher::new(plan), issued: 0 }
    }

    fn try_dispatch(
        &mut self,
        window: usize,
        now: Duration,
        starved: Duration,
    ) -> Result<Vec<ShardDispatch>, FatalShard> {
        let dispatches = self.dispatcher.dispatch(window, at(now, starved), |_, recipient| {
            self.issued += 1;
            task_of(recipient, self.issued)
        })?;
        self.dispatcher.note_published(&dispatches, now);
        Ok(dispatches)
    }

    fn dispatch(&mut self, window: usize) -> Vec<ShardDispatch> {
        self.try_dispatch(window, NOW, NOW).unwrap()
    }

    fn apply(&mut self, outcome: ShardOutcome) {
        self.dispatcher.apply_outcome(outcome);
    }

    fn accept(&mut self, index: u64) {
        self.apply(accepted(leaf(index), 1000));
    }
}

fn task(number: u64) -> TaskId {
    task_of(ShardRecipient::Worker, number)
}

fn task_of(recipient: ShardRecipient, number: u64) -> TaskId {
    let mut nonce = [0; 16];
    nonce[8..].copy_from_slice(&number.to_be_bytes());
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&recipient.mark_nonce(nonce));
    TaskId(bytes)
}

fn leaf(index: u64) -> ShardId {
    ShardId { height: 0, index }
}

fn accepted(shard_id: ShardId, wall_us: u64) -> ShardOutcome {
    ShardOutcome::Accepted { shard_id, task_id: task(0), wall_us, result_bytes: 1 }
}

fn rejected(dispatch: &ShardDispatch) -> ShardOutcome {
    ShardOutcome::Rejected { shard_id: dispatch.shard, task_id: dispatch.task }
}

fn indexes(dispatches: &[ShardDispatch]) -> Vec<u64> {
    dispatches.iter().map(|dispatch| dispatch.shard.index).collect()
}

#[test]
fn results_make_room_in_the_window() {
    let plan = Plan::new(10 * LEAF_ITERATIONS, 1, None);
    let mut issuer = Issuer::new(&plan);
    assert_eq!(indexes(&issuer.dispatch(3)), [0, 1, 2]);
    assert_eq!(indexes(&issuer.dispatch(3)), [0; 0]);
    issuer.accept(1);
    issuer.accept(1);
    assert_eq!(indexes(&issuer.dispatch(3)), [3]);
    assert_eq!(indexes(&issuer.dispatch(100)), [4, 5, 6, 7, 8, 9]);
    assert_eq!(issuer.dispatcher.in_flight(), 9);
    assert_eq!(issuer.dispatcher.mean_shard_time(), Some(Duration::from_millis(1)));
}

#[test]
fn takeover_dispatches_only_shards_without_an_accepted_result() {
    let plan = Plan::new(5 * LEAF_ITERATIONS, 1, None);
    let mut issuer = Issuer::new(&plan);
    [0, 1, 3].iter().for_each(|&index| issuer.accept(index));
    issuer.apply(ShardOutcome::Reopened { shard_id: leaf(1) });
    assert_eq!(indexes(&issuer.dispatch(100)), [1, 2, 4]);
}

#[test]
fn outcomes_of_shards_outside_the_plan_are_ignored() {
    let plan = Plan::new(2 * LEAF_ITERATIONS, 1, None);
    let mut issuer = Issuer::new(&plan);
    for shard_id in [leaf(2), ShardId { height: 1, index: 0 }, ShardId { height: 32, index: 0 }] {
        let (task_id, reason) = (task(1), String::new());
        issuer.apply(accepted(shard_id, u64::MAX));
        issuer.apply(ShardOutcome::Reopened { shard_id });
        issuer.apply(ShardOutcome::Undeliverable { shard_id, task_id });
        issuer.apply(ShardOutcome::Crashed { shard_id, task_id, reason });
    }
    assert_eq!(issuer.dispatcher.mean_shard_time(), None);
    assert_eq!(indexes(&issuer.dispatch(100)), [0, 1]);
}

#[test]
fn reopened_shards_are_dispatched_again_in_the_order_of_the_plan() {
    let plan = Plan::new(4 * LEAF_ITERATIONS, 1, None);
    let mut issuer = Issuer::new(&plan);
    issuer.dispatch(100);
    (0..3).for_each(|index| issuer.accept(index));
    for index in [2, 0, 3] {
        issuer.apply(ShardOutcome::Reopened { shard_id: leaf(index) });
    }
    let dispatches = issuer.dispatch(100);
    assert_eq!(indexes(&dispatches), [0, 2], "shard 3 is in flight");
    assert!(dispatches.iter().all(|dispatch| dispatch.recipient == ShardRecipient::Worker));
}

#[test]
fn only_the_failure_of_the_current_task_starts_the_next_attempt() {
    let plan = Plan::new(1, 1, None);
    let mut issuer = Issuer::new(&plan);
    let first = issuer.dispatch(1)[0];
    issuer.dispatcher.requeue_overdue(at(100 * SECOND, NOW), SECOND);
    let second = issuer.dispatch(1)[0];
    issuer.apply(rejected(&first));
    assert_eq!(issuer.dispatch(1), []);
    issuer.apply(rejected(&second));
    issuer.apply(rejected(&second));
    let third = issuer.dispatch(1)[0];
    assert_eq!(third.recipient, ShardRecipient::Verifier);
    assert!(BTreeSet::from([first.task, second.task, third.task]).len() == 3);
}

#[test]
fn shard_goes_to_verifiers_after_workers_and_is_exhausted_after_their_attempts() {
    let plan = Plan::new(1, 1, None);
    let mut issuer = Issuer::new(&plan);
    let mut recipients = Vec::new();
    for attempt in 0..WORKER_ATTEMPTS as usize + MAX_VERIFIER_FAILURES {
        let dispatch = issuer.dispatch(1)[0];
        recipients.push(dispatch.recipient);
        issuer.apply(if attempt % 2 == 0 {
            rejected(&dispatch)
        } else {
            ShardOutcome::Undeliverable { shard_id: dispatch.shard, task_id: dispatch.task }
        });
    }
    use ShardRecipient::{Verifier, Worker};
    assert_eq!(recipients, [Worker, Worker, Verifier, Verifier, Verifier, Verifier]);
    assert_eq!(issuer.try_dispatch(1, NOW, NOW), Err(FatalShard::Exhausted(leaf(0))));
}

#[test]
fn tasks_that_a_worker_has_kept_from_many_planners_do_not_exhaust_a_shard() {
    let plan = Plan::new(1, 1, None);
    // Each planner finds no outcome and hands the shard out to a worker, which keeps the task.
    let mut outcomes: Vec<_> = (0..100).map(|number| (task(number), leaf(0))).collect();
    let mut last = Issuer { dispatcher: Dispatcher::new(&plan), issued: 100 };
    outcomes.push((last.dispatch(1)[0].task, leaf(0)));
    for (task_id, shard_id) in outcomes {
        last.apply(ShardOutcome::Rejected { shard_id, task_id });
    }
    assert_eq!(last.dispatch(1)[0].recipient, ShardRecipient::Verifier);
    last.accept(0);
    assert_eq!(last.dispatch(1), []);
}

#[test]
fn undeliverable_shard_goes_to_a_verifier_at_once() {
    let plan = Plan::new(1, 1, None);
    let mut issuer = Issuer::new(&plan);
    let first = issuer.dispatch(1)[0];
    issuer.apply(ShardOutcome::Undeliverable { shard_id: first.shard, task_id: first.task });
    assert_eq!(issuer.dispatch(1)[0].recipient, ShardRecipient::Verifier);
}

#[test]
fn crash_in_isolation_is_fatal_unless_the_shard_is_completed() {
    let plan = Plan::new(2 * LEAF_ITERATIONS, 1, None);
    let mut issuer = Issuer::new(&plan);
    issuer.dispatch(2);
    issuer.accept(0);
    let crash = |index| ShardOutcome::Crashed {
        shard_id: leaf(index),
        task_id: task(9),
        reason: "signal 11".to_owned(),
    };
    issuer.apply(crash(0));
    assert_eq!(issuer.dispatch(2), []);
    issuer.apply(crash(1));
    let fatal = FatalShard::Crashed { shard: leaf(1), reason: "signal 11".to_owned() };
    assert_eq!(issuer.try_dispatch(2, NOW, NOW), Err(fatal));
}

#[test]
fn a_result_that_is_too_large_is_fatal_unless_the_shard_is_completed() {
    let plan = Plan::new(2 * LEAF_ITERATIONS, 1, None);
    let mut issuer = Issuer::new(&plan);
    issuer.dispatch(2);
    issuer.accept(0);
    let oversized = |index| ShardOutcome::Oversized {
        shard_id: leaf(index),
        task_id: task(9),
        reason: "9 of 8 bytes".to_owned(),
    };
    issuer.apply(oversized(0));
    assert_eq!(issuer.dispatch(2), []);
    issuer.apply(oversized(1));
    let fatal = FatalShard::Oversized { shard: leaf(1), reason: "9 of 8 bytes".to_owned() };
    assert_eq!(issuer.try_dispatch(2, NOW, NOW), Err(fatal));
}

#[test]
fn overdue_shard_is_retried_with_doubled_patience() {
    let plan = Plan::new(2 * LEAF_ITERATIONS, 1, None);
    let mut issuer = Issuer::new(&plan);
    let patience = 10 * SECOND;
    issuer.dispatch(2);
    issuer.accept(0);
    issuer.dispatcher.requeue_overdue(at(10 * SECOND, NOW), patience);
    assert_eq!(issuer.try_dispatch(9, 10 * SECOND, NOW).unwrap(), []);
    issuer.dispatcher.requeue_overdue(at(11 * SECOND, NOW), patience);
    assert_eq!(indexes(&issuer.try_dispatch(9, 11 * SECOND, NOW).unwrap()), [1]);
    issuer.dispatcher.requeue_overdue(at(31 * SECOND, NOW), patience);
    assert_eq!(issuer.try_dispatch(9, 31 * SECOND, NOW).unwrap(), []);
    issuer.dispatcher.requeue_overdue(at(32 * SECOND, NOW), patience);
    assert_eq!(indexes(&issuer.try_dispatch(9, 32 * SECOND, NOW).unwrap()), [1]);
}

#[test]
fn shard_that_a_worker_keeps_is_dispatched_again_early() {
    let plan = Plan::new(20 * LEAF_ITERATIONS, 1, None);
    let mut issuer = Issuer::new(&plan);
    let patience = 100 * SECOND;
    let recipients = |dispatches: &[ShardDispatch]| {
        let to_worker = |dispatch: &&ShardDispatch| dispatch.recipient == ShardRecipient::Worker;
        (dispatches.iter().filter(to_worker).count(), dispatches.len())
    };
    assert_eq!(recipients(&issuer.try_dispatch(4, SECOND, NOW).unwrap()), (4, 4));
    let requeue = |issuer: &mut Issuer<'_>, now: u32, delivered_before: u32| {
        let time = DispatchTime { delivered_before: delivered_before * SECOND, ..at(now * SECOND, NOW) };
        issuer.dispatcher.requeue_overdue(time, patience);
        issuer.try_dispatch(4, now * SECOND, NOW).unwrap()
    };
    // Workers receive them at 30 s, and return one.
    assert_eq!(requeue(&mut issuer, 30, 1), []);
    assert_eq!(requeue(&mut issuer, 31, 30), []);
    issuer.accept(3);
    assert_eq!(indexes(&requeue(&mut issuer, 32, 30)), [4]);
    assert_eq!(requeue(&mut issuer, 41, 30), []);
    // Three of four are kept: each goes to a verifier, and then half of the others.
    let dispatches = requeue(&mut issuer, 42, 42);
    assert_eq!((indexes(&dispatches), recipients(&dispatches)), (vec![0, 1, 2], (0, 3)));
    (0..3).for_each(|index| issuer.accept(index));
    assert_eq!(recipients(&requeue(&mut issuer, 43, 42)), (1, 3));
    // Once workers return shards again, they get them all.
    for index in 4..12 {
        issuer.accept(index);
        issuer.try_dispatch(4, 44 * SECOND, NOW).unwrap();
    }
    (12..16).for_each(|index| issuer.accept(index));
    assert_eq!(recipients(&issuer.try_dispatch(4, 45 * SECOND, NOW).unwrap()), (4, 4));
    // Where shards take long, workers may keep them for longer.
    issuer.apply(accepted(leaf(16), 60_000_000));
    assert_eq!(indexes(&requeue(&mut issuer, 46, 46)), [0; 0]);
    assert_eq!(indexes(&requeue(&mut issuer, 90, 90)), [0; 0]);
}

#[test]
fn shard_that_waits_in_a_busy_queue_never_exhausts_its_attempts() {
    let plan = Plan::new(1, 1, None);
    let mut issuer = Issuer::new(&plan);
    let (mut now, mut dispatched) = (NOW, 0);
    while now < 10_000 * SECOND {
        dispatched += issuer.try_dispatch(1, now, NOW).unwrap().len();
        now += SECOND;
        issuer.dispatcher.requeue_overdue(at(now, NOW), SECOND);
    }
    assert!(dispatched > 10 * MAX_VERIFIER_FAILURES, "{dispatched}");
    issuer.accept(0);
    assert_eq!(issuer.try_dispatch(1, now, NOW), Ok(Vec::new()));
}

#[test]
fn starved_first_attempt_is_not_overdue_but_a_later_attempt_is() {
    let plan = Plan::new(2 * LEAF_ITERATIONS, 1, None);
    let mut issuer = Issuer::new(&plan);
    let patience = 10 * SECOND;
    let first = issuer.dispatch(2);
    assert!(issuer.dispatcher.needs_workers());
    issuer.apply(rejected(&first[0]));
    assert_eq!(indexes(&issuer.try_dispatch(2, 5 * SECOND, NOW).unwrap()), [0]);
    assert!(!issuer.dispatcher.needs_workers());
    // The worker leaves.
    let starved = 95 * SECOND;
    issuer.dispatcher.requeue_overdue(at(100 * SECOND, starved), patience);
    let dispatches = issuer.try_dispatch(2, 100 * SECOND, starved).unwrap();
    assert_eq!((indexes(&dispatches), dispatches[0].recipient), (vec![0], ShardRecipient::Verifier));
    // Another worker joins.
    issuer.dispatcher.requeue_overdue(at(106 * SECOND, starved), patience);
    assert_eq!(indexes(&issuer.try_dispatch(2, 106 * SECOND, starved).unwrap()), [1]);
    issuer.accept(0);
    issuer.accept(1);
    assert!(!issuer.dispatcher.needs_workers(), "nothing is in flight");
}

#[test]
fn dispatch_stops_a_few_checkpoints_beyond_the_first_incomplete_one() {
    let plan = Plan::new(1000 * LEAF_ITERATIONS, 1, Some(1));
    let mut issuer = Issuer::new(&plan);
    let dispatches = issuer.dispatch(10_000);
    // Checkpoints at 1, 2, 3, 4, 5, 6, 7, 8, 10, 12 leaves: the ninth one is at 10.
    assert_eq!(plan.range(dispatches.last().unwrap().shard).end, 10 * LEAF_ITERATIONS);
    issuer.accept(0);
    assert_eq!(plan.range(issuer.dispatch(10_000).last().unwrap().shard).end, 12 * LEAF_ITERATIONS);
    issuer.apply(ShardOutcome::Reopened { shard_id: leaf(0) });
    issuer.accept(0);
    assert_eq!(issuer.dispatch(10_000), [], "the prefix counts a range once");
}

#[test]
fn size_of_a_result_that_does_not_count_any_more_is_forgotten() {
    const FREE: u64 = 10 << 20;
    let plan = Plan::new(1000 * LEAF_ITERATIONS, 1, None);
    let shards: Vec<_> = plan.shards().take(5).collect();
    let accept = |dispatcher: &mut Dispatcher<'_>, shard_id, result_bytes| {
        dispatcher.apply_outcome(ShardOutcome::Accepted {
            shard_id,
            task_id: task(0),
            wall_us: 1,
            result_bytes,
        });
    };
    let (mut honest, mut attacked) = (Dispatcher::new(&plan), Dispatcher::new(&plan));
    for shard in &shards[..4] {
        accept(&mut honest, *shard, 1000);
        accept(&mut attacked, *shard, 1000);
    }
    for false_size in [1 << 20, 0, u64::MAX] {
        accept(&mut attacked, shards[4], false_size);
        assert_ne!(attacked.result_volume().room(FREE, 0), honest.result_volume().room(FREE, 0));
        attacked.apply_outcome(ShardOutcome::Reopened { shard_id: shards[4] });
        assert_eq!(attacked.result_volume(), honest.result_volume());
    }
    for shard in &shards[..4] {
        attacked.apply_outcome(ShardOutcome::Reopened { shard_id: *shard });
    }
    let none = Dispatcher::new(&plan).result_volume();
    assert_eq!(attacked.result_volume(), none, "without a result, sizes are unknown again");
}

/// One step of a job: which outcome, about which of its shards, and the window of the dispatch that
/// follows.
fn steps() -> impl Strategy<Value = Vec<(u8, u64, usize)>> {
    prop::collection::vec((0u8..16, 0u64..9, 0usize..6), 0..120)
}

/// The outcome of a step, about a task that was issued. `None` if no task of the shard was.
fn outcome(kind: u8, shard_id: ShardId, tasks: &[ShardDispatch]) -> Option<ShardOutcome> {
    let mut of_shard = tasks.iter().filter(|dispatch| dispatch.shard == shard_id);
    let task_id = if kind.is_multiple_of(2) { of_shard.next_back()? } else { of_shard.next()? }.task;
    Some(match kind {
        0..=6 => ShardOutcome::Accepted { shard_id, task_id, wall_us: 1000, result_bytes: 1 },
        7..=10 => ShardOutcome::Rejected { shard_id, task_id },
        11 | 12 => ShardOutcome::Undeliverable { shard_id, task_id },
        13 | 14 => ShardOutcome::Reopened { shard_id },
        _ => ShardOutcome::Crashed { shard_id, task_id, reason: "signal 11".to_owned() },
    })
}

proptest! {
    /// A planner that takes over after any step, and knows only the outcomes, dispatches the shards
    /// that the live planner has in flight or dispatches next; the latter to the same kind of
    /// agent.
    #[test]
    fn live_and_taken_over_dispatchers_decide_alike(steps in steps(), converges: bool) {
        let plan = Plan::new(8 * LEAF_ITERATIONS, 1, converges.then_some(1));
        let (mut live, mut tasks, mut outcomes) = (Issuer::new(&plan), Vec::new(), Vec::new());
        for (kind, index, window) in steps {
            if let Some(outcome) = outcome(kind, leaf(index), &tasks) {
                outcomes.push(outcome.clone());
                live.apply(outcome);
            }
            match live.try_dispatch(window, NOW, NOW) {
                Ok(dispatches) => tasks.extend(dispatches),
                Err(_) => break,
            }
        }
        let mut next = Issuer::new(&plan);
        outcomes.into_iter().for_each(|outcome| next.apply(outcome));
        let in_flight: Vec<_> = live.dispatcher.in_flight.keys().copied().collect();
        match (live.try_dispatch(usize::MAX, NOW, NOW), next.try_dispatch(usize::MAX, NOW, NOW)) {
            (Ok(of_live), Ok(of_next)) => {
                let expected: BTreeSet<_> =
                    of_live.iter().map(|dispatch| dispatch.shard).chain(in_flight).collect();
                let found: BTreeSet<_> = of_next.iter().map(|dispatch| dispatch.shard).collect();
                prop_assert_eq!(found, expected);
                for dispatch in of_live {
                    let taken_over = of_next.iter().find(|next| next.shard == dispatch.shard).unwrap();
                    prop_assert_eq!(taken_over.recipient, dispatch.recipient);
                }
            }
            (of_live, of_next) => prop_assert_eq!(of_live.unwrap_err(), of_next.unwrap_err()),
        }
    }

    /// An aggregator that is restarted reports outcomes again, before and after the dispatches that
    /// follow from them.
    #[test]
    fn outcomes_that_are_reported_again_change_no_decision(steps in steps(), converges: bool) {
        let plan = Plan::new(8 * LEAF_ITERATIONS, 1, converges.then_some(1));
        let (mut once, mut again, mut tasks) = (Issuer::new(&plan), Issuer::new(&plan), Vec::new());
        for (kind, index, window) in steps {
            let outcome = outcome(kind, leaf(index), &tasks);
            if let Some(outcome) = &outcome {
                once.apply(outcome.clone());
                again.apply(outcome.clone());
                again.apply(outcome.clone());
            }
            let decided = once.try_dispatch(window, NOW, NOW);
            prop_assert_eq!(&again.try_dispatch(window, NOW, NOW), &decided);
            let Ok(dispatches) = decided else { break };
            tasks.extend(dispatches);
            outcome.into_iter().for_each(|outcome| again.apply(outcome));
        }
    }
}
