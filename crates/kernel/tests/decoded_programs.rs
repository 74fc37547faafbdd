//! Programs that were changed after they were made: the decoder refuses them, or every CPU backend
//! executes them as the reference does. Vectors read tables by numbers out of the program, without
//! a check of every element.

use std::cell::Cell;

use forge_contract::program::{AmountTable, CountTable, Group, Occurrence, Program};
use forge_kernel::{
    backend::simd::Simd,
    testing::{agreement::assert_agrees, portfolios::random_portfolio, sample_shard},
};
use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, TestRunner},
};

/// A change of what the numbers of tables and segments depend on.
#[derive(Debug, Clone, Copy)]
enum Change {
    PickOffset(u32),
    PickThreshold(u64),
    MovePickThreshold(u64),
    SegmentBits(u32),
    Segments(usize),
    RemoveComponent,
    Line(u32),
    Index(u32),
    Claims,
    Strikes,
}

impl Change {
    fn apply(self, group: &mut Group) {
        let last = group.components.last_mut().expect("a group has a component");
        match self {
            Self::PickOffset(more) => change_pick(group, |pick| pick.offset += more),
            Self::PickThreshold(draw) => change_pick(group, |pick| pick.thresholds.push(draw)),
            Self::MovePickThreshold(draw) => change_pick(group, |pick| {
                pick.thresholds.pop();
                pick.thresholds.push(draw);
            }),
            Self::SegmentBits(bits) => {
                if let AmountTable::Quantiles { segment_bits, .. } = &mut last.amounts {
                    *segment_bits = bits;
                }
            }
            Self::Segments(fewer) => {
                if let AmountTable::Quantiles { segments, .. } = &mut last.amounts {
                    segments.truncate(segments.len().saturating_sub(fewer));
                }
            }
            Self::RemoveComponent => group.components.truncate(group.components.len() - 1),
            Self::Line(line) => last.line = line,
            Self::Index(index) => last.index = Some(index),
            Self::Claims => group.occurrence = Occurrence::Claim { pick: None },
            Self::Strikes => group.occurrence = Occurrence::Strike,
        }
    }
}

fn change_pick(group: &mut Group, change: impl FnOnce(&mut CountTable)) {
    if let Occurrence::Claim { pick: Some(pick) } = &mut group.occurrence {
        change(pick);
        pick.thresholds.sort_unstable();
    }
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (1..4u32).prop_map(Change::PickOffset),
        any::<u64>().prop_map(Change::PickThreshold),
        any::<u64>().prop_map(Change::MovePickThreshold),
        (0..10u32).prop_map(Change::SegmentBits),
        (1..300usize).prop_map(Change::Segments),
        Just(Change::RemoveComponent),
        (0..5u32).prop_map(Change::Line),
        (0..3u32).prop_map(Change::Index),
        Just(Change::Claims),
        Just(Change::Strikes),
    ]
}

/// Whether the decoder takes the bytes. If it does, every backend has executed the program.
fn executes(bytes: &[u8], seed: u64) -> bool {
    let Ok(program) = Program::decode(bytes) else { return false };
    for backend in Simd::supported() {
        assert_agrees(&backend, &program, &[sample_shard(0, seed, 40)], "a changed program");
    }
    true
}

#[test]
fn changed_programs_are_refused_or_executed_alike() {
    let (refused, executed) = (Cell::new(0), Cell::new(0));
    let config = Config { cases: 600, failure_persistence: None, ..Config::default() };
    let cases = (0..2000u64, any_change(), any::<Index>());
    let outcome = TestRunner::new(config).run(&cases, |(seed, change, group)| {
        let mut program = random_portfolio(seed);
        let group = group.index(program.groups.len());
        change.apply(&mut program.groups[group]);
        let outcome = if executes(&program.encode(), seed) { &executed } else { &refused };
        outcome.set(outcome.get() + 1);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let (refused, executed) = (refused.get(), executed.get());
    assert!(refused >= 50 && executed >= 50, "{refused} refused, {executed} executed");
}
