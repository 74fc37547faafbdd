//! Proves that every CPU backend returns the bytes of the scalar reference: the conformance suite
//! of the kernel, run on each instruction set that this CPU has. On the reference itself it shows
//! that execution repeats and can be cancelled.

use forge_contract::{
    program::{AmountTable, MAX_AMOUNT},
    result_details::TreatyTally,
};
use forge_kernel::{
    backend::{Backend, scalar::Scalar, simd::Simd},
    testing::{conformance, portfolios, sample_shard},
};

/// Runs one check of the suite on every SIMD backend.
fn on_every_backend(part: fn(&dyn Backend)) {
    let levels = Simd::supported();
    assert_eq!(levels.last().map(|level| level.name()), Some("simd-portable"));
    for level in &levels {
        part(level);
    }
}

#[test]
fn scalar_reference_passes() {
    conformance::check_iteration_counts(&Scalar);
    conformance::check_reuse(&Scalar);
    conformance::check_cancellation(&Scalar);
    conformance::check_random_programs(&Scalar, 20);
}

#[test]
fn profiles() {
    on_every_backend(conformance::check_profiles);
}

#[test]
fn iteration_counts() {
    on_every_backend(conformance::check_iteration_counts);
}

#[test]
fn draw_counts() {
    on_every_backend(conformance::check_draw_counts);
}

#[test]
fn tall_shards() {
    on_every_backend(conformance::check_tall_shards);
}

#[test]
fn many_occurrences() {
    on_every_backend(conformance::check_many_occurrences);
}

#[test]
fn saturation() {
    on_every_backend(conformance::check_saturation);
}

#[test]
fn impossible_and_certain() {
    on_every_backend(conformance::check_constant_counts);
}

#[test]
fn thresholds_at_draws() {
    on_every_backend(conformance::check_thresholds_at_draws);
}

#[test]
fn rare_draws() {
    on_every_backend(conformance::check_rare_draws);
}

#[test]
fn reuse() {
    on_every_backend(conformance::check_reuse);
}

#[test]
fn cancellation() {
    on_every_backend(conformance::check_cancellation);
}

#[test]
fn random_programs() {
    on_every_backend(|backend| conformance::check_random_programs(backend, 400));
}

#[test]
fn random_portfolios() {
    on_every_backend(|backend| portfolios::check_random_portfolios(backend, 0..400));
}

#[test]
fn extreme_portfolios() {
    on_every_backend(portfolios::check_extreme_portfolios);
}

/// Random portfolios reach what they are to test: treaties that pay, in part and to their limits,
/// in random and in fixed order, factors that do not fit into 32 bits, and amounts that saturate.
#[test]
fn random_portfolios_are_diverse() {
    let (mut interleaved, mut fixed, mut attached, mut exhausted, mut used_up) = (0, 0, 0, 0, 0);
    let (mut large_factors, mut saturated) = (0, 0);
    for seed in 0..400 {
        let program = portfolios::random_portfolio(seed);
        let shard = sample_shard(0, seed, 50);
        let result = Scalar.execute(&program, &[shard], &()).unwrap().remove(0);
        let count = |found: bool| u32::from(found);
        let components = program.groups.iter().flat_map(|group| &group.components).zip(&result.components);
        let indexed: Vec<_> = components.filter(|(component, _)| component.index.is_some()).collect();
        let has_large_factors = |index: u32| match &program.indices[index as usize] {
            AmountTable::Linear { amounts, .. } => amounts.last() > Some(&u32::MAX.into()),
            _ => false,
        };
        large_factors += count(indexed.iter().any(|(component, tally)| {
            tally.occurrences > 0 && component.index.is_some_and(has_large_factors)
        }));
        saturated += count(
            indexed.iter().any(|(component, tally)| component.terms.limit == MAX_AMOUNT && tally.capped > 0),
        );
        let Some(details) = result.details else { continue };
        let any = |figure: fn(&TreatyTally) -> u64| details.treaties.iter().any(|tally| figure(tally) > 0);
        attached += count(any(|tally| tally.attached));
        exhausted += count(any(|tally| tally.exhausted));
        used_up += count(any(|tally| tally.used_up));
        interleaved += count(program.interleaves() && any(|tally| tally.attached));
        fixed += count(!program.interleaves() && any(|tally| tally.attached));
    }
    let figures = [interleaved, fixed, attached, exhausted, used_up];
    assert!(figures.iter().all(|&figure| figure >= 40), "{figures:?}");
    let figures = [large_factors, saturated];
    assert!(figures.iter().all(|&figure| figure >= 10), "{figures:?}");
}
