//! Passes the events that a layer may pay for through the treaties (docs/determinism.md, section
//! 7.3). A treaty sees the events of an iteration in their order, so events of one group may pass
//! it together before they pass the next one.

use forge_contract::{
    program::MAX_LINES,
    treaty::{IndexSet, OccurrenceLayer, Proportion, Treaty, TreatyTerms},
};

use super::{
    amounts::{BatchAmounts, Frequency, MAX_EXACT_SUM},
    model::PreparedPortfolio,
};

/// Once so many events wait at the end of a vector, they pass the treaties.
pub(super) const MAX_WAITING_EVENTS: usize = 256;
/// Most events that pass the treaties together.
const MAX_PASSING: usize = 64;

/// An event that has to pass the treaties as a whole.
#[derive(Clone, Copy)]
pub(super) struct LayerEvent {
    /// Place of its iteration in the batch.
    pub(super) year: u32,
    pub(super) kind: u32,
}

/// Events of one or several groups, in the order of every iteration.
#[derive(Clone, Default)]
pub(super) struct LayerEvents {
    pub(super) all: Vec<LayerEvent>,
    /// The amounts of the events by component.
    pub(super) amounts: Vec<u64>,
}

impl LayerEvents {
    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.amounts.clear();
    }
}

/// Events of one group that pass the treaties together: all of them the first treaty, then the
/// second one, and so on. So a treaty's terms are read once.
pub(super) struct PassingEvents {
    number: usize,
    years: [usize; MAX_PASSING],
    lines: [IndexSet; MAX_PASSING],
    /// What earlier treaties have left, by line.
    amounts: [[u64; MAX_LINES]; MAX_PASSING],
    /// For each treaty of a step, what it covers.
    covered: Vec<[u64; MAX_PASSING]>,
}

impl PassingEvents {
    pub(super) fn new() -> Self {
        Self {
            number: 0,
            years: [0; MAX_PASSING],
            lines: [IndexSet(0); MAX_PASSING],
            amounts: [[0; MAX_LINES]; MAX_PASSING],
            covered: Vec::new(),
        }
    }

    /// Takes events of one group from the front, and returns the group and how many amounts they
    /// have.
    fn take(
        &mut self,
        portfolio: &PreparedPortfolio<'_>,
        events: &[LayerEvent],
        amounts: &[u64],
    ) -> (usize, usize) {
        let group = portfolio.kinds[events[0].kind as usize].group;
        let mut first = 0;
        self.number = 0;
        for event in &events[..events.len().min(MAX_PASSING)] {
            let kind = &portfolio.kinds[event.kind as usize];
            if kind.group != group {
                break;
            }
            (self.years[self.number], self.lines[self.number]) = (event.year as usize, kind.lines);
            let of_lines = &mut self.amounts[self.number];
            *of_lines = [0; MAX_LINES];
            for path in &portfolio.components[kind.components.clone()] {
                of_lines[path.line % MAX_LINES] += amounts[first];
                first += 1;
            }
            self.number += 1;
        }
        (group, first)
    }

    /// Computes what the treaties of a step cover of every event.
    fn cover(&mut self, treaties: &[Treaty], step: &[usize]) {
        self.covered.resize(step.len().max(self.covered.len()), [0; MAX_PASSING]);
        for (covered, &at) in self.covered.iter_mut().zip(step) {
            for (event, sum) in covered.iter_mut().enumerate().take(self.number) {
                let lines = IndexSet(treaties[at].lines.0 & self.lines[event].0);
                *sum = sum_of(&self.amounts[event], lines);
            }
        }
    }
}

impl BatchAmounts {
    /// How many events wait for passing the treaties.
    pub(super) fn waiting_events(&self) -> usize {
        self.events.iter().map(|events| events.all.len()).sum()
    }

    /// Passes the collected events through the treaties.
    pub(super) fn pass_events(&mut self, portfolio: &PreparedPortfolio<'_>) {
        for list in 0..self.events.len() {
            let mut events = std::mem::take(&mut self.events[list]);
            let (mut rest, mut amounts) = (&events.all[..], &events.amounts[..]);
            while !rest.is_empty() {
                let (group, length) = self.passing.take(portfolio, rest, amounts);
                (rest, amounts) = (&rest[self.passing.number..], &amounts[length..]);
                for step in &portfolio.groups[group].steps {
                    self.passing.cover(&portfolio.program.treaties, step);
                    for (number, &at) in step.iter().enumerate() {
                        self.pass_treaty(portfolio, at, number);
                    }
                }
            }
            events.clear();
            self.events[list] = events;
        }
    }

    /// Cedes what a treaty pays for the passing events; `number` is its number in the step.
    fn pass_treaty(&mut self, portfolio: &PreparedPortfolio<'_>, at: usize, number: usize) {
        let treaty = &portfolio.program.treaties[at];
        let (ceded, columns) = (portfolio.ceded_lines[at], &mut self.ceded);
        let passing = &mut self.passing;
        for event in 0..passing.number {
            let (year, covered) = (passing.years[event], passing.covered[number][event]);
            let recoveries = &mut self.recoveries[at][year];
            let payment = match &treaty.terms {
                TreatyTerms::QuotaShare { cession, event_limit } => cession.of(covered).min(*event_limit),
                TreatyTerms::OccurrenceXl(layer) => recover(layer, covered, recoveries, &mut self.layers[at]),
                TreatyTerms::AggregateXl { .. } => 0,
            };
            let lines = IndexSet(treaty.lines.0 & passing.lines[event].0);
            let taken = cede(&mut passing.amounts[event], lines, payment, |line, part| {
                columns[ceded.column_of(line)][year] += part;
            });
            if taken < payment {
                take_back(treaty, recoveries, payment - taken);
            }
        }
    }
}

/// Takes the first line out of a set that is not empty.
#[inline]
fn take_first(set: &mut u32) -> usize {
    let line = set.trailing_zeros() as usize % MAX_LINES;
    *set &= set.wrapping_sub(1);
    line
}

#[inline]
fn sum_of(amounts: &[u64; MAX_LINES], IndexSet(mut lines): IndexSet) -> u64 {
    let mut sum = 0;
    while lines != 0 {
        sum += amounts[take_first(&mut lines)];
    }
    sum
}

/// What a layer pays for an occurrence. `recoveries` are those of the year so far.
#[inline]
fn recover(layer: &OccurrenceLayer, covered: u64, recoveries: &mut u64, frequency: &mut Frequency) -> u64 {
    let part = layer.layer.part_of(share_of(layer.cession, covered));
    if part == 0 {
        return 0;
    }
    frequency.all += 1;
    frequency.at_limit += u64::from(part == layer.layer.limit);
    let before = share_of(layer.placed, layer.paid(*recoveries));
    *recoveries = (*recoveries + part).min(MAX_EXACT_SUM);
    share_of(layer.placed, layer.paid(*recoveries)) - before
}

/// [`Proportion::of`], fast for the whole.
#[inline]
fn share_of(proportion: Proportion, amount: u64) -> u64 {
    if proportion == Proportion::ONE { amount } else { proportion.of(amount) }
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
#[inline]
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
    let IndexSet(mut remaining) = lines;
    while remaining != 0 {
        let line = take_first(&mut remaining);
        let amount = &mut amounts[line];
        sum += *amount;
        let due = if sum == total { payment } else { proportional(payment, sum, total) };
        *amount -= due - taken;
        add(line, due - taken);
        taken = due;
    }
    payment
}

/// ⌊payment · part / total⌋. 64 bits are enough for most amounts, and divide several times as fast
/// as 128.
#[inline]
fn proportional(payment: u64, part: u64, total: u64) -> u64 {
    match payment.checked_mul(part) {
        Some(product) => product / total,
        None => (u128::from(payment) * u128::from(part) / u128::from(total)) as u64,
    }
}
