//! Programs round-trip, their marks and order follow from their parts, and unsafe ones are refused.

use super::*;
use crate::{
    plain_program::{PlainProgram, plain_program},
    table::Segment,
    treaty::{IndexSet, Layer, OccurrenceLayer, TreatyTerms},
};

fn quantiles() -> AmountTable {
    let segment = Segment { left: 5, slope: 3, curve: -1, shift: 31 };
    AmountTable::Quantiles { segment_bits: 1, segments: vec![segment; 256] }
}

fn plain() -> Program {
    let AmountTable::Quantiles { segment_bits, segments } = quantiles() else { unreachable!() };
    let counts = CountTable { offset: 1, thresholds: vec![10, 20, 20] };
    plain_program(100, 0, 50, segment_bits, [(counts, segments, 70)])
}

fn component(line: u32) -> Component {
    Component { line, index: None, same_rank: false, terms: Terms::NONE, amounts: quantiles() }
}

/// A program with everything that a program can have.
fn portfolio() -> Program {
    let counts = CountTable { offset: 0, thresholds: vec![1 << 40] };
    let pick = CountTable { offset: 0, thresholds: vec![1 << 63] };
    let terms = Terms { deductible: 3, franchise: true, limit: 90, share: Proportion(500_000) };
    let steps = AmountTable::Steps { thresholds: vec![1 << 62, 1 << 63], amounts: vec![1, 5, 9] };
    let groups = vec![
        Group {
            counts: counts.clone(),
            occurrence: Occurrence::Claim { pick: Some(pick) },
            components: vec![Component { terms, index: Some(0), ..component(0) }, component(1)],
        },
        Group {
            counts: counts.clone(),
            occurrence: Occurrence::Strike,
            components: vec![component(1), Component { same_rank: true, amounts: steps, ..component(0) }],
        },
        Group {
            counts: CountTable { offset: 0, thresholds: Vec::new() },
            occurrence: Occurrence::Annual,
            components: vec![component(1)],
        },
    ];
    let treaty = |step, terms| Treaty { step, lines: IndexSet(3), groups: IndexSet(7), terms };
    let layer = OccurrenceLayer {
        cession: Proportion::ONE,
        layer: Layer { limit: 40, attachment: 20 },
        annual: Layer { limit: 80, attachment: 0 },
        placed: Proportion(900_000),
        reinstatements: vec![Proportion::ONE],
        premium: 12,
    };
    let quota_share = TreatyTerms::QuotaShare { cession: Proportion(200_000), event_limit: MAX_AMOUNT };
    let stop_loss =
        TreatyTerms::AggregateXl { layer: Layer { limit: 100, attachment: 200 }, placed: Proportion::ONE };
    Program {
        units: 100,
        base: 0,
        cap: MAX_AMOUNT,
        lines: 2,
        details: true,
        allocation: true,
        indices: vec![AmountTable::Linear { thresholds: vec![1 << 61], amounts: vec![3, 1 << 24, 1 << 25] }],
        groups,
        treaties: vec![
            treaty(1, quota_share),
            treaty(2, TreatyTerms::OccurrenceXl(layer)),
            treaty(3, stop_loss),
        ],
    }
}

#[test]
fn a_count_is_the_number_of_thresholds_not_above_the_draw() {
    let table = plain().groups.remove(0).counts;
    assert_eq!([9, 10, 19, 20, u64::MAX].map(|draw| table.count(draw)), [1, 2, 2, 4, 4]);
}

#[test]
fn programs_round_trip_and_truncated_ones_are_rejected() {
    for good in [plain(), portfolio()] {
        let bytes = good.encode();
        assert_eq!(Program::decode(&bytes), Ok(good));
        for length in [0, 8, 40, 100, bytes.len() - 1] {
            assert!(Program::decode(&bytes[..length]).is_err());
        }
    }
}

#[test]
fn only_plain_programs_are_taken_apart() {
    let program = plain();
    let view = PlainProgram::new(&program).unwrap();
    assert_eq!((view.segment_bits, view.components[0].cap, view.cap), (1, 70, 50));
    assert!(PlainProgram::new(&portfolio()).is_none());
    let changes: [fn(&mut Program); 7] = [
        |p| p.indices = vec![AmountTable::constant(1 << 24)],
        |p| p.lines = 2,
        |p| p.details = true,
        |p| p.groups[0].occurrence = Occurrence::Strike,
        |p| p.groups[0].components[0].terms.deductible = 1,
        |p| p.groups[0].components[0].amounts = AmountTable::constant(7),
        |p| p.groups[0].components.push(component(0)),
    ];
    for change in changes {
        let mut other = program.clone();
        change(&mut other);
        assert!(PlainProgram::new(&other).is_none());
    }
}

#[test]
fn the_order_is_random_where_annual_terms_cover_several_groups() {
    let with = |change: &dyn Fn(&mut Program)| {
        let mut program = portfolio();
        change(&mut program);
        program.validate().unwrap();
        program.interleaves()
    };
    fn layer(program: &mut Program) -> &mut OccurrenceLayer {
        match &mut program.treaties[1].terms {
            TreatyTerms::OccurrenceXl(layer) => layer,
            _ => unreachable!("the treaty is by occurrence"),
        }
    }
    // No other treaty is needed: the order decides which lines get the payments.
    assert!(with(&|_| {}));
    assert!(with(&|p| p.treaties.retain(|treaty| treaty.has_annual_terms())));
    assert!(with(&|p| layer(p).annual = Layer { limit: MAX_AMOUNT, attachment: 1 }));
    assert!(!with(&|p| layer(p).annual = Layer { limit: MAX_AMOUNT, attachment: 0 }));
    // The third group is annual, so a treaty that covers it and one other covers one.
    assert!(with(&|p| p.treaties[1].groups = IndexSet::ALL));
    assert!(!with(&|p| p.treaties[1].groups = IndexSet(0b101)));
    // Only the first group strikes the third line.
    assert!(!with(&|p| {
        p.lines = 3;
        p.groups[0].components[1].line = 2;
        p.treaties[1].lines = IndexSet(0b100);
    }));
    assert!(!with(&|p| p.treaties[1].lines = IndexSet(0)));
}

#[test]
fn unsafe_programs_are_rejected() {
    let plain_changes: [fn(&mut Program); 9] = [
        |p| p.cap = MAX_AMOUNT + 1,
        |p| p.base = MAX_AMOUNT + 1,
        |p| p.groups[0].counts.thresholds = vec![2, 1],
        |p| p.groups[0].counts.offset = 40_000,
        |p| segment(p).shift = 62,
        |p| segment(p).left = i32::MIN,
        |p| (segment(p).slope, segment(p).curve) = (1 << 30, 1 << 30),
        |p| p.groups.clear(),
        |p| p.groups[0].components[0].line = 1,
    ];
    let portfolio_changes: [fn(&mut Program); 14] = [
        |p| p.indices[0] = AmountTable::Linear { thresholds: vec![], amounts: vec![2, 1] },
        |p| p.indices[0] = AmountTable::Linear { thresholds: vec![1], amounts: vec![1, 2] },
        |p| p.treaties[0].step = 4,
        |p| p.lines = 17,
        |p| p.details = false,
        |p| p.groups[0].components[0].index = Some(1),
        |p| p.groups[0].components[1].same_rank = true,
        |p| p.groups[1].components[0].same_rank = true,
        |p| p.groups[0].occurrence = Occurrence::Claim { pick: None },
        |p| p.groups[2].counts.offset = 1,
        |p| p.groups[0].components[0].terms.share = Proportion(1_000_001),
        |p| p.groups[1].components[1].amounts = AmountTable::Steps { thresholds: vec![], amounts: vec![] },
        |p| layer(p).layer.limit = 0,
        |p| layer(p).reinstatements = vec![Proportion::ONE; 65],
    ];
    for (good, changes) in [(plain(), &plain_changes[..]), (portfolio(), &portfolio_changes)] {
        for (number, change) in changes.iter().enumerate() {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(bad.validate().is_err(), "change {number} of {} lines", good.lines);
            assert!(Program::decode(&bad.encode()).is_err(), "change {number} of {} lines", good.lines);
        }
    }
}

fn segment(program: &mut Program) -> &mut Segment {
    match &mut program.groups[0].components[0].amounts {
        AmountTable::Quantiles { segments, .. } => &mut segments[3],
        _ => unreachable!("the table has quantiles"),
    }
}

fn layer(program: &mut Program) -> &mut OccurrenceLayer {
    match &mut program.treaties[1].terms {
        TreatyTerms::OccurrenceXl(layer) => layer,
        _ => unreachable!("the treaty is by occurrence"),
    }
}
