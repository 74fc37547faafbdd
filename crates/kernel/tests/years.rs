//! Single years: the figures of a leaf's years and the trace of each year are those of the result
//! that the scalar reference gives.

use std::ops::ControlFlow;

use forge_contract::{
    digest::Digest,
    occurrence_subject::OccurrenceSubject,
    program::{MAX_AMOUNT, Occurrence, Program},
    result_details::Quantity,
    shard::{LEAF_ITERATIONS, Shard, ShardId, TREE_DEPTH},
    shard_result::{Distribution, ShardResult, bucket_of},
};
use forge_kernel::{
    backend::{Backend, ExecutionControl, ExecutionError, scalar::Scalar},
    reduction::Reduction,
    seed_tree,
    testing::{any_recipe, portfolios::random_portfolio},
    years::{ComputedYear, LeafYears, LineTrace, YearFigures, YearTrace, trace_year},
};
use proptest::prelude::*;

fn first_years(leaf: u64, years: u64) -> LeafYears {
    let start = leaf * LEAF_ITERATIONS;
    LeafYears::new(start..start + years)
}

/// The first years of a leaf, and their result.
fn years_of(program: &Program, root: Digest, leaf: u64, years: u64) -> (Vec<YearFigures>, ShardResult) {
    let mut figures = Vec::new();
    let result = YearFigures::compute(program, root, &first_years(leaf, years), &(), &mut |year| {
        figures.push(year.clone())
    });
    (figures, result.unwrap())
}

/// The result of the same years, as a backend executes them.
fn result_of(program: &Program, root: Digest, leaf: u64, years: u64) -> ShardResult {
    let seed = seed_tree::descendant(root, leaf, TREE_DEPTH);
    let shard = Shard { id: ShardId { height: 0, index: leaf }, iterations: years, seed };
    Scalar.execute(program, &[shard], &()).unwrap().remove(0)
}

/// The amounts have the sum, the extremes and the buckets of a distribution.
fn assert_distribution(amounts: &[u64], sum: u128, distribution: &Distribution, what: &str) {
    assert_eq!(amounts.iter().map(|&amount| u128::from(amount)).sum::<u128>(), sum, "{what}");
    assert_eq!(amounts.iter().max(), Some(&distribution.max), "{what}");
    assert_eq!(amounts.iter().min(), Some(&distribution.min), "{what}");
}

fn assert_figures(program: &Program, years: &[YearFigures], result: &ShardResult, what: &str) {
    let of_years = |amount: &dyn Fn(&YearFigures) -> u64| years.iter().map(amount).collect::<Vec<_>>();
    let net = of_years(&|year| year.net);
    assert_distribution(&net, result.sum, &result.total, what);
    let mut buckets: Vec<_> = net.iter().map(|&amount| bucket_of(amount) as u32).collect();
    buckets.sort_unstable();
    let counted = result.total.histogram.iter().flat_map(|&(bucket, n)| vec![bucket; n as usize]);
    assert_eq!(buckets, counted.collect::<Vec<_>>(), "{what}");
    let largest = of_years(&|year| year.largest);
    assert_eq!(largest.iter().max(), Some(&result.largest.max), "{what}");
    let Some(details) = &result.details else { return };
    for (quantity, stated) in program.quantities().into_iter().zip(&details.quantities) {
        let amounts = match quantity {
            Quantity::Gross => of_years(&|year| year.gross),
            Quantity::GrossLine(line) => of_years(&|year| year.lines[line].amount),
            Quantity::Ceded(treaty) => of_years(&|year| year.treaties[treaty].amount),
            Quantity::NetAfterSteps(_) | Quantity::LargestOccurrence(_) => continue,
        };
        assert_distribution(&amounts, stated.sum, &stated.distribution, &format!("{what}, {quantity:?}"));
    }
    let sum =
        |amount: &dyn Fn(&YearFigures) -> u64| years.iter().map(|y| u128::from(amount(y))).sum::<u128>();
    for (group, tally) in details.groups.iter().enumerate() {
        assert_eq!(sum(&|year| year.groups[group].amount), tally.sum, "{what}, group {group}");
        let occurrences = sum(&|year| year.groups[group].count);
        assert_eq!(occurrences, u128::from(tally.occurrences), "{what}, group {group}");
    }
    for (treaty, tally) in details.treaties.iter().enumerate() {
        assert_eq!(sum(&|year| year.premiums[treaty]), tally.premiums, "{what}, treaty {treaty}");
    }
}

/// The sums of a trace are the figures of its year, to the minor unit. Returns whether they were
/// compared: sums of a year that reach 2^62 saturate.
fn assert_trace(program: &Program, trace: &YearTrace, what: &str) -> bool {
    let figures = &trace.figures;
    let lines = || trace.occurrences.iter().flat_map(|occurrence| &occurrence.lines);
    let gross: u128 = lines().map(|line| u128::from(line.gross)).sum();
    if gross >= 1 << 62 {
        return false;
    }
    let recorded = |amount: u128| amount.min(MAX_AMOUNT.into()) as u64;
    assert_eq!(recorded(gross), figures.gross, "{what}");
    let mut all_ceded = 0;
    for (treaty, part) in figures.treaties.iter().enumerate() {
        let all_lines = lines().chain(&trace.closing);
        let ceded: u128 = all_lines.map(|line| u128::from(line.ceded[treaty])).sum();
        assert_eq!(recorded(ceded), part.amount, "{what}, treaty {treaty}");
        all_ceded += ceded;
    }
    let net = u128::from(program.base) + gross - all_ceded;
    assert_eq!(recorded(net).min(program.cap), figures.net, "{what}");
    for (at, part) in figures.lines.iter().enumerate() {
        let amount: u128 = lines().filter(|line| line.line == at).map(|line| u128::from(line.gross)).sum();
        assert_eq!(recorded(amount), part.amount, "{what}, line {at}");
        let left = |line: &&LineTrace| line.line == at;
        let ceded: u128 =
            lines().chain(&trace.closing).filter(left).map(|line| u128::from(line.all_ceded())).sum();
        assert!(ceded <= amount, "{what}: more is taken from line {at} than there is");
    }
    for (at, part) in figures.groups.iter().enumerate() {
        let of_group = || trace.occurrences.iter().filter(|occurrence| occurrence.group == at);
        let amount: u128 =
            of_group().flat_map(|occurrence| &occurrence.lines).map(|line| u128::from(line.gross)).sum();
        assert_eq!(recorded(amount), part.amount, "{what}, group {at}");
        let is_annual = program.groups[at].occurrence == Occurrence::Annual;
        let count = if is_annual { 0 } else { of_group().count() as u64 };
        assert_eq!(count, part.count, "{what}, group {at}");
    }
    let largest =
        trace.occurrences.iter().filter(|o| program.groups[o.group].occurrence != Occurrence::Annual);
    let largest = largest.map(|o| (o.lines.iter().map(|line| line.gross).sum::<u64>(), o.group));
    // The first one of equal size.
    let largest = largest.rev().max_by_key(|(amount, _)| *amount).filter(|(amount, _)| *amount > 0);
    assert_eq!(largest.map(|(_, group)| group), figures.largest_group, "{what}");
    assert!(lines().all(|line| line.all_ceded() <= line.gross), "{what}");
    true
}

/// The largest occurrence of a subject in a year: what its treaties leave of the traced amounts.
fn largest_of(program: &Program, subject: OccurrenceSubject, trace: &YearTrace) -> u64 {
    let left = |line: &LineTrace| {
        let treaties = program.treaties.iter().zip(&line.ceded);
        let paid = treaties.filter(|(treaty, _)| treaty.step <= subject.step).map(|(_, ceded)| ceded);
        line.gross - paid.sum::<u64>()
    };
    let occurrences = trace.occurrences.iter().filter(|occurrence| subject.groups.contains(occurrence.group));
    let amounts = occurrences.map(|occurrence| {
        let lines = occurrence.lines.iter().filter(|line| subject.lines.contains(line.line));
        lines.map(left).sum::<u64>()
    });
    amounts.max().unwrap_or(0).min(MAX_AMOUNT)
}

/// The largest occurrences of a result are those of the traces of its years.
fn assert_largest(program: &Program, traces: &[YearTrace], result: &ShardResult, what: &str) {
    let Some(details) = &result.details else { return };
    let subjects = program.occurrence_subjects();
    for (quantity, stated) in program.quantities().into_iter().zip(&details.quantities) {
        let Quantity::LargestOccurrence(at) = quantity else { continue };
        let amounts: Vec<u64> = traces.iter().map(|trace| largest_of(program, subjects[at], trace)).collect();
        assert_distribution(
            &amounts,
            stated.sum,
            &stated.distribution,
            &format!("{what}, {:?}", subjects[at]),
        );
    }
}

fn check(program: &Program, root: Digest, leaf: u64, years: u64, what: &str) -> u64 {
    let (figures, result) = years_of(program, root, leaf, years);
    assert_eq!(result, result_of(program, root, leaf, years), "{what}");
    assert_eq!(figures.len() as u64, years, "{what}");
    assert_figures(program, &figures, &result, what);
    // In two parts, whose results add up to the same one.
    let (start, middle) = (leaf * LEAF_ITERATIONS, leaf * LEAF_ITERATIONS + years / 2);
    let mut traces = Vec::new();
    let mut merged = Reduction::new(program);
    for part in [start..middle, middle..start + years].into_iter().filter(|part| !part.is_empty()) {
        let traced = YearTrace::compute(program, root, &LeafYears::new(part), &(), &mut |year| {
            traces.push(year.clone())
        });
        merged.add(&traced.unwrap()).unwrap();
    }
    assert_eq!(merged.result(), result, "{what}");
    assert_eq!(traces.len(), figures.len(), "{what}");
    assert_largest(program, &traces, &result, what);
    let compared = traces.iter().zip(&figures).map(|(trace, figures)| {
        assert_eq!(trace.figures, *figures, "{what}, year {}", figures.year);
        assert_eq!(*trace, trace_year(program, root, figures.year), "{what}, year {}", figures.year);
        u64::from(assert_trace(program, trace, &format!("{what}, year {}", figures.year)))
    });
    compared.sum()
}

#[test]
fn years_of_random_portfolios_are_those_of_their_results() {
    let (mut compared, mut with_treaties, mut closed) = (0, 0, 0);
    for seed in 0..150 {
        let program = random_portfolio(seed);
        let root = seed_tree::explicit_root(&format!("years {seed}"));
        let leaf = seed % 7 * 1_000_003;
        compared += check(&program, root, leaf, 20, &format!("the portfolio of seed {seed}"));
        with_treaties += u64::from(!program.treaties.is_empty());
        let trace = trace_year(&program, root, leaf * LEAF_ITERATIONS + 5);
        closed += u64::from(trace.closing.iter().any(|line| line.all_ceded() > 0));
    }
    // Few of the random portfolios saturate, and most have treaties, some on the year's amount.
    assert!(compared > 2500 && with_treaties > 90 && closed > 5, "{compared} {with_treaties} {closed}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn years_of_plain_programs_are_those_of_their_results(
        recipe in any_recipe(), root in any::<u64>(), leaf in 0..1u64 << 32, years in 1..30u64,
    ) {
        let root = seed_tree::explicit_root(&root.to_string());
        check(&recipe.program(), root, leaf, years, &format!("{recipe:?}"));
    }
}

#[test]
fn executions_can_be_cancelled() {
    struct CancelAtOnce;
    impl ExecutionControl for CancelAtOnce {
        fn advance(&self, _: u64) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    let root = seed_tree::explicit_root("cancelled");
    let cancelled =
        YearFigures::compute(&random_portfolio(1), root, &first_years(0, 100), &CancelAtOnce, &mut |_| {});
    assert_eq!(cancelled, Err(ExecutionError::Cancelled));
}
