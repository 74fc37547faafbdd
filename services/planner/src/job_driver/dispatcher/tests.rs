//! Dispatch decisions from events, time and window, without a bus.

use forge_contract::{agent::Identity, shard::LEAF_ITERATIONS};

use super::*;

const NOW: Duration = Duration::ZERO;

fn agent_id(number: u8) -> AgentId {
    Identity::from_random([number; 32]).id().clone()
}

fn result(shard: ShardId, agent: u8, wall_us: u64) -> ShardEvent {
    ShardEvent::Result { shard, agent: agent_id(agent), wall_us }
}

fn verdict(shard: ShardId, agent: u8, outcome: VerdictOutcome) -> ShardEvent {
    ShardEvent::Verdict { shard, agent: agent_id(agent), outcome }
}

fn leaf(index: u64) -> ShardId {
    ShardId { height: 0, index }
}

fn indexes(dispatches: &[ShardDispatch]) -> Vec<u64> {
    dispatches.iter().map(|dispatch| dispatch.shard.index).collect()
}

#[test]
fn results_make_room_in_the_window() {
    let plan = Plan::new(10 * LEAF_ITERATIONS, 1, None);
    let mut dispatcher = Dispatcher::new(&plan);
    assert_eq!(indexes(&dispatcher.dispatch(3, NOW)), [0, 1, 2]);
    assert_eq!(indexes(&dispatcher.dispatch(3, NOW)), [0; 0]);
    dispatcher.apply(result(leaf(1), 1, 1000));
    dispatcher.apply(result(leaf(1), 2, 1000));
    assert_eq!(indexes(&dispatcher.dispatch(3, NOW)), [3]);
    assert_eq!(indexes(&dispatcher.dispatch(100, NOW)), [4, 5, 6, 7, 8, 9]);
    assert_eq!(dispatcher.in_flight(), 9);
    assert_eq!(dispatcher.mean_shard_time(), Some(Duration::from_millis(1)));
}

#[test]
fn takeover_dispatches_only_shards_without_a_result() {
    let plan = Plan::new(5 * LEAF_ITERATIONS, 1, None);
    let mut dispatcher = Dispatcher::new(&plan);
    [0, 1, 3].iter().for_each(|&index| dispatcher.apply(result(leaf(index), 1, 1)));
    assert_eq!(indexes(&dispatcher.dispatch(100, NOW)), [2, 4]);
}

#[test]
fn all_shards_of_a_refuted_agent_are_retried() {
    let plan = Plan::new(4 * LEAF_ITERATIONS, 1, None);
    let mut dispatcher = Dispatcher::new(&plan);
    dispatcher.dispatch(100, NOW);
    for (index, by) in [(0, 1), (1, 2), (2, 1), (3, 2)] {
        dispatcher.apply(result(leaf(index), by, 1));
    }
    dispatcher.apply(verdict(leaf(2), 1, VerdictOutcome::Refuted));
    let dispatches = dispatcher.dispatch(100, NOW);
    assert_eq!(indexes(&dispatches), [0, 2]);
    assert!(
        dispatches
            .iter()
            .all(|dispatch| dispatch.attempt == 1 && dispatch.recipient == ShardRecipient::Worker)
    );
}

#[test]
fn shard_goes_to_verifiers_after_workers_and_is_exhausted_after_all_attempts() {
    let plan = Plan::new(1, 1, None);
    let mut dispatcher = Dispatcher::new(&plan);
    let mut recipients = Vec::new();
    for _ in 0..MAX_ATTEMPTS {
        recipients.extend(dispatcher.dispatch(1, NOW).into_iter().map(|dispatch| dispatch.recipient));
        dispatcher.apply(result(leaf(0), 1, 1));
        dispatcher.apply(verdict(leaf(0), 1, VerdictOutcome::Rejected));
    }
    use ShardRecipient::{Verifier, Worker};
    assert_eq!(recipients, [Worker, Worker, Verifier, Verifier, Verifier, Verifier]);
    assert_eq!((dispatcher.dispatch(1, NOW), dispatcher.exhausted()), (Vec::new(), Some(leaf(0))));
}

#[test]
fn overdue_shard_is_retried_with_doubled_patience() {
    let plan = Plan::new(2 * LEAF_ITERATIONS, 1, None);
    let mut dispatcher = Dispatcher::new(&plan);
    let (patience, second) = (Duration::from_secs(10), Duration::from_secs(1));
    dispatcher.dispatch(2, NOW);
    dispatcher.apply(result(leaf(0), 1, 1));
    dispatcher.requeue_overdue(10 * second, patience);
    assert_eq!(dispatcher.dispatch(9, 10 * second), []);
    dispatcher.requeue_overdue(11 * second, patience);
    let dispatches = dispatcher.dispatch(9, 11 * second);
    assert_eq!((indexes(&dispatches), dispatches[0].attempt), (vec![1], 1));
    dispatcher.requeue_overdue(31 * second, patience);
    assert_eq!(dispatcher.dispatch(9, 31 * second), []);
}

#[test]
fn starved_first_attempt_is_not_overdue_but_a_later_attempt_is() {
    let plan = Plan::new(2 * LEAF_ITERATIONS, 1, None);
    let mut dispatcher = Dispatcher::new(&plan);
    let (patience, second) = (Duration::from_secs(10), Duration::from_secs(1));
    dispatcher.dispatch(2, NOW);
    dispatcher.apply(result(leaf(0), 1, 1));
    dispatcher.apply(verdict(leaf(0), 1, VerdictOutcome::Rejected));
    assert_eq!(dispatcher.dispatch(2, 5 * second)[0].attempt, 1);
    // The worker leaves.
    dispatcher.set_starved_time(95 * second);
    dispatcher.requeue_overdue(100 * second, patience);
    let dispatches = dispatcher.dispatch(2, 100 * second);
    assert_eq!((indexes(&dispatches), dispatches[0].recipient), (vec![0], ShardRecipient::Verifier));
    // Another worker joins.
    dispatcher.requeue_overdue(106 * second, patience);
    assert_eq!(indexes(&dispatcher.dispatch(2, 106 * second)), [1]);
}

#[test]
fn dispatch_stops_a_few_checkpoints_beyond_the_first_incomplete_one() {
    let plan = Plan::new(1000 * LEAF_ITERATIONS, 1, Some(1));
    let mut dispatcher = Dispatcher::new(&plan);
    let dispatches = dispatcher.dispatch(10_000, NOW);
    // Checkpoints at 1, 2, 3, 4, 5, 6, 7, 8, 10, 12 leaves: the ninth one is at 10.
    assert_eq!(plan.range(dispatches.last().unwrap().shard).end, 10 * LEAF_ITERATIONS);
    dispatcher.apply(result(leaf(0), 1, 1));
    assert_eq!(plan.range(dispatcher.dispatch(10_000, NOW).last().unwrap().shard).end, 12 * LEAF_ITERATIONS);
}
