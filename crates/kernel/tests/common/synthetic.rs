//! Synthetic shard results, computed from lists of amounts, for tests of merging and statistics.

use std::collections::BTreeMap;

use ethnum::U256;
use forge_contract::{
    plain_program::plain_program,
    program::{CountTable, MAX_AMOUNT, Program, Segment},
    shard_result::{Distribution, ShardResult, Tally, bucket_of},
    treaty::{IndexSet, Layer, Proportion, Treaty, TreatyTerms},
};

/// An amount and the number of iterations that have it.
pub type AmountCount = (u64, u64);

/// A distribution of amounts.
pub fn distribution(marks: &[u64], amounts: &[AmountCount]) -> Distribution {
    let mut counts = BTreeMap::new();
    for &(amount, times) in amounts {
        *counts.entry(bucket_of(amount) as u32).or_insert(0) += times;
    }
    let at = |mark: &u64| amounts.iter().filter(|(amount, _)| amount == mark).map(|(_, times)| times).sum();
    Distribution {
        min: amounts.iter().map(|a| a.0).min().unwrap_or(u64::MAX),
        max: amounts.iter().map(|a| a.0).max().unwrap_or(0),
        at_marks: marks.iter().map(at).collect(),
        histogram: counts.into_iter().collect(),
        listed: Vec::new(),
    }
}

/// A result with these totals and largest occurrences. The last mark, or else the largest amount,
/// is the program's cap.
pub fn result(
    marks: &[u64],
    totals: &[AmountCount],
    largests: &[AmountCount],
    components: Vec<Tally>,
) -> ShardResult {
    let cap = marks.last().copied().unwrap_or(MAX_AMOUNT);
    ShardResult {
        iterations: totals.iter().map(|t| t.1).sum(),
        components,
        capped: totals.iter().filter(|t| t.0 == cap).map(|t| t.1).sum(),
        sum: totals.iter().map(|&(amount, times)| u128::from(amount) * u128::from(times)).sum(),
        sum_squares: totals
            .iter()
            .map(|&(amount, n)| U256::from(amount) * U256::from(amount) * U256::from(n))
            .sum(),
        total: distribution(marks, totals),
        largest: distribution(marks, largests),
        details: None,
    }
}

/// A program with these marks and this number of components, for synthetic results. The marks are
/// retentions of treaties.
pub fn program(marks: &[u64], components: usize) -> Program {
    let segment = Segment { left: 1, slope: 0, curve: 0, shift: 31 };
    let component = |_| {
        let counts = CountTable { offset: 1, thresholds: Vec::new() };
        (counts, vec![segment; 256], MAX_AMOUNT)
    };
    let treaty = |&attachment: &u64| {
        let layer = Layer { limit: MAX_AMOUNT, attachment };
        let terms = TreatyTerms::AggregateXl { layer, placed: Proportion::ONE };
        Treaty { step: 1, lines: IndexSet::ALL, groups: IndexSet::ALL, terms }
    };
    let cap = marks.last().copied().unwrap_or(MAX_AMOUNT);
    let treaties = marks.iter().map(treaty).collect();
    let program = Program { treaties, ..plain_program(1, 0, cap, 1, (0..components).map(component)) };
    assert_eq!(program.marks(), marks);
    program
}
