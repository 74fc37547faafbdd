//! Marks follow from limits, constants, retentions and what treaties leave of them.

use super::*;
use crate::{
    plain_program::plain_program,
    program::Terms,
    table::{CountTable, Segment},
    treaty::Layer,
};

const RATE: CountTable = CountTable { offset: 3, thresholds: Vec::new() };

fn plain(base: u64, cap: u64, limits: &[u64]) -> Program {
    let segment = Segment { left: 5, slope: 0, curve: 0, shift: 31 };
    let component = |&limit| (RATE, vec![segment; 256], limit);
    plain_program(1, base, cap, 1, limits.iter().map(component))
}

fn component(line: u32, limit: u64, amounts: AmountTable) -> Component {
    Component { line, index: None, same_rank: false, terms: Terms { limit, ..Terms::NONE }, amounts }
}

fn continuous() -> AmountTable {
    let segment = Segment { left: 5, slope: 3, curve: 0, shift: 31 };
    AmountTable::Quantiles { segment_bits: 1, segments: vec![segment; 256] }
}

fn group(occurrence: Occurrence, components: Vec<Component>) -> Group {
    Group { counts: RATE, occurrence, components }
}

fn portfolio(groups: Vec<Group>, treaties: Vec<Treaty>) -> Program {
    Program { lines: 2, details: true, groups, treaties, ..plain(0, MAX_AMOUNT, &[]) }
}

fn treaty(step: u32, terms: TreatyTerms) -> Treaty {
    Treaty { step, lines: IndexSet(3), groups: IndexSet::ALL, terms }
}

fn quota_share(step: u32, parts: u32) -> Treaty {
    treaty(step, TreatyTerms::QuotaShare { cession: Proportion(parts), event_limit: MAX_AMOUNT })
}

fn layer(limit: u64, attachment: u64) -> OccurrenceLayer {
    OccurrenceLayer {
        cession: Proportion::ONE,
        layer: Layer { limit, attachment },
        annual: Layer { limit: MAX_AMOUNT, attachment: 0 },
        placed: Proportion::ONE,
        reinstatements: Vec::new(),
        premium: 0,
    }
}

/// The first multiples of an amount.
fn times(amount: u64, most: u64) -> Vec<u64> {
    (1..=most).map(|k| k * amount).collect()
}

#[test]
fn limits_of_policies_accumulate_up_to_the_cap() {
    assert_eq!(plain(0, MAX_AMOUNT, &[1000]).marks(), times(1000, 16));
    assert_eq!(plain(0, 5500, &[1000]).marks(), [1000, 2000, 3000, 4000, 5000, 5500]);
    assert_eq!(plain(0, MAX_AMOUNT, &[MAX_AMOUNT]).marks(), [0; 0]);
    assert_eq!(plain(8500, MAX_AMOUNT, &[MAX_AMOUNT]).marks(), [8500]);
    let limits: Vec<u64> = (1..=16).map(|i| 1000 * i + i).collect();
    let marks = plain(7, 100_000, &limits).marks();
    assert_eq!(marks.len(), MAX_PLAIN_MARKS);
    assert!([7, 100_000].iter().chain(&limits).all(|amount| marks.contains(amount)));
}

#[test]
fn quota_shares_and_retentions_shift_atoms() {
    let limited = || group(Occurrence::Claim { pick: None }, vec![component(0, 1000, continuous())]);
    let program = portfolio(vec![limited()], vec![quota_share(1, 300_000)]);
    assert_eq!(program.marks_of(Quantity::Gross), times(1000, 16));
    assert_eq!(program.marks_of(Quantity::GrossLine(1)), [0; 0]);
    assert_eq!(program.marks_of(Quantity::Ceded(0)), times(300, 16));
    let mut expected: Vec<u64> = times(700, 16).into_iter().chain([1000]).collect();
    expected.sort_unstable();
    assert_eq!(program.marks(), expected);

    let open = group(Occurrence::Claim { pick: None }, vec![component(0, MAX_AMOUNT, continuous())]);
    let xl = treaty(1, TreatyTerms::OccurrenceXl(layer(MAX_AMOUNT, 1000)));
    let program = portfolio(vec![open.clone()], vec![xl.clone(), quota_share(4, 400_000)]);
    assert_eq!(program.marks_of(Quantity::NetAfterSteps(1)), times(1000, 16));
    assert_eq!(program.marks(), times(600, 16));
    assert_eq!(program.marks_of(Quantity::Ceded(1)), times(400, 16));
    // A layer that leaves a part of its subject has no retention.
    let part = OccurrenceLayer { placed: Proportion(900_000), ..layer(5000, 1000) };
    let program = portfolio(vec![open], vec![treaty(1, TreatyTerms::OccurrenceXl(part))]);
    assert_eq!(program.marks(), [0; 0]);
    assert_eq!(program.marks_of(Quantity::Ceded(0)), times(4500, 16));
    let other_group = Treaty { groups: IndexSet(2), ..xl };
    assert_eq!(portfolio(vec![limited()], vec![other_group]).marks(), times(1000, 16));
}

#[test]
fn constants_accumulate_on_top_of_those_of_every_year() {
    let constant = |line, amount| component(line, MAX_AMOUNT, AmountTable::constant(amount));
    let annual = group(Occurrence::Annual, vec![constant(0, 10_000), constant(1, 1)]);
    let strikes = group(Occurrence::Strike, vec![constant(0, 500), constant(1, 250)]);
    let program = portfolio(vec![annual, strikes], vec![quota_share(2, 500_000)]);
    let gross = program.marks_of(Quantity::Gross);
    assert!([10_001, 10_251, 10_501, 10_751, 10_001 + 16 * 750].iter().all(|m| gross.contains(m)));
    assert_eq!(
        program.marks_of(Quantity::GrossLine(1)),
        [1].into_iter().chain(times(250, 16).into_iter().map(|m| m + 1)).collect::<Vec<_>>()
    );
    // Half of 1, rounded, is 1.
    assert!([5000, 5375].iter().all(|mark| program.marks().contains(mark)));
    assert!([5001, 5376].iter().all(|mark| program.marks_of(Quantity::Ceded(0)).contains(mark)));

    let steps = AmountTable::Steps { thresholds: vec![1 << 62, 1 << 63], amounts: vec![0, 40, 90] };
    let claims = group(Occurrence::Claim { pick: None }, vec![component(0, 70, steps.clone())]);
    let marks = portfolio(vec![claims], Vec::new()).marks();
    assert!([40, 70, 80, 120, 140].iter().all(|mark| marks.contains(mark)) && !marks.contains(&90));
    // An index spreads all but the limit.
    let indexed = Component { index: Some(0), ..component(0, 70, steps) };
    let claims = group(Occurrence::Claim { pick: None }, vec![indexed]);
    assert_eq!(portfolio(vec![claims], Vec::new()).marks(), times(70, 16));
}

#[test]
fn layers_pay_at_their_limits_and_annual_limits() {
    let open = || group(Occurrence::Claim { pick: None }, vec![component(0, MAX_AMOUNT, continuous())]);
    let annual = OccurrenceLayer {
        annual: Layer { limit: 250, attachment: 30 },
        placed: Proportion(500_000),
        ..layer(100, 1000)
    };
    let program = portfolio(vec![open()], vec![treaty(1, TreatyTerms::OccurrenceXl(annual))]);
    // The deductible of the year takes 30 of the first recovery; the year pays 250 at most.
    assert_eq!(program.marks_of(Quantity::Ceded(0)), [35, 85, 125]);
    let stop_loss = TreatyTerms::AggregateXl {
        layer: Layer { limit: 300, attachment: 2000 },
        placed: Proportion(500_000),
    };
    let limited = group(Occurrence::Claim { pick: None }, vec![component(0, 1100, continuous())]);
    let program = portfolio(vec![limited], vec![treaty(2, stop_loss)]);
    assert_eq!(program.marks_of(Quantity::Ceded(0)), [100, 150]);
    assert!([1100, 2000, 2200].iter().all(|mark| program.marks().contains(mark)));
}

#[test]
fn lists_keep_the_smallest_multiples_when_they_are_full() {
    let limits: Vec<u64> = (0..40).map(|i| 10_000 + i).collect();
    let components = limits.iter().map(|&limit| component(0, limit, continuous())).collect();
    let program = portfolio(vec![group(Occurrence::Strike, components)], Vec::new());
    let marks = program.marks_of(Quantity::Gross);
    assert_eq!(marks.len(), MAX_MARKS);
    // One each, the sum of all, and 23 of two each.
    let together: u64 = limits.iter().sum();
    let expected = limits.iter().copied().chain(limits[..23].iter().map(|limit| 2 * limit)).chain([together]);
    assert_eq!(marks, expected.collect::<Vec<_>>());
}
