//! Any order of results, lies, verdicts and takeovers ends in the result of the plan's order.

use proptest::{collection::vec, prelude::*};

use super::{protocol::assert_succeeds, simulation::Simulation, *};

const SHARDS: usize = 6;
/// Number of the first task of an honest worker at the end.
const LAST_TASK: u64 = 1000;

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    /// An agent of a pool returns a result; `lie` is the number of a wrong one.
    Result { position: usize, pool: usize, agent: usize, lie: Option<usize> },
    /// Verifiers answer everything that is requested.
    Verdicts,
    /// The aggregator dies, and another one takes its place.
    Takeover,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // The last pool never lies.
    let result = (0..SHARDS, 0..3usize, 0..4usize, prop::option::of(0..2usize)).prop_map(
        |(position, pool, agent, lie)| Step::Result { position, pool, agent, lie: lie.filter(|_| pool < 2) },
    );
    vec(prop_oneof![8 => result, 2 => Just(Step::Verdicts), 1 => Just(Step::Takeover)], 0..60)
}

#[test]
fn any_order_of_results_lies_verdicts_and_takeovers_ends_in_the_right_result() {
    let job = TestJob::with_small_results(SHARDS as u64, json!({"verify": "full"}));
    let right = merge_results(&job.context.job.request.program, &job.results).encode();
    let pools = [pool("alpha"), pool("beta"), pool("gamma")];
    let agents: Vec<_> = (0..4).map(|number| identity(number).id().clone()).collect();
    proptest!(|(steps in steps())| {
        let mut simulation = Simulation::new(&job);
        for (task, step) in (0u64..).zip(steps) {
            match step {
                Step::Result { position, pool, agent, lie } => {
                    let content = lie.map_or(&job.truth[position], |lie| &job.lies[position][lie]);
                    let sender = (&pools[pool], &agents[agent]);
                    simulation.return_result(job.unsigned_result(sender, position, task, content));
                }
                Step::Verdicts => {
                    simulation.verify_all();
                    assert_succeeds(&simulation);
                }
                Step::Takeover => simulation.take_over(),
            }
        }
        // Honest workers of a trusted pool execute what is open.
        for position in 0..SHARDS {
            let sender = (&pools[2], &agents[3]);
            let content = &job.truth[position];
            simulation.return_result(job.unsigned_result(sender, position, LAST_TASK, content));
        }
        simulation.verify_all();
        prop_assert!(simulation.reduction.is_complete());
        let reduced = simulation.reduction.reduced_job().unwrap();
        prop_assert_eq!(reduced.merged.encode(), right.clone());
        prop_assert_eq!(reduced.executions.len(), SHARDS);
    });
}
