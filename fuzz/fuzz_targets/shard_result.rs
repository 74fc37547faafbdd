//! Shard results as an untrusted worker returns them: decoding never panics, decoded results are
//! canonical, and an aggregator can merge and summarise any of them.
#![no_main]

use forge_contract::{
    plain_program::plain_program,
    program::{CountTable, MAX_AMOUNT, MAX_TREATIES, Program, Segment},
    shard_result::ShardResult,
    treaty::{IndexSet, Layer, Proportion, Treaty, TreatyTerms},
};
use forge_fuzz as _;
use forge_kernel::{reduction::Reduction, summary::{ReportedTails, Summary}};
use libfuzzer_sys::fuzz_target;

/// A program with the given numbers of components and marks; the marks are 1,000, 2,000, …,
/// retentions of treaties.
fn program(components: usize, marks: usize) -> Option<Program> {
    let segment = Segment { left: 1, slope: 0, curve: 0, shift: 31 };
    let component = |_| {
        let counts = CountTable { offset: 1, thresholds: Vec::new() };
        (counts, vec![segment; 256], MAX_AMOUNT)
    };
    let treaty = |mark: usize| {
        let layer = Layer { limit: MAX_AMOUNT, attachment: 1000 * (mark as u64 + 1) };
        let terms = TreatyTerms::AggregateXl { layer, placed: Proportion::ONE };
        Treaty { step: 1, lines: IndexSet::ALL, groups: IndexSet::ALL, terms }
    };
    let treaties = (0..marks.min(MAX_TREATIES)).map(treaty).collect();
    let program =
        Program { treaties, ..plain_program(1, 0, MAX_AMOUNT, 1, (0..components).map(component)) };
    (program.validate().is_ok() && program.marks().len() == marks).then_some(program)
}

fuzz_target!(|data: &[u8]| {
    let Ok(result) = ShardResult::decode(data) else { return };
    assert_eq!(result.encode(), data, "decoded results are canonical");
    let Some(program) = program(result.components.len(), result.total.at_marks.len()) else { return };
    if result.details.is_some() {
        return;
    }
    let mut reduction = Reduction::new(&program);
    for _ in 0..3 {
        reduction.add(&result).expect("the result has the shape of the program");
    }
    let merged = reduction.result();
    assert_eq!(merged.iterations, 3 * result.iterations);
    if merged.iterations > 0 {
        let summary = Summary::new(&merged, &program, &ReportedTails::default());
        assert!(summary.min <= summary.max && summary.mean.is_some_and(f64::is_finite));
    }
});
