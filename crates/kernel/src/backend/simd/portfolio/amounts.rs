//! The amounts of a batch of iterations: every component's draws at once, then the treaties that
//! pay by event.
//!
//! Most events are below every layer. For them only quota shares pay, which depend on nothing else,
//! so they are treated by component. The other events pass the treaties one after another, in the
//! order of the iteration.

use forge_contract::{
    program::{AmountTable, INDEX_FRACTION_BITS, MAX_AMOUNT, MAX_LINES},
    treaty::{IndexSet, OccurrenceLayer, Proportion, Treaty, TreatyTerms},
};

use super::{
    super::{super::scalar::amount_in_table, InstructionSet, primitives::DrawList},
    draws::{EventBatch, MAX_BATCH_YEARS, year_of},
    model::{ComponentPath, EventKind, PreparedPortfolio, QuotaShare},
};

/// An amount for each iteration of a batch.
pub(super) type Column = [u64; MAX_BATCH_YEARS];

/// Sums of a year below this are exact; see [`crate::treaties`].
const MAX_EXACT_SUM: u64 = 1 << 62;
/// Draws are looked up in multiples of this.
const LIST_PADDING: usize = 8;

/// How often a component or a layer was in question, over all iterations.
#[derive(Clone, Copy, Default)]
pub(super) struct Frequency {
    pub(super) all: u64,
    pub(super) at_limit: u64,
}

/// The amounts of a batch. Columns have [`MAX_BATCH_YEARS`] entries each.
pub(super) struct BatchAmounts {
    lines: usize,
    /// Whether a sum of a year may be above [`MAX_AMOUNT`].
    pub(super) may_exceed_maximum: bool,
    /// For each index, a column of its factors.
    factors: Vec<u64>,
    /// For each component, what is paid for each draw, less what has passed the treaties.
    paid: Vec<Vec<u64>>,
    /// For each component, a column of sums.
    pub(super) totals: Vec<Column>,
    /// The largest occurrence of each iteration.
    pub(super) largest: Column,
    /// For each treaty and line, a column of what is ceded.
    pub(super) ceded: Vec<u64>,
    /// For each treaty, a column of the recoveries that count for its annual layer.
    pub(super) recoveries: Vec<u64>,
    events: Vec<LayerEvent>,
    sums: Vec<u64>,
    /// Columns for sums that are not needed.
    unused: [Column; 2],
    /// For each component, its amounts and those at the limit.
    pub(super) components: Vec<Frequency>,
    /// For each treaty, the occurrences that reach its layer and its top.
    pub(super) layers: Vec<Frequency>,
}

/// An event that has to pass the treaties as a whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct LayerEvent {
    /// Iteration and event: those of an iteration follow one another.
    key: u64,
    kind: u32,
    /// Position in the components' lists.
    at: u32,
}

impl BatchAmounts {
    pub(super) fn new(portfolio: &PreparedPortfolio<'_>) -> Self {
        let lines = portfolio.program.lines as usize;
        let (components, treaties) = (portfolio.components.len(), portfolio.program.treaties.len());
        Self {
            lines,
            may_exceed_maximum: false,
            factors: vec![0; portfolio.program.indices.len() * MAX_BATCH_YEARS],
            paid: vec![Vec::new(); components],
            totals: vec![[0; MAX_BATCH_YEARS]; components],
            largest: [0; MAX_BATCH_YEARS],
            ceded: vec![0; treaties * lines * MAX_BATCH_YEARS],
            recoveries: vec![0; treaties * MAX_BATCH_YEARS],
            events: Vec::new(),
            sums: Vec::new(),
            unused: [[0; MAX_BATCH_YEARS]; 2],
            components: vec![Frequency::default(); components],
            layers: vec![Frequency::default(); treaties],
        }
    }

    /// Computes the amounts of a batch. Returns false, and has changed nothing that lasts, if sums
    /// of a year may saturate.
    pub(super) fn compute(
        &mut self,
        instructions: InstructionSet,
        portfolio: &PreparedPortfolio<'_>,
        batch: &EventBatch,
    ) -> bool {
        self.look_up_factors(instructions, portfolio, batch);
        let mut capped = [0; forge_contract::program::MAX_COMPONENTS];
        let mut most = 0;
        for ((at, path), paid) in (0..).zip(&portfolio.components).zip(&mut self.paid) {
            let largest;
            (largest, capped[at]) = pay_policies(instructions, path, &batch.lists[at], &self.factors, paid);
            most = most.max(largest);
        }
        let bound = u128::from(most) * u128::from(batch.most_amounts);
        if bound >= u128::from(MAX_EXACT_SUM) {
            return false;
        }
        self.may_exceed_maximum = bound > u128::from(MAX_AMOUNT);
        for ((frequency, capped), paid) in self.components.iter_mut().zip(capped).zip(&self.paid) {
            frequency.all += paid.len() as u64;
            frequency.at_limit += capped;
        }
        self.totals.fill([0; MAX_BATCH_YEARS]);
        self.largest.fill(0);
        self.ceded.fill(0);
        self.recoveries.fill(0);
        for kinds in &portfolio.kinds_by_layers {
            self.events.clear();
            for &number in kinds {
                self.sum_events(number as u32, &portfolio.kinds[number], batch);
            }
            if kinds.len() > 1 {
                self.events.sort_unstable();
            }
            for at in 0..self.events.len() {
                self.pass_treaties(portfolio, self.events[at]);
            }
        }
        for (at, path) in portfolio.components.iter().enumerate() {
            if !path.quota_shares.is_empty() {
                self.cede_quota_shares(path, at, batch.lists[at].used_keys());
            }
        }
        true
    }

    /// Computes the factors of the indices.
    fn look_up_factors(
        &mut self,
        instructions: InstructionSet,
        portfolio: &PreparedPortfolio<'_>,
        batch: &EventBatch,
    ) {
        let columns = batch.index_draws.chunks(MAX_BATCH_YEARS).zip(self.factors.chunks_mut(MAX_BATCH_YEARS));
        for (index, (draws, factors)) in portfolio.program.indices.iter().zip(columns) {
            match index {
                AmountTable::Quantiles { segment_bits, segments } => {
                    instructions.look_up(segments, *segment_bits, draws, factors);
                }
                table => {
                    factors.iter_mut().zip(draws).for_each(|(f, &draw)| *f = amount_in_table(table, draw))
                }
            }
        }
    }

    /// Adds the amounts of one kind of event, and collects those that have to pass the treaties as
    /// a whole.
    fn sum_events(&mut self, number: u32, kind: &EventKind, batch: &EventBatch) {
        let first = kind.components.start;
        let keys = batch.lists[first].used_keys();
        let sums = if kind.components.len() == 1 {
            &self.paid[first]
        } else {
            self.sums.clear();
            self.sums.resize(keys.len(), 0);
            for at in kind.components.clone() {
                let column = &mut self.totals[at];
                for ((sum, &amount), &key) in self.sums.iter_mut().zip(&self.paid[at]).zip(keys) {
                    *sum += amount;
                    column[year_of(key)] += amount;
                }
            }
            &self.sums
        };
        let [unused_total, unused_largest] = &mut self.unused;
        let total = if kind.components.len() == 1 { &mut self.totals[first] } else { unused_total };
        let largest = if kind.is_occurrence { &mut self.largest } else { unused_largest };
        for ((at, &sum), &key) in (0..).zip(sums).zip(keys) {
            let year = year_of(key);
            total[year] = sum.wrapping_add(total[year]);
            largest[year] = sum.max(largest[year]);
            if sum > kind.apart_up_to {
                self.events.push(LayerEvent { key, kind: number, at });
            }
        }
    }

    /// Cedes the quota shares of a component's amounts.
    fn cede_quota_shares(&mut self, path: &ComponentPath<'_>, at: usize, keys: &[u64]) {
        let line = path.component.line as usize;
        let lines = self.lines;
        let column_of = |share: &QuotaShare| (share.treaty * lines + line) * MAX_BATCH_YEARS;
        if let [step] = &path.quota_shares[..]
            && let [share] = &step[..]
        {
            let column = &mut self.ceded[column_of(share)..][..MAX_BATCH_YEARS];
            for (amount, key) in self.paid[at].iter().zip(keys) {
                column[year_of(*key)] += share.cession.of(*amount).min(share.event_limit);
            }
            return;
        }
        for (amount, key) in self.paid[at].iter_mut().zip(keys) {
            for step in &path.quota_shares {
                let subject = *amount;
                for share in step {
                    let payment = share.cession.of(subject).min(share.event_limit).min(*amount);
                    *amount -= payment;
                    self.ceded[column_of(share) + year_of(*key)] += payment;
                }
            }
        }
    }

    /// Passes an event through the treaties (docs/determinism.md, section 7.3).
    fn pass_treaties(&mut self, portfolio: &PreparedPortfolio<'_>, event: LayerEvent) {
        let kind = &portfolio.kinds[event.kind as usize];
        let year = year_of(event.key);
        let mut amounts = [0; MAX_LINES];
        for at in kind.components.clone() {
            let line = portfolio.components[at].component.line as usize;
            amounts[line] += std::mem::take(&mut self.paid[at][event.at as usize]);
        }
        for step in &kind.steps {
            let subject = amounts;
            for &at in step {
                let treaty = &portfolio.program.treaties[at];
                let lines = IndexSet(treaty.lines.0 & kind.lines.0);
                let covered = sum_of(&subject, lines);
                let recoveries = &mut self.recoveries[at * MAX_BATCH_YEARS + year];
                let payment = match &treaty.terms {
                    TreatyTerms::QuotaShare { cession, event_limit } => cession.of(covered).min(*event_limit),
                    TreatyTerms::OccurrenceXl(layer) => {
                        recover(layer, covered, recoveries, &mut self.layers[at])
                    }
                    TreatyTerms::AggregateXl { .. } => 0,
                };
                let columns = &mut self.ceded[at * self.lines * MAX_BATCH_YEARS..];
                let taken = cede(&mut amounts, lines, payment, |line, part| {
                    columns[line * MAX_BATCH_YEARS + year] += part;
                });
                if taken < payment {
                    take_back(treaty, recoveries, payment - taken);
                }
            }
        }
    }
}

/// Computes what a component's policies pay for its draws. Returns a bound on the amounts, and how
/// many are at the limit.
fn pay_policies(
    instructions: InstructionSet,
    path: &ComponentPath<'_>,
    list: &DrawList,
    factors: &[u64],
    paid: &mut Vec<u64>,
) -> (u64, u64) {
    let component = path.component;
    match &component.amounts {
        AmountTable::Quantiles { segment_bits, segments } => {
            // The list has room for a vector behind its last draw.
            let padded = list.length.next_multiple_of(LIST_PADDING);
            paid.resize(padded, 0);
            instructions.look_up(segments, *segment_bits, &list.draws[..padded], paid);
            paid.truncate(list.length);
        }
        table => {
            paid.clear();
            paid.extend(list.draws[..list.length].iter().map(|&draw| amount_in_table(table, draw)));
        }
    }
    if let Some(index) = component.index {
        let factors = &factors[index as usize * MAX_BATCH_YEARS..][..MAX_BATCH_YEARS];
        for (amount, key) in paid.iter_mut().zip(list.used_keys()) {
            let product = u128::from((*amount).min(MAX_AMOUNT)) * u128::from(factors[year_of(*key)]);
            *amount = (product >> INDEX_FRACTION_BITS).min(MAX_AMOUNT.into()) as u64;
        }
    }
    let terms = component.terms;
    let (largest, at_limit) = instructions.limit(&terms, paid);
    if terms.share != Proportion::ONE {
        paid.iter_mut().for_each(|amount| *amount = terms.share.of(*amount));
    }
    (largest, at_limit)
}

/// The lines of a set, ascending.
fn lines_of(IndexSet(mut set): IndexSet) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let line = (set != 0).then(|| set.trailing_zeros() as usize % MAX_LINES);
        set &= set.wrapping_sub(1);
        line
    })
}

fn sum_of(amounts: &[u64; MAX_LINES], lines: IndexSet) -> u64 {
    lines_of(lines).map(|line| amounts[line]).sum()
}

/// What a layer pays for an occurrence. `recoveries` are those of the year so far.
fn recover(layer: &OccurrenceLayer, covered: u64, recoveries: &mut u64, frequency: &mut Frequency) -> u64 {
    let part = layer.layer.part_of(layer.cession.of(covered));
    if part == 0 {
        return 0;
    }
    frequency.all += 1;
    frequency.at_limit += u64::from(part == layer.layer.limit);
    let before = layer.placed.of(layer.paid(*recoveries));
    *recoveries = (*recoveries + part).min(MAX_EXACT_SUM);
    layer.placed.of(layer.paid(*recoveries)) - before
}

/// Takes back the part of a payment that was cut.
fn take_back(treaty: &Treaty, recoveries: &mut u64, cut: u64) {
    if let TreatyTerms::OccurrenceXl(layer) = &treaty.terms {
        let paid = layer.placed.of(layer.paid(*recoveries)) - cut;
        *recoveries = layer.annual.attachment + layer.placed.whole_of(paid);
    }
}

/// Takes a payment from the covered lines, all below [`MAX_LINES`], in proportion to their amounts,
/// no more than they have, and returns it. `add` receives each line's part.
pub(super) fn cede(
    amounts: &mut [u64; MAX_LINES],
    lines: IndexSet,
    payment: u64,
    mut add: impl FnMut(usize, u64),
) -> u64 {
    if payment == 0 {
        return 0;
    }
    let total = sum_of(amounts, lines);
    let payment = payment.min(total);
    if payment == 0 {
        return 0;
    }
    let (mut sum, mut taken) = (0, 0);
    for line in lines_of(lines) {
        let amount = &mut amounts[line];
        sum += *amount;
        let due = if sum == total {
            payment
        } else {
            (u128::from(payment) * u128::from(sum) / u128::from(total)) as u64
        };
        *amount -= due - taken;
        add(line, due - taken);
        taken = due;
    }
    payment
}
