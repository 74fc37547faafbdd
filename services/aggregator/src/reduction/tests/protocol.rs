//! The protocol as a whole: an aggregator that takes a job over decides as the one before, and
//! wrong results ship as rarely as `verification.json` says.

use super::{simulation::Simulation, *};
use crate::test_job::SeededNumbers;

/// Asserts that a successor accepts every shard that the aggregator has accepted, and suspects
/// every pool. It may know more: verdicts on results that the aggregator had dropped when they
/// arrived.
pub(super) fn assert_succeeds(simulation: &Simulation<'_>) {
    let (aggregator, successor) = (&simulation.reduction, simulation.successor());
    assert!(aggregator.suspect_pools().is_subset(successor.suspect_pools()));
    let refuted = |reduction: &JobReduction| reduction.trust.refutations().count();
    assert_eq!(refuted(aggregator), refuted(&successor));
    for position in aggregator.accepted.keys() {
        assert!(successor.accepted.contains_key(position), "{position}");
    }
    // Given the same streams, all successors decide alike.
    let other = simulation.successor();
    assert_eq!(successor.accepted, other.accepted);
    assert_eq!(successor.outcomes, other.outcomes);
}

#[test]
fn successor_decides_as_the_aggregator_that_it_replaces() {
    let job = TestJob::with_small_results(10, json!({"verify": "spotcheck", "verify_ratio": 0.2}));
    let pools = [pool("alpha"), pool("beta"), pool("gamma")];
    let agents: Vec<_> = (0..6).map(|number| identity(number).id().clone()).collect();
    let mut restarts = 0;
    for seed in 0..40 {
        let mut numbers = SeededNumbers::new(seed << 32);
        let mut simulation = Simulation::new(&job);
        for number in 0..60 {
            let (position, pool, agent) = (numbers.below(10), numbers.below(3), numbers.below(6));
            // Pool alpha lies often, beta rarely, gamma never.
            let lies = numbers.below([2, 8, usize::MAX][pool]) == 0 && pool < 2;
            let content = if lies { &job.lies[position][numbers.below(2)] } else { &job.truth[position] };
            let sender = (&pools[pool], &agents[agent]);
            simulation.return_result(job.unsigned_result(sender, position, number, content));
            if numbers.below(4) == 0 {
                simulation.verify_all();
                // The verdicts are applied in another order, before all results.
                assert_succeeds(&simulation);
            }
            if numbers.below(20) == 0 {
                simulation.take_over();
            }
        }
        restarts += simulation.restarts;
        // Whatever happened, honest workers of a trusted pool complete the job.
        for position in 0..10 {
            let sender = (&pools[2], &agents[5]);
            simulation.return_result(job.unsigned_result(sender, position, 100, &job.truth[position]));
        }
        simulation.verify_all();
        assert!(simulation.reduction.is_complete(), "seed {seed}");
    }
    assert!(restarts > 20, "{restarts}");
}

#[test]
fn wrong_results_ship_as_rarely_as_the_document_says() {
    const SHARDS: usize = 20;
    const TRIALS: u32 = 250;
    let mut job =
        TestJob::with_small_results(SHARDS as u64, json!({"verify": "spotcheck", "verify_ratio": 0.2}));
    let truth = merge_results(&job.context.job.request.program, &job.results).encode();
    let agents: Vec<_> = (0..64).map(|number| identity(number).id().clone()).collect();
    let (honest, liars) = (pool("honest"), ["w", "x", "y", "z"].map(pool));
    let mut numbers = SeededNumbers::new(1);
    for (pools, wrong) in [(1, 1), (1, 4), (2, 2), (4, 1), (4, 3)] {
        let mut shipped = 0;
        for _ in 0..TRIALS {
            job.set_key(std::array::from_fn(|_| numbers.below(256) as u8));
            let order = numbers.permutation(SHARDS);
            let mut simulation = Simulation::new(&job);
            // Each liar has `wrong` shards, each with a key of its own.
            for (number, &position) in order.iter().enumerate() {
                let (pool, content) = match number / wrong {
                    liar if liar < pools => (&liars[liar], &job.lies[position][0]),
                    _ => (&honest, &job.truth[position]),
                };
                let sender = (pool, &agents[numbers.below(64)]);
                simulation.return_result(job.unsigned_result(sender, position, 0, content));
                simulation.verify_all();
            }
            for position in 0..SHARDS {
                if !simulation.accepted.contains(&job.shard(position)) {
                    let sender = (&honest, &agents[0]);
                    simulation.return_result(job.unsigned_result(sender, position, 1, &job.truth[position]));
                }
            }
            simulation.verify_all();
            let reduced = simulation.reduction.reduced_job().unwrap();
            shipped += u32::from(reduced.merged.encode() != truth);
        }
        let share = f64::from(shipped) / f64::from(TRIALS);
        let expected = verification::escape_probability(SHARDS as u64, 4, pools as u64, wrong as u64);
        let deviation = (expected * (1.0 - expected) / f64::from(TRIALS)).sqrt();
        let (lowest, highest) = (expected - 4.0 * deviation, expected + 4.0 * deviation);
        assert!((lowest..=highest).contains(&share), "{pools} pools, {wrong} wrong: {share}, not {expected}");
    }
}
