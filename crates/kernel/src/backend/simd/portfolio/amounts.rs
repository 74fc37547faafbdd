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
    super::{super::scalar::amount_in_table, InstructionSet},
    draws::{EventBatch, EventKey, MAX_BATCH_YEARS},
    model::{ComponentPath, EventKind, Portfolio},
};

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
    /// For each component, what is paid for each draw, less what has passed the treaties.
    paid: Vec<Vec<u64>>,
    /// For each component, a column of sums.
    pub(super) totals: Vec<u64>,
    /// The largest occurrence of each iteration.
    pub(super) largest: Vec<u64>,
    /// For each treaty and line, a column of what is ceded.
    pub(super) ceded: Vec<u64>,
    /// For each treaty, a column of the recoveries that count for its annual layer.
    pub(super) recoveries: Vec<u64>,
    events: Vec<LayerEvent>,
    sums: Vec<u64>,
    /// For each component, its amounts and those at the limit.
    pub(super) components: Vec<Frequency>,
    /// For each treaty, the occurrences that reach its layer and its top.
    pub(super) layers: Vec<Frequency>,
}

/// An event that has to pass the treaties as a whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct LayerEvent {
    key: EventKey,
    kind: u32,
    /// Position in the components' lists.
    at: u32,
}

impl BatchAmounts {
    pub(super) fn new(portfolio: &Portfolio<'_>) -> Self {
        let lines = portfolio.program.lines as usize;
        let (components, treaties) = (portfolio.components.len(), portfolio.program.treaties.len());
        Self {
            lines,
            paid: vec![Vec::new(); components],
            totals: vec![0; components * MAX_BATCH_YEARS],
            largest: vec![0; MAX_BATCH_YEARS],
            ceded: vec![0; treaties * lines * MAX_BATCH_YEARS],
            recoveries: vec![0; treaties * MAX_BATCH_YEARS],
            events: Vec::new(),
            sums: Vec::new(),
            components: vec![Frequency::default(); components],
            layers: vec![Frequency::default(); treaties],
        }
    }

    /// Computes the amounts of a batch. Returns false, and has changed nothing that lasts, if sums
    /// of a year may saturate.
    pub(super) fn compute(
        &mut self,
        instructions: InstructionSet,
        portfolio: &Portfolio<'_>,
        batch: &mut EventBatch,
    ) -> bool {
        let mut capped = [0; forge_contract::program::MAX_COMPONENTS];
        let mut most = 0;
        for ((at, path), paid) in (0..).zip(&portfolio.components).zip(&mut self.paid) {
            capped[at] = pay_policies(instructions, path, at, batch, paid);
            most = paid.iter().fold(most, |most, &amount| amount.max(most));
        }
        if u128::from(most) * u128::from(batch.most_amounts) >= u128::from(MAX_EXACT_SUM) {
            return false;
        }
        for ((frequency, capped), paid) in self.components.iter_mut().zip(capped).zip(&self.paid) {
            frequency.all += paid.len() as u64;
            frequency.at_limit += capped;
        }
        for column in [&mut self.totals, &mut self.largest, &mut self.ceded, &mut self.recoveries] {
            column.fill(0);
        }
        for (number, kind) in (0..).zip(&portfolio.kinds) {
            self.sum_events(number, kind, batch);
        }
        self.events.sort_unstable();
        for event in std::mem::take(&mut self.events) {
            self.pass_treaties(portfolio, event);
        }
        for (at, path) in portfolio.components.iter().enumerate() {
            if !path.quota_shares.is_empty() {
                self.cede_quota_shares(path, at, &batch.lists[at].keys);
            }
        }
        true
    }

    /// Adds the amounts of one kind of event, and collects those that have to pass the treaties as
    /// a whole.
    fn sum_events(&mut self, number: u32, kind: &EventKind, batch: &EventBatch) {
        for at in kind.components.clone() {
            let column = &mut self.totals[at * MAX_BATCH_YEARS..][..MAX_BATCH_YEARS];
            for (&amount, key) in self.paid[at].iter().zip(&batch.lists[at].keys) {
                column[key.year()] += amount;
            }
        }
        let first = kind.components.start;
        let sums = if kind.components.len() == 1 {
            &self.paid[first]
        } else {
            self.sums.clone_from(&self.paid[first]);
            for other in &self.paid[first + 1..kind.components.end] {
                self.sums.iter_mut().zip(other).for_each(|(sum, amount)| *sum += amount);
            }
            &self.sums
        };
        let keys = &batch.lists[first].keys;
        if kind.is_occurrence {
            for (&sum, key) in sums.iter().zip(keys) {
                let largest = &mut self.largest[key.year()];
                *largest = sum.max(*largest);
            }
        }
        if kind.apart_up_to < MAX_EXACT_SUM {
            for ((at, &sum), &key) in (0..).zip(sums).zip(keys) {
                if sum > kind.apart_up_to {
                    self.events.push(LayerEvent { key, kind: number, at });
                }
            }
        }
    }

    /// Cedes the quota shares of a component's amounts.
    fn cede_quota_shares(&mut self, path: &ComponentPath<'_>, at: usize, keys: &[EventKey]) {
        let line = path.component.line as usize;
        for (amount, key) in self.paid[at].iter_mut().zip(keys) {
            for step in &path.quota_shares {
                let subject = *amount;
                for share in step {
                    let payment = share.cession.of(subject).min(share.event_limit).min(*amount);
                    *amount -= payment;
                    self.ceded[(share.treaty * self.lines + line) * MAX_BATCH_YEARS + key.year()] += payment;
                }
            }
        }
    }

    /// Passes an event through the treaties (docs/determinism.md, section 7.3).
    fn pass_treaties(&mut self, portfolio: &Portfolio<'_>, event: LayerEvent) {
        let kind = &portfolio.kinds[event.kind as usize];
        let year = event.key.year();
        let mut amounts = [0; MAX_LINES];
        for at in kind.components.clone() {
            let line = portfolio.components[at].component.line as usize;
            amounts[line] += std::mem::take(&mut self.paid[at][event.at as usize]);
        }
        for step in &kind.steps {
            let subject = amounts;
            for &at in step {
                let treaty = &portfolio.program.treaties[at];
                let covered = sum_of(&subject, treaty.lines);
                let recoveries = &mut self.recoveries[at * MAX_BATCH_YEARS + year];
                let payment = match &treaty.terms {
                    TreatyTerms::QuotaShare { cession, event_limit } => cession.of(covered).min(*event_limit),
                    TreatyTerms::OccurrenceXl(layer) => {
                        recover(layer, covered, recoveries, &mut self.layers[at])
                    }
                    TreatyTerms::AggregateXl { .. } => 0,
                };
                let columns = &mut self.ceded[at * self.lines * MAX_BATCH_YEARS..];
                let taken = cede(&mut amounts, treaty.lines, payment, |line, part| {
                    columns[line * MAX_BATCH_YEARS + year] += part;
                });
                if taken < payment {
                    take_back(treaty, recoveries, payment - taken);
                }
            }
        }
    }
}

/// Computes what a component's policies pay for its draws. Returns how many are at the limit.
fn pay_policies(
    instructions: InstructionSet,
    path: &ComponentPath<'_>,
    at: usize,
    batch: &mut EventBatch,
    paid: &mut Vec<u64>,
) -> u64 {
    let (component, list) = (path.component, &mut batch.lists[at]);
    let length = list.draws.len();
    match &component.amounts {
        AmountTable::Quantiles { segment_bits, segments } => {
            list.draws.resize(length.next_multiple_of(LIST_PADDING), 0);
            paid.resize(list.draws.len(), 0);
            instructions.look_up(segments, *segment_bits, &list.draws, paid);
            paid.truncate(length);
        }
        table => {
            paid.clear();
            paid.extend(list.draws.iter().map(|&draw| amount_in_table(table, draw)));
        }
    }
    if let Some(index) = component.index {
        let factors = &batch.factors[index as usize * MAX_BATCH_YEARS..][..MAX_BATCH_YEARS];
        for (amount, key) in paid.iter_mut().zip(&list.keys) {
            let product = u128::from((*amount).min(MAX_AMOUNT)) * u128::from(factors[key.year()]);
            *amount = (product >> INDEX_FRACTION_BITS).min(MAX_AMOUNT.into()) as u64;
        }
    }
    let terms = component.terms;
    let mut capped = 0;
    for amount in paid.iter_mut() {
        let limited = terms.limited((*amount).min(MAX_AMOUNT));
        capped += u64::from(limited == terms.limit);
        *amount = limited;
    }
    if terms.share != Proportion::ONE {
        paid.iter_mut().for_each(|amount| *amount = terms.share.of(*amount));
    }
    capped
}

fn sum_of(amounts: &[u64; MAX_LINES], lines: IndexSet) -> u64 {
    let covered = amounts.iter().enumerate().filter(|(line, _)| lines.contains(*line));
    covered.map(|(_, amount)| amount).sum()
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

/// Takes a payment from the covered lines in proportion to their amounts, no more than they have,
/// and returns it. `add` receives each line's part.
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
    for (line, amount) in amounts.iter_mut().enumerate() {
        if !lines.contains(line) || *amount == 0 {
            continue;
        }
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
