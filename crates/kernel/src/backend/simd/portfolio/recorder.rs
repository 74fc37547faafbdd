//! Closes the years of a batch: treaties on the year's amount, then everything that a result holds
//! (docs/determinism.md, sections 7.3, 7.4 and 8).

use std::borrow::Cow;

use ethnum::U256;
use forge_contract::{
    distribution::Resolution,
    program::{MAX_AMOUNT, MAX_LINES, Program},
    result_details::{GroupTally, Quantity, ResultDetails, TreatyTally},
    shard_result::{ShardResult, Tally},
    treaty::{IndexSet, OccurrenceLayer, TreatyTerms},
};

use super::{
    super::vector::Vector,
    amounts::BatchAmounts,
    draws::{Column, EMPTY_COLUMN, YearBatch},
    model::PreparedPortfolio,
    tallies::{AllocationTally, ColumnTally, add_to_group},
    treaties::cede,
};

/// Accumulates the result of a shard.
pub(in crate::backend::simd) struct Recorder {
    iterations: u64,
    capped: u64,
    total: ColumnTally,
    largest: ColumnTally,
    groups: Vec<GroupTally>,
    treaties: Vec<TreatyTally>,
    quantities: Vec<(Quantity, ColumnTally)>,
    allocation: Option<AllocationTally>,
    /// For each line, its amounts after the steps so far.
    left: Vec<Column>,
    /// After each step, the sum of all lines.
    after_steps: Vec<Column>,
    /// For each treaty, what it has ceded.
    ceded: Vec<Column>,
}

impl Recorder {
    pub(super) fn new(portfolio: &PreparedPortfolio<'_>) -> Self {
        let program = portfolio.program;
        let marks = program.marks();
        let quantity =
            |quantity| (quantity, ColumnTally::new(program.marks_of(quantity), Resolution::COARSE, true));
        let columns = |number: usize| vec![EMPTY_COLUMN; number];
        let (lines, treaties) = (program.lines as usize, program.treaties.len());
        Self {
            iterations: 0,
            capped: 0,
            total: ColumnTally::new(marks.clone(), Resolution::FINE, program.details),
            largest: ColumnTally::new(marks, Resolution::FINE, program.details),
            groups: vec![GroupTally::default(); program.groups.len()],
            treaties: program.treaties.iter().map(TreatyTally::of).collect(),
            quantities: program.quantities().into_iter().map(quantity).collect(),
            allocation: program.allocation.then(|| AllocationTally::new(lines + treaties)),
            left: columns(lines),
            after_steps: columns(portfolio.steps.len()),
            ceded: columns(treaties),
        }
    }

    /// Adds the iterations of a batch.
    #[inline(always)]
    pub(in crate::backend::simd) fn add<V: Vector>(
        &mut self,
        portfolio: &PreparedPortfolio<'_>,
        batch: &YearBatch,
        amounts: &BatchAmounts,
    ) {
        let (program, years) = (portfolio.program, batch.years);
        self.left.copy_from_slice(&amounts.gross);
        for (stage, &step) in portfolio.steps.iter().enumerate() {
            self.close_step(portfolio, step, stage, years, amounts);
        }
        let gross = sum_of_columns(&amounts.gross);
        let mut total = self.after_steps.last().copied().unwrap_or(gross);
        let mut largest = amounts.largest;
        for year in 0..years {
            total[year] = (program.base + total[year]).min(MAX_AMOUNT).min(program.cap);
            largest[year] = largest[year].min(MAX_AMOUNT).min(program.cap);
            self.capped += u64::from(total[year] == program.cap);
        }
        self.iterations += years as u64;
        self.total.add::<V>(&total, years);
        self.largest.add::<V>(&largest, years);
        if program.details {
            self.add_details::<V>(portfolio, batch, amounts, &gross, &total);
        }
    }

    /// Takes from the lines what the treaties of a step have ceded, by event and of the year.
    #[inline(always)]
    fn close_step(
        &mut self,
        portfolio: &PreparedPortfolio<'_>,
        step: u32,
        stage: usize,
        years: usize,
        amounts: &BatchAmounts,
    ) {
        let program = portfolio.program;
        let mut aggregates = Vec::new();
        for (at, treaty) in program.treaties.iter().enumerate().filter(|(_, t)| t.step == step) {
            self.ceded[at] = EMPTY_COLUMN;
            if let TreatyTerms::AggregateXl { layer, placed } = &treaty.terms {
                let mut subject = EMPTY_COLUMN;
                for (line, left) in self.left.iter().enumerate() {
                    if treaty.lines.contains(line) {
                        add_column(&mut subject, left);
                    }
                }
                aggregates.push((at, layer, placed, subject));
            }
        }
        for (at, _) in program.treaties.iter().enumerate().filter(|(_, t)| t.step == step) {
            let ceded = portfolio.ceded_lines[at];
            for (line, left) in self.left.iter_mut().enumerate() {
                if ceded.lines.contains(line) {
                    let column = &amounts.ceded[ceded.column_of(line)];
                    add_column(&mut self.ceded[at], column);
                    left.iter_mut().zip(column).for_each(|(left, ceded)| *left -= ceded);
                }
            }
        }
        for (at, layer, placed, subject) in aggregates {
            for (year, &subject) in subject[..years].iter().enumerate() {
                let part = layer.part_of(subject);
                if part > 0 {
                    self.treaties[at].used_up += u64::from(part == layer.limit);
                    self.close_aggregate(program, at, year, placed.of(part));
                }
            }
        }
        self.after_steps[stage] = sum_of_columns(&self.left);
    }

    /// Cedes what an aggregate XL pays for a year.
    fn close_aggregate(&mut self, program: &Program, at: usize, year: usize, payment: u64) {
        let covered = IndexSet(program.treaties[at].lines.0 & ((1 << program.lines) - 1));
        let mut lines = [0; MAX_LINES];
        lines.iter_mut().zip(&self.left).for_each(|(amount, column)| *amount = column[year]);
        self.ceded[at][year] = cede(&mut lines, covered, payment, |_, _| ());
        lines.iter().zip(&mut self.left).for_each(|(amount, column)| column[year] = *amount);
    }

    #[inline(always)]
    fn add_details<V: Vector>(
        &mut self,
        portfolio: &PreparedPortfolio<'_>,
        batch: &YearBatch,
        amounts: &BatchAmounts,
        gross: &Column,
        total: &Column,
    ) {
        let (program, years) = (portfolio.program, batch.years);
        let may_exceed = amounts.may_exceed_maximum;
        for (at, tally) in self.groups.iter_mut().enumerate() {
            let amounts = recorded(&amounts.of_groups[at], may_exceed);
            add_to_group::<V>(tally, &batch.counts[at], &amounts, years);
        }
        for (at, treaty) in program.treaties.iter().enumerate() {
            if let TreatyTerms::OccurrenceXl(layer) = &treaty.terms {
                for &recoveries in &amounts.recoveries[at][..years] {
                    let paid = layer.paid(recoveries);
                    if paid > 0 {
                        add_reinstatements(&mut self.treaties[at], layer, paid);
                    }
                }
            }
        }
        for (quantity, tally) in &mut self.quantities {
            let column = match *quantity {
                Quantity::Gross => gross,
                Quantity::GrossLine(line) => &amounts.gross[line],
                Quantity::NetAfterSteps(steps) => &self.after_steps[steps - 1],
                Quantity::Ceded(treaty) => &self.ceded[treaty],
                Quantity::LargestOccurrence(subject) => &amounts.largest_of[subject],
            };
            tally.add::<V>(&recorded(column, may_exceed), years);
        }
        if let Some(allocation) = &mut self.allocation {
            let parts = amounts.gross.iter().chain(&self.ceded);
            let parts: Vec<_> = parts.map(|column| recorded(column, may_exceed)).collect();
            let columns: Vec<&Column> = parts.iter().map(|column| &**column).collect();
            allocation.add::<V>(total, &columns, years);
        }
    }

    /// The result, with what the amounts have counted over all batches.
    pub(super) fn finish(self, program: &Program, amounts: &BatchAmounts) -> ShardResult {
        let mut treaties = self.treaties;
        for (tally, frequency) in treaties.iter_mut().zip(&amounts.layers) {
            (tally.attached, tally.exhausted) = (frequency.all, frequency.at_limit);
        }
        let components = amounts.components.iter();
        let (total, largest) = (self.total.finish(), self.largest.finish());
        let details = ResultDetails {
            groups: self.groups,
            treaties,
            quantities: self.quantities.into_iter().map(|(_, tally)| tally.finish()).collect(),
            allocation: self.allocation.map(AllocationTally::finish).unwrap_or_default(),
        };
        ShardResult {
            iterations: self.iterations,
            components: components.map(|f| Tally { occurrences: f.all, capped: f.at_limit }).collect(),
            capped: self.capped,
            sum: total.sum,
            sum_squares: total.sum_squares,
            total: total.distribution,
            largest: largest.distribution,
            details: program.details.then_some(details),
        }
    }
}

#[inline(always)]
fn add_column(sums: &mut Column, amounts: &Column) {
    sums.iter_mut().zip(amounts).for_each(|(sum, amount)| *sum += amount);
}

#[inline(always)]
fn sum_of_columns(columns: &[Column]) -> Column {
    let mut sums = EMPTY_COLUMN;
    for column in columns {
        add_column(&mut sums, column);
    }
    sums
}

/// Amounts as results record them: saturated, if they may have to be.
#[inline(always)]
fn recorded(column: &Column, may_exceed_maximum: bool) -> Cow<'_, Column> {
    match may_exceed_maximum {
        true => Cow::Owned(column.map(|amount| amount.min(MAX_AMOUNT))),
        false => Cow::Borrowed(column),
    }
}

fn add_reinstatements(tally: &mut TreatyTally, layer: &OccurrenceLayer, paid: u64) {
    tally.used_up += u64::from(paid == layer.annual.limit);
    tally.reinstated.iter_mut().zip(layer.reinstated(paid)).for_each(|(sum, r)| *sum += u128::from(r));
    if layer.premium == 0 || tally.reinstated.is_empty() {
        return;
    }
    let premium = u128::from(layer.reinstatement_premium(paid));
    tally.premiums += premium;
    tally.squared_premiums += U256::from(premium * premium);
}
