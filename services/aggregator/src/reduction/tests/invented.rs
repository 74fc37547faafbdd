//! Results of portfolios that no execution gives, and that pass every check of the content. A job
//! that is not verified ships them, but its merge and its documents must not fail.

use std::cell::RefCell;

use ethnum::U256;
use forge_contract::{
    digest::Digest,
    distribution::Resolution,
    envelope::ArtifactKind,
    result_details::{AllocationClass, GroupTally, Quantity, QuantityResult, TreatyTally},
    shard_result::Distribution,
};
use forge_documents::Job;
use forge_kernel::{
    backend::{Backend, scalar::Scalar},
    job_key::JobKey,
    request::Request,
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::{
    memory::{attested, publish},
    *,
};
use crate::test_job::{UID, attest, pool};

const PORTFOLIO: &str = include_str!("../../../../../examples/portfolio.json");
const INVENTED_RESULTS: u64 = 500;

/// Numbers that follow from a seed.
struct NumberSequence(RefCell<ChaCha8Rng>);

impl NumberSequence {
    fn next(&self) -> u64 {
        self.0.borrow_mut().next_u64()
    }

    /// A number from 0 to `most`, often an extreme one.
    fn up_to(&self, most: u64) -> u64 {
        match self.next() % 4 {
            0 => 0,
            1 => most,
            _ => ((u128::from(self.next()) * (u128::from(most) + 1)) >> 64) as u64,
        }
    }

    fn is_one_of(&self, many: u64) -> bool {
        self.next().is_multiple_of(many)
    }
}

/// Moves all iterations of a distribution to one or two amounts, and returns their sums.
fn invent_amounts(
    numbers: &NumberSequence,
    distribution: &mut Distribution,
    resolution: Resolution,
    iterations: u64,
) -> (u128, U256) {
    let most = 1 << numbers.up_to(53);
    let mut amounts = [numbers.up_to(most - 1), numbers.up_to(most - 1)];
    amounts.sort_unstable();
    let [low, high] = amounts.map(|amount| resolution.bucket_of(amount) as u32);
    let below = if low == high { iterations } else { 1 + numbers.up_to(iterations - 2) };
    (distribution.min, distribution.max) = (amounts[0], amounts[1]);
    distribution.histogram = vec![(low, below)];
    distribution.listed.clear();
    if low != high {
        distribution.histogram.push((high, iterations - below));
        if numbers.is_one_of(2) {
            distribution.listed = vec![(amounts[0], below), (amounts[1], iterations - below)];
        }
    }
    let mut left = iterations;
    for count in &mut distribution.at_marks {
        *count = numbers.up_to(left);
        left -= *count;
    }
    let [low, high] = amounts.map(U256::from);
    let counts = [below, iterations - below].map(U256::from);
    let (sum, squares) =
        (low * counts[0] + high * counts[1], low * low * counts[0] + high * high * counts[1]);
    (sum.as_u128(), squares)
}

/// Changes a part of the result's figures. `first_treaty` is the number of the quantity that the
/// first treaty pays.
fn invent(numbers: &NumberSequence, honest: &ShardResult, first_treaty: usize) -> ShardResult {
    let mut result = honest.clone();
    let n = result.iterations;
    if numbers.is_one_of(2) {
        (result.sum, result.sum_squares) = invent_amounts(numbers, &mut result.total, Resolution::FINE, n);
        result.capped = numbers.up_to(n);
    }
    if numbers.is_one_of(2) {
        invent_amounts(numbers, &mut result.largest, Resolution::FINE, n);
    }
    result.components.iter_mut().for_each(|tally| tally.capped = numbers.up_to(tally.occurrences));
    let classes = result.total_classes();
    let details = result.details.as_mut().unwrap();
    for QuantityResult { sum, sum_squares, distribution } in &mut details.quantities {
        if numbers.is_one_of(2) {
            (*sum, *sum_squares) = invent_amounts(numbers, distribution, Resolution::COARSE, n);
        }
    }
    for group in details.groups.iter_mut().filter(|_| numbers.is_one_of(2)) {
        let (sum, occurrences) = (numbers.up_to(1 << 53), u128::from(group.occurrences));
        *group = GroupTally {
            squared_occurrences: occurrences * occurrences,
            without_loss: numbers.up_to(n),
            sum: sum.into(),
            sum_squares: U256::from(sum) * U256::from(sum),
            ..*group
        };
    }
    for treaty in details.treaties.iter_mut().filter(|_| numbers.is_one_of(2)) {
        let (attached, premiums) = (numbers.up_to(treaty.attached), numbers.up_to(1 << 53));
        *treaty = TreatyTally {
            attached,
            exhausted: numbers.up_to(attached),
            used_up: numbers.up_to(n),
            reinstated: treaty.reinstated.iter().map(|_| numbers.up_to(1 << 60).into()).collect(),
            premiums: premiums.into(),
            squared_premiums: U256::from(premiums) * U256::from(premiums),
        };
    }
    // The parts of the total must add up to the quantities, in the classes of the total.
    let parts = details.allocation[0].sums.len();
    let treaties = details.treaties.len();
    let lines = parts - treaties;
    let sums = (1..=lines).chain(first_treaty..first_treaty + treaties);
    let sums: Vec<_> = sums.map(|quantity| details.quantities[quantity].sum).collect();
    let part = |at: usize| if at == 0 { sums.clone() } else { vec![0; parts] };
    let allocation =
        classes.iter().enumerate().map(|(at, &(number, _))| AllocationClass { number, sums: part(at) });
    details.allocation = allocation.collect();
    result
}

/// A portfolio with every kind of figure, in one shard.
fn portfolio() -> Arc<JobContext> {
    let mut envelope: Value = serde_json::from_str(PORTFOLIO).unwrap();
    envelope["args"]["iterations"] = json!(2000);
    envelope["args"]["convergence"] = json!({"metric": "tvar", "level": 0.99, "relative_half_width": 1e-9});
    envelope["policy"] = json!({"verify": "none"});
    envelope["artifacts"]["include"] = json!(ArtifactKind::ALL);
    let request = Request::from_json(envelope.to_string().as_bytes()).unwrap();
    Arc::new(JobContext::new(Arc::new(Job::new(request)), UID, JobKey::from([7; 32])))
}

#[test]
fn results_that_no_execution_gives_break_neither_the_merge_nor_the_documents() {
    let context = portfolio();
    let request = &context.job.request;
    let shard = request.plan.shards().next().unwrap();
    let honest = &Scalar.execute(&request.program, &[request.shard(shard)], &()).unwrap()[0];
    let quantities = request.program.quantities();
    let first_treaty = quantities.iter().position(|quantity| *quantity == Quantity::Ceded(0)).unwrap();
    let mut accepted = 0;
    for seed in 0..INVENTED_RESULTS {
        let numbers = NumberSequence(RefCell::new(ChaCha8Rng::seed_from_u64(seed)));
        let bytes = invent(&numbers, honest, first_treaty).encode();
        let mut result = attested(&context, 0, shard, Digest::hash_parts(&[&bytes]));
        result.attestation = attest(result.statement().clone(), 1);
        result.bytes = bytes.into();
        let mut reduction = JobReduction::new(Arc::clone(&context), unlimited_memory());
        match reduction.receive(&pool("alpha"), result, |_, _| false).unwrap() {
            ResultDisposition::Accepted => {
                accepted += 1;
                publish(&context, reduction);
            }
            ResultDisposition::Rejected(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(accepted > INVENTED_RESULTS / 2, "only {accepted} were accepted");
}
