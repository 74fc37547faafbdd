//! Accumulates the result of a shard, one iteration after another (docs/determinism.md, section 8).

use ethnum::U256;
use forge_contract::{
    distribution::Resolution,
    listed_amounts::{AmountClasses, ListedAmounts, add_sums},
    occurrence_subject::OccurrenceSubject,
    program::Program,
    result_details::{AllocationClass, GroupTally, Quantity, QuantityResult, ResultDetails, TreatyTally},
    shard_result::{Distribution, ShardResult, Tally},
    treaty::{IndexSet, OccurrenceLayer, Treaty, TreatyTerms},
};

use super::iteration::{ComponentAmount, IterationObserver, IterationOutcome, recorded};
use crate::treaties::{CessionObserver, ClosedYear, sum_of};

/// Accumulates the result of a shard.
pub(crate) struct ResultBuilder<'a> {
    program: &'a Program,
    iterations: u64,
    components: Vec<Tally>,
    capped: u64,
    total: QuantityBuilder,
    largest: DistributionBuilder,
    details: Option<DetailsBuilder>,
}

impl<'a> ResultBuilder<'a> {
    pub(crate) fn new(program: &'a Program) -> Self {
        let marks = program.marks();
        Self {
            program,
            iterations: 0,
            components: vec![Tally::default(); program.component_count()],
            capped: 0,
            total: QuantityBuilder::new(marks.clone(), Resolution::FINE, program.details),
            largest: DistributionBuilder::new(marks, Resolution::FINE, program.details),
            details: program.details.then(|| DetailsBuilder::new(program)),
        }
    }

    pub(crate) fn finish(self) -> ShardResult {
        let total = self.total.finish();
        ShardResult {
            iterations: self.iterations,
            components: self.components,
            capped: self.capped,
            sum: total.sum,
            sum_squares: total.sum_squares,
            total: total.distribution,
            largest: self.largest.finish(),
            details: self.details.map(DetailsBuilder::finish),
        }
    }
}

impl CessionObserver for ResultBuilder<'_> {
    fn add_left(&mut self, steps: usize, amounts: &[u64]) {
        if let Some(details) = &mut self.details {
            details.largest.add_left(steps, amounts);
        }
    }
}

impl IterationObserver for ResultBuilder<'_> {
    fn start_occurrence(&mut self, group: usize) {
        if let Some(details) = &mut self.details {
            details.largest.group = group;
        }
    }

    fn add_amount(&mut self, amount: &ComponentAmount) {
        let tally = &mut self.components[amount.component];
        tally.occurrences += 1;
        tally.capped += u64::from(amount.is_capped);
    }

    fn end_iteration(&mut self, outcome: &IterationOutcome) {
        let total = outcome.total(self.program);
        self.iterations += 1;
        self.capped += u64::from(total == self.program.cap);
        self.total.add(total);
        self.largest.add(outcome.recorded_largest(self.program));
        if let Some(details) = &mut self.details {
            details.add(&self.program.treaties, outcome, total);
        }
    }
}

fn square(amount: u64) -> U256 {
    U256::from(u128::from(amount) * u128::from(amount))
}

/// Accumulates what a result holds beyond the total.
struct DetailsBuilder {
    groups: Vec<GroupTally>,
    treaties: Vec<TreatyTally>,
    quantities: Vec<(Quantity, QuantityBuilder)>,
    largest: LargestOccurrences,
    allocation: Option<AmountClasses<Vec<u128>>>,
}

impl DetailsBuilder {
    fn new(program: &Program) -> Self {
        let quantity =
            |quantity| (quantity, QuantityBuilder::new(program.marks_of(quantity), Resolution::COARSE, true));
        Self {
            groups: vec![GroupTally::default(); program.groups.len()],
            treaties: program.treaties.iter().map(TreatyTally::of).collect(),
            quantities: program.quantities().into_iter().map(quantity).collect(),
            largest: LargestOccurrences::new(program),
            allocation: program.allocation.then(AmountClasses::new),
        }
    }

    fn add(&mut self, treaties: &[Treaty], outcome: &IterationOutcome, total: u64) {
        for ((tally, &count), &sum) in self.groups.iter_mut().zip(&outcome.counts).zip(&outcome.group_totals)
        {
            let sum = recorded(sum);
            tally.occurrences += count;
            tally.squared_occurrences += u128::from(count) * u128::from(count);
            tally.without_loss += u64::from(sum == 0);
            tally.sum += u128::from(sum);
            tally.sum_squares += square(sum);
        }
        let year = &outcome.year;
        for ((tally, terms), treaty) in self.treaties.iter_mut().zip(treaties).zip(&year.treaties) {
            tally.attached += treaty.attached;
            tally.exhausted += treaty.exhausted;
            tally.used_up += u64::from(treaty.is_used_up);
            if let TreatyTerms::OccurrenceXl(layer) = &terms.terms {
                add_reinstatements(tally, layer, treaty.paid);
            }
        }
        for (quantity, builder) in &mut self.quantities {
            builder.add(recorded(amount_of(*quantity, year, &self.largest)));
        }
        self.largest.amounts.fill(0);
        if let Some(allocation) = &mut self.allocation {
            let lines = year.after_steps(0).iter().copied();
            let parts = lines.chain(year.treaties.iter().map(|treaty| treaty.ceded));
            let parts: Vec<u64> = parts.collect();
            let sums = allocation.of_amount(total, |sums, added| add_sums(sums, added.into_iter()));
            add_sums(sums, parts.into_iter().map(|part| recorded(part).into()));
        }
    }

    fn finish(self) -> ResultDetails {
        let class = |(number, sums): (u64, &Vec<u128>)| AllocationClass { number, sums: sums.clone() };
        ResultDetails {
            groups: self.groups,
            treaties: self.treaties,
            quantities: self.quantities.into_iter().map(|(_, builder)| builder.finish()).collect(),
            allocation: self.allocation.unwrap_or_default().iter().map(class).collect(),
        }
    }
}

/// The largest occurrences of the iteration in progress.
struct LargestOccurrences {
    /// For each subject, the number of steps that have paid.
    subjects: Vec<(OccurrenceSubject, usize)>,
    /// Group of the occurrence in progress.
    group: usize,
    /// For each subject, its largest occurrence so far.
    amounts: Vec<u64>,
}

impl LargestOccurrences {
    fn new(program: &Program) -> Self {
        let steps = program.steps();
        let numbered = |subject: OccurrenceSubject| {
            (subject, steps.iter().filter(|&&step| step <= subject.step).count())
        };
        let subjects: Vec<_> = program.occurrence_subjects().into_iter().map(numbered).collect();
        Self { amounts: vec![0; subjects.len()], subjects, group: 0 }
    }

    /// Adds what this many steps leave of the occurrence in progress.
    fn add_left(&mut self, steps: usize, amounts: &[u64]) {
        for ((subject, after), largest) in self.subjects.iter().zip(&mut self.amounts) {
            if *after == steps && subject.groups.contains(self.group) {
                *largest = sum_of(amounts, subject.lines).max(*largest);
            }
        }
    }
}

fn amount_of(quantity: Quantity, year: &ClosedYear, largest: &LargestOccurrences) -> u64 {
    match quantity {
        Quantity::Gross => sum_of(year.after_steps(0), IndexSet::ALL),
        Quantity::GrossLine(line) => year.after_steps(0)[line],
        Quantity::NetAfterSteps(steps) => sum_of(year.after_steps(steps), IndexSet::ALL),
        Quantity::Ceded(treaty) => year.treaties[treaty].ceded,
        Quantity::LargestOccurrence(subject) => largest.amounts[subject],
    }
}

fn add_reinstatements(tally: &mut TreatyTally, layer: &OccurrenceLayer, paid: u64) {
    if paid == 0 {
        return;
    }
    tally.reinstated.iter_mut().zip(layer.reinstated(paid)).for_each(|(sum, r)| *sum += u128::from(r));
    let premium = layer.reinstatement_premium(paid);
    tally.premiums += u128::from(premium);
    tally.squared_premiums += square(premium);
}

/// Accumulates the sums and the distribution of one quantity.
struct QuantityBuilder {
    sum: u128,
    sum_squares: U256,
    distribution: DistributionBuilder,
}

impl QuantityBuilder {
    fn new(marks: Vec<u64>, resolution: Resolution, is_listed: bool) -> Self {
        let distribution = DistributionBuilder::new(marks, resolution, is_listed);
        Self { sum: 0, sum_squares: U256::ZERO, distribution }
    }

    fn add(&mut self, amount: u64) {
        self.sum += u128::from(amount);
        self.sum_squares += square(amount);
        self.distribution.add(amount);
    }

    fn finish(self) -> QuantityResult {
        QuantityResult {
            sum: self.sum,
            sum_squares: self.sum_squares,
            distribution: self.distribution.finish(),
        }
    }
}

/// Accumulates the distribution of one quantity.
struct DistributionBuilder {
    min: u64,
    max: u64,
    marks: Vec<u64>,
    at_marks: Vec<u64>,
    resolution: Resolution,
    histogram: Vec<u64>,
    listed: ListedAmounts,
}

impl DistributionBuilder {
    /// The distribution of no iterations. If `is_listed`, few distinct amounts are listed.
    fn new(marks: Vec<u64>, resolution: Resolution, is_listed: bool) -> Self {
        let at_marks = vec![0; marks.len()];
        let histogram = vec![0; resolution.buckets()];
        let listed = ListedAmounts::new(is_listed);
        Self { min: u64::MAX, max: 0, marks, at_marks, resolution, histogram, listed }
    }

    fn add(&mut self, amount: u64) {
        self.min = self.min.min(amount);
        self.max = self.max.max(amount);
        if let Ok(mark) = self.marks.binary_search(&amount) {
            self.at_marks[mark] += 1;
        }
        self.histogram[self.resolution.bucket_of(amount)] += 1;
        self.listed.add(amount, 1);
    }

    fn finish(self) -> Distribution {
        let buckets = (0..).zip(self.histogram).filter(|&(_, count)| count > 0);
        Distribution {
            min: self.min,
            max: self.max,
            at_marks: self.at_marks,
            histogram: buckets.collect(),
            listed: self.listed.list(),
        }
    }
}
