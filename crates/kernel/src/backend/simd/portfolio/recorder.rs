//! Closes the years of a batch: treaties on the year's amount, then everything that a result holds
//! (docs/determinism.md, sections 7.3, 7.4 and 8).

use ethnum::U256;
use forge_contract::{
    distribution::Resolution,
    program::{MAX_AMOUNT, MAX_LINES, Program},
    result_details::{GroupTally, Quantity, ResultDetails, TreatyTally},
    shard_result::{ShardResult, Tally},
    treaty::{IndexSet, Layer, OccurrenceLayer, Proportion, TreatyTerms},
};

use super::{
    super::InstructionSet,
    amounts::{BatchAmounts, Column, cede},
    draws::{EventBatch, MAX_BATCH_YEARS},
    model::PreparedPortfolio,
    tallies::{AllocationTally, ColumnTally, add_to_group},
};

/// Accumulates the result of a shard.
pub(super) struct Recorder {
    iterations: u64,
    capped: u64,
    total: ColumnTally,
    largest: ColumnTally,
    groups: Vec<GroupTally>,
    treaties: Vec<TreatyTally>,
    quantities: Vec<(Quantity, ColumnTally)>,
    allocation: Option<AllocationTally>,
    /// For each group, its amounts.
    of_groups: Vec<Column>,
    /// For each line, its amounts before all steps.
    gross: Vec<Column>,
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
            |quantity| (quantity, ColumnTally::new(program.marks_of(quantity), Resolution::COARSE));
        let columns = |number: usize| vec![[0; MAX_BATCH_YEARS]; number];
        let (lines, treaties) = (program.lines as usize, program.treaties.len());
        Self {
            iterations: 0,
            capped: 0,
            total: ColumnTally::new(marks.clone(), Resolution::FINE),
            largest: ColumnTally::new(marks, Resolution::FINE),
            groups: vec![GroupTally::default(); program.groups.len()],
            treaties: program.treaties.iter().map(TreatyTally::of).collect(),
            quantities: program.quantities().into_iter().map(quantity).collect(),
            allocation: program.allocation.then(|| AllocationTally::new(lines + treaties)),
            of_groups: columns(program.groups.len()),
            gross: columns(lines),
            left: columns(lines),
            after_steps: columns(portfolio.steps.len()),
            ceded: columns(treaties),
        }
    }

    /// Adds the iterations of a batch.
    pub(super) fn add(
        &mut self,
        instructions: InstructionSet,
        portfolio: &PreparedPortfolio<'_>,
        batch: &EventBatch,
        amounts: &BatchAmounts,
    ) {
        let (program, years) = (portfolio.program, batch.years);
        self.add_gross(portfolio, batch, amounts);
        for (stage, &step) in portfolio.steps.iter().enumerate() {
            self.close_step(program, step, stage, years, amounts);
        }
        let mut total = self.after_steps.last().copied().unwrap_or_else(|| sum_of_columns(&self.gross));
        let mut largest: Column = [0; MAX_BATCH_YEARS];
        for year in 0..years {
            total[year] = (program.base + total[year]).min(MAX_AMOUNT).min(program.cap);
            largest[year] = amounts.largest[year].min(MAX_AMOUNT).min(program.cap);
        }
        self.iterations += years as u64;
        self.capped += total[..years].iter().map(|&total| u64::from(total == program.cap)).sum::<u64>();
        self.total.add(instructions, &total, years);
        self.largest.add(instructions, &largest, years);
        if program.details {
            self.add_details(instructions, program, years, &total, amounts);
        }
    }

    /// Sums the components to lines and groups.
    fn add_gross(&mut self, portfolio: &PreparedPortfolio<'_>, batch: &EventBatch, amounts: &BatchAmounts) {
        self.gross.fill([0; MAX_BATCH_YEARS]);
        self.of_groups.fill([0; MAX_BATCH_YEARS]);
        for (path, totals) in portfolio.components.iter().zip(&amounts.totals) {
            add_column(&mut self.gross[path.component.line as usize], totals);
            add_column(&mut self.of_groups[path.group], totals);
        }
        let counts = batch.counts.chunks(MAX_BATCH_YEARS);
        for ((tally, counts), of_group) in self.groups.iter_mut().zip(counts).zip(&self.of_groups) {
            add_to_group(tally, &counts[..batch.years], &recorded(of_group, amounts)[..batch.years]);
        }
        self.left.clone_from(&self.gross);
    }

    /// Takes from the lines what the treaties of a step have ceded, by event and of the year.
    fn close_step(
        &mut self,
        program: &Program,
        step: u32,
        stage: usize,
        years: usize,
        amounts: &BatchAmounts,
    ) {
        let lines = program.lines as usize;
        let mut aggregates = Vec::new();
        for (at, treaty) in program.treaties.iter().enumerate().filter(|(_, t)| t.step == step) {
            self.ceded[at] = [0; MAX_BATCH_YEARS];
            if let TreatyTerms::AggregateXl { layer, placed } = &treaty.terms {
                let mut subject = [0; MAX_BATCH_YEARS];
                let covered = (0..lines).filter(|&line| treaty.lines.contains(line));
                covered.for_each(|line| add_column(&mut subject, &self.left[line]));
                aggregates.push((at, layer, placed, subject));
            }
        }
        for (at, treaty) in program.treaties.iter().enumerate().filter(|(_, t)| t.step == step) {
            for line in (0..lines).filter(|&line| treaty.lines.contains(line)) {
                let column = &amounts.ceded[(at * lines + line) * MAX_BATCH_YEARS..][..MAX_BATCH_YEARS];
                add_column(&mut self.ceded[at], column);
                self.left[line].iter_mut().zip(column).for_each(|(left, ceded)| *left -= ceded);
            }
        }
        for (at, layer, placed, subject) in aggregates {
            for (year, &subject) in subject[..years].iter().enumerate() {
                self.close_aggregate(program, at, year, (*layer, *placed), subject);
            }
        }
        self.after_steps[stage] = sum_of_columns(&self.left);
    }

    /// Cedes what an aggregate XL pays for a year.
    fn close_aggregate(
        &mut self,
        program: &Program,
        at: usize,
        year: usize,
        (layer, placed): (Layer, Proportion),
        subject: u64,
    ) {
        let part = layer.part_of(subject);
        if part == 0 {
            return;
        }
        self.treaties[at].used_up += u64::from(part == layer.limit);
        let covered = IndexSet(program.treaties[at].lines.0 & ((1 << program.lines) - 1));
        let mut lines = [0; MAX_LINES];
        lines.iter_mut().zip(&self.left).for_each(|(amount, column)| *amount = column[year]);
        self.ceded[at][year] = cede(&mut lines, covered, placed.of(part), |_, _| ());
        lines.iter().zip(&mut self.left).for_each(|(amount, column)| column[year] = *amount);
    }

    fn add_details(
        &mut self,
        instructions: InstructionSet,
        program: &Program,
        years: usize,
        total: &Column,
        amounts: &BatchAmounts,
    ) {
        for (at, treaty) in program.treaties.iter().enumerate() {
            if let TreatyTerms::OccurrenceXl(layer) = &treaty.terms {
                let recoveries = &amounts.recoveries[at * MAX_BATCH_YEARS..][..years];
                let paying = recoveries.iter().map(|&sum| layer.paid(sum)).filter(|&paid| paid > 0);
                paying.for_each(|paid| add_reinstatements(&mut self.treaties[at], layer, paid));
            }
        }
        for (quantity, tally) in &mut self.quantities {
            let column = match *quantity {
                Quantity::Gross => recorded(&sum_of_columns(&self.gross), amounts),
                Quantity::GrossLine(line) => recorded(&self.gross[line], amounts),
                Quantity::NetAfterSteps(steps) => recorded(&self.after_steps[steps - 1], amounts),
                Quantity::Ceded(treaty) => recorded(&self.ceded[treaty], amounts),
            };
            tally.add(instructions, &column, years);
        }
        if let Some(allocation) = &mut self.allocation {
            let parts = self.gross.iter().chain(&self.ceded);
            let parts: Vec<Column> = parts.map(|column| recorded(column, amounts)).collect();
            allocation.add(&total[..years], parts.iter().map(|column| &column[..]));
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

fn add_column(sums: &mut Column, amounts: &[u64]) {
    sums.iter_mut().zip(amounts).for_each(|(sum, amount)| *sum += amount);
}

fn sum_of_columns(columns: &[Column]) -> Column {
    let mut sums = [0; MAX_BATCH_YEARS];
    columns.iter().for_each(|column| add_column(&mut sums, column));
    sums
}

/// Amounts as results record them: saturated, if they may have to be.
fn recorded(column: &Column, amounts: &BatchAmounts) -> Column {
    if amounts.may_exceed_maximum { column.map(|amount| amount.min(MAX_AMOUNT)) } else { *column }
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
