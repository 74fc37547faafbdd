//! Passes the events that a layer may pay for through the treaties, one after another
//! (docs/determinism.md, section 7.3).

use forge_contract::{
    program::MAX_LINES,
    treaty::{IndexSet, OccurrenceLayer, Proportion, Treaty, TreatyTerms},
};

use super::{
    amounts::{BatchAmounts, Frequency, MAX_EXACT_SUM},
    model::PreparedPortfolio,
};

impl BatchAmounts {
    /// Passes the collected events through the treaties.
    pub(super) fn pass_events(&mut self, portfolio: &PreparedPortfolio<'_>) {
        let mut first = 0;
        for at in 0..self.events.len() {
            let event = self.events[at];
            let kind = &portfolio.kinds[event.kind as usize];
            let year = event.year as usize;
            let mut amounts = [0; MAX_LINES];
            for (path, amount) in
                portfolio.components[kind.components.clone()].iter().zip(&self.event_amounts[first..])
            {
                amounts[path.line] += amount;
            }
            first += kind.components.len();
            self.raise_to_event(&kind.subjects[0], year, |lines| sum_of(&amounts, lines));
            for (step, subjects) in kind.steps.iter().zip(&kind.subjects[1..]) {
                let subject = amounts;
                for &at in step {
                    let treaty = &portfolio.program.treaties[at];
                    let lines = IndexSet(treaty.lines.0 & kind.lines.0);
                    let covered = sum_of(&subject, lines);
                    let recoveries = &mut self.recoveries[at][year];
                    let payment = match &treaty.terms {
                        TreatyTerms::QuotaShare { cession, event_limit } => {
                            cession.of(covered).min(*event_limit)
                        }
                        TreatyTerms::OccurrenceXl(layer) => {
                            recover(layer, covered, recoveries, &mut self.layers[at])
                        }
                        TreatyTerms::AggregateXl { .. } => 0,
                    };
                    let (ceded, columns) = (portfolio.ceded_lines[at], &mut self.ceded);
                    let taken = cede(&mut amounts, lines, payment, |line, part| {
                        columns[ceded.column_of(line)][year] += part;
                    });
                    if taken < payment {
                        take_back(treaty, recoveries, payment - taken);
                    }
                }
                self.raise_to_event(subjects, year, |lines| sum_of(&amounts, lines));
            }
        }
        self.events.clear();
        self.event_amounts.clear();
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
