//! Exact merging of what results hold beyond the total.

use std::collections::BTreeMap;

use ethnum::U256;
use forge_contract::{
    listed_amounts::{AmountClasses, ListedAmounts, add_sums},
    program::Program,
    result_details::{AllocationClass, GroupTally, QuantityResult, ResultDetails, TreatyTally},
    shard_result::Distribution,
};

/// A running merge of the details of results of one program.
#[derive(Debug, Clone)]
pub(crate) struct DetailsReduction {
    groups: Vec<GroupTally>,
    treaties: Vec<TreatyTally>,
    quantities: Vec<QuantitySum>,
    allocation: AmountClasses<Vec<u128>>,
}

impl DetailsReduction {
    pub(crate) fn new(program: &Program) -> Self {
        let quantities = program.quantities();
        Self {
            groups: vec![GroupTally::default(); program.groups.len()],
            treaties: program.treaties.iter().map(TreatyTally::of).collect(),
            quantities: quantities.into_iter().map(|q| QuantitySum::new(program.marks_of(q).len())).collect(),
            allocation: AmountClasses::new(),
        }
    }

    /// Merges the details of a result of the same program. `is_listed` says whether the result
    /// lists its totals.
    pub(crate) fn add(&mut self, added: &ResultDetails, is_listed: bool) {
        for (group, added) in self.groups.iter_mut().zip(&added.groups) {
            group.occurrences += added.occurrences;
            group.squared_occurrences += added.squared_occurrences;
            group.without_loss += added.without_loss;
            group.sum += added.sum;
            group.sum_squares += added.sum_squares;
        }
        for (treaty, added) in self.treaties.iter_mut().zip(&added.treaties) {
            treaty.attached += added.attached;
            treaty.exhausted += added.exhausted;
            treaty.used_up += added.used_up;
            treaty.reinstated.iter_mut().zip(&added.reinstated).for_each(|(sum, added)| *sum += added);
            treaty.premiums += added.premiums;
            treaty.squared_premiums += added.squared_premiums;
        }
        self.quantities.iter_mut().zip(&added.quantities).for_each(|(sum, added)| sum.add(added));
        let merge = |sums: &mut Vec<u128>, added: Vec<u128>| add_sums(sums, added.into_iter());
        for AllocationClass { number, sums } in &added.allocation {
            let class = match is_listed {
                true => self.allocation.of_amount(*number, merge),
                false => self.allocation.of_bucket(*number, merge),
            };
            add_sums(class, sums.iter().copied());
        }
    }

    /// The merge so far.
    pub(crate) fn details(&self) -> ResultDetails {
        let class = |(number, sums): (u64, &Vec<u128>)| AllocationClass { number, sums: sums.clone() };
        ResultDetails {
            groups: self.groups.clone(),
            treaties: self.treaties.clone(),
            quantities: self.quantities.iter().map(QuantitySum::result).collect(),
            allocation: self.allocation.iter().map(class).collect(),
        }
    }
}

/// The merge of one quantity.
#[derive(Debug, Clone)]
struct QuantitySum {
    sum: u128,
    sum_squares: U256,
    min: u64,
    max: u64,
    at_marks: Vec<u64>,
    histogram: BTreeMap<u32, u64>,
    listed: ListedAmounts,
}

impl QuantitySum {
    fn new(marks: usize) -> Self {
        Self {
            sum: 0,
            sum_squares: U256::ZERO,
            min: u64::MAX,
            max: 0,
            at_marks: vec![0; marks],
            histogram: BTreeMap::new(),
            listed: ListedAmounts::new(true),
        }
    }

    fn add(&mut self, added: &QuantityResult) {
        self.sum += added.sum;
        self.sum_squares += added.sum_squares;
        let added = &added.distribution;
        self.min = self.min.min(added.min);
        self.max = self.max.max(added.max);
        self.at_marks.iter_mut().zip(&added.at_marks).for_each(|(sum, count)| *sum += count);
        self.listed.merge(added);
        for &(bucket, count) in &added.histogram {
            *self.histogram.entry(bucket).or_insert(0) += count;
        }
    }

    fn result(&self) -> QuantityResult {
        let distribution = Distribution {
            min: self.min,
            max: self.max,
            at_marks: self.at_marks.clone(),
            histogram: self.histogram.iter().map(|(&bucket, &count)| (bucket, count)).collect(),
            listed: self.listed.list(),
        };
        QuantityResult { sum: self.sum, sum_squares: self.sum_squares, distribution }
    }
}
