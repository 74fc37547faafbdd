//! Passes the amounts of one year through its reinsurance treaties, exact to the minor unit.
//!
//! A [`Year`] takes the occurrences of the year one after another, each as an amount for every
//! line, and passes them through the treaties in the order of their steps. Net is gross minus
//! ceded, always, so no minor unit is lost or made.

use forge_contract::program::MAX_AMOUNT;
pub use forge_contract::treaty::{IndexSet, Layer, OccurrenceLayer, Proportion, Treaty, TreatyTerms};

/// A year in progress: what every treaty has paid so far, and the amounts of every line.
#[derive(Debug, Clone)]
pub struct Year<'a> {
    terms: &'a [Treaty],
    /// The distinct steps, ascending.
    steps: &'a [u32],
    lines: usize,
    treaties: Vec<TreatyYear>,
    /// For each line, its gross amount; then for each line, its net amount after each step.
    stages: Vec<u64>,
}

/// What one treaty does in a year.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TreatyYear {
    /// Amount ceded to the placed part.
    pub ceded: u64,
    /// What the whole layer paid for occurrences: the base of its reinstatements.
    pub paid: u64,
    /// Occurrences that reach the attachment of a layer.
    pub attached: u64,
    /// Occurrences that reach the top of a layer.
    pub exhausted: u64,
    /// Whether the limit of the year is used up.
    pub is_used_up: bool,
    /// Sum of the layer's part of every occurrence, less what was cut.
    recoveries: u64,
}

/// Receives what treaties take from the lines of a year, and what they leave, in the order in which
/// they pay.
pub trait CessionObserver {
    /// This many steps leave these amounts, one for each line, of the occurrence that was added
    /// last. Before all steps they are its gross amounts.
    fn add_left(&mut self, _steps: usize, _amounts: &[u64]) {}
    /// A treaty takes an amount, which may be 0, from a line: of the occurrence that was added
    /// last, or of the year while it is closed.
    fn add_cession(&mut self, _treaty: usize, _line: usize, _amount: u64) {}
}

/// Ignores everything.
impl CessionObserver for () {}

/// Sums of a year saturate at 2^62, far above [`MAX_AMOUNT`], where the recorded amounts saturate.
/// Sums in use stay exact: the terms of a treaty are at most [`MAX_AMOUNT`].
const MAX_SUM: u64 = 1 << 62;

/// The sum of two amounts, saturated.
fn plus(a: u64, b: u64) -> u64 {
    (a + b).min(MAX_SUM)
}

fn add_to(sums: &mut [u64], amounts: &[u64]) {
    sums.iter_mut().zip(amounts).for_each(|(sum, &amount)| *sum = plus(*sum, amount));
}

/// The sum of the amounts of some lines, saturated at 2^62.
pub fn sum_of(amounts: &[u64], lines: IndexSet) -> u64 {
    let covered = amounts.iter().enumerate().filter(|(line, _)| lines.contains(*line));
    covered.fold(0, |sum, (_, &amount)| plus(sum, amount))
}

/// Takes `payment` from the covered lines in proportion to their amounts, and returns it; no more
/// than the lines have. Line by line, the parts taken so far are the exact proportion, rounded
/// down, so the parts add up to the payment. `on_part` receives each line and its part.
fn cede(amounts: &mut [u64], lines: IndexSet, payment: u64, mut on_part: impl FnMut(usize, u64)) -> u64 {
    let total: u128 = covered(amounts, lines).map(|(_, amount)| u128::from(*amount)).sum();
    let payment = u128::from(payment).min(total);
    if payment == 0 {
        return 0;
    }
    let (mut sum, mut taken) = (0, 0);
    for (line, amount) in covered(amounts, lines) {
        sum += u128::from(*amount);
        let due = payment * sum / total;
        let part = (due - taken) as u64;
        *amount -= part;
        taken = due;
        on_part(line, part);
    }
    payment as u64
}

fn covered(amounts: &mut [u64], lines: IndexSet) -> impl Iterator<Item = (usize, &mut u64)> {
    amounts.iter_mut().enumerate().filter(move |(line, _)| lines.contains(*line))
}

impl<'a> Year<'a> {
    /// A year without occurrences. `steps` are the distinct steps of the treaties, ascending.
    pub fn new(terms: &'a [Treaty], steps: &'a [u32], lines: usize) -> Self {
        let treaties = vec![TreatyYear::default(); terms.len()];
        Self { terms, steps, lines, treaties, stages: vec![0; lines * (steps.len() + 1)] }
    }

    /// Adds an occurrence of `group`, with the amount of every line, and passes it through the
    /// treaties that pay by occurrence. `amounts` becomes what is left after the last step.
    pub fn add_occurrence(&mut self, group: usize, amounts: &mut [u64], observer: &mut impl CessionObserver) {
        self.add(group, amounts, true, observer);
    }

    /// Adds amounts of `group` that are totals of the year: only quota shares without an event
    /// limit apply to them, because no occurrence is known.
    pub fn add_annual(&mut self, group: usize, amounts: &mut [u64], observer: &mut impl CessionObserver) {
        self.add(group, amounts, false, observer);
    }

    fn add(
        &mut self,
        group: usize,
        amounts: &mut [u64],
        is_occurrence: bool,
        observer: &mut impl CessionObserver,
    ) {
        add_to(&mut self.stages[..self.lines], amounts);
        observer.add_left(0, amounts);
        for (stage, &step) in self.steps.iter().enumerate() {
            let subject = amounts.to_vec();
            for (at, (terms, treaty)) in self.terms.iter().zip(&mut self.treaties).enumerate() {
                if terms.step == step && terms.groups.contains(group) {
                    let payment = treaty.pay(&terms.terms, sum_of(&subject, terms.lines), is_occurrence);
                    let taken = cede(amounts, terms.lines, payment, |line, part| {
                        observer.add_cession(at, line, part);
                    });
                    treaty.ceded = plus(treaty.ceded, taken);
                    if taken < payment {
                        treaty.take_back(&terms.terms, payment - taken);
                    }
                }
            }
            add_to(&mut self.stages[(stage + 1) * self.lines..][..self.lines], amounts);
            observer.add_left(stage + 1, amounts);
        }
    }

    /// Ends the year: applies the treaties on the year's amounts.
    pub fn close(mut self, observer: &mut impl CessionObserver) -> ClosedYear {
        for (stage, &step) in self.steps.iter().enumerate() {
            let (before, after) = self.stages.split_at_mut((stage + 1) * self.lines);
            let subject = &before[stage * self.lines..];
            let (net, later) = after.split_at_mut(self.lines);
            for (at, (terms, treaty)) in self.terms.iter().zip(&mut self.treaties).enumerate() {
                let TreatyTerms::AggregateXl { layer, placed } = &terms.terms else { continue };
                if terms.step != step {
                    continue;
                }
                let part = layer.part_of(sum_of(subject, terms.lines));
                treaty.is_used_up = part == layer.limit;
                let before = net.to_vec();
                treaty.ceded = cede(net, terms.lines, placed.of(part), |line, part| {
                    observer.add_cession(at, line, part);
                });
                // Later steps have passed the occurrences on without this cession.
                for stage in later.chunks_mut(self.lines) {
                    for (line, left) in stage.iter_mut().enumerate() {
                        *left -= before[line] - net[line];
                    }
                }
            }
        }
        for (terms, treaty) in self.terms.iter().zip(&mut self.treaties) {
            if let TreatyTerms::OccurrenceXl(layer) = &terms.terms {
                treaty.paid = layer.paid(treaty.recoveries);
                treaty.is_used_up = treaty.paid == layer.annual.limit;
            }
        }
        ClosedYear { lines: self.lines, treaties: self.treaties, stages: self.stages }
    }
}

impl TreatyYear {
    /// What the treaty pays for an amount of an occurrence, or of the year.
    fn pay(&mut self, terms: &TreatyTerms, amount: u64, is_occurrence: bool) -> u64 {
        match terms {
            TreatyTerms::QuotaShare { cession, event_limit }
                if is_occurrence || *event_limit == MAX_AMOUNT =>
            {
                cession.of(amount).min(*event_limit)
            }
            TreatyTerms::OccurrenceXl(layer) if is_occurrence => {
                let part = layer.layer.part_of(layer.cession.of(amount));
                self.attached += u64::from(part > 0);
                self.exhausted += u64::from(part == layer.layer.limit);
                let before = self.recoveries;
                self.recoveries = plus(before, part);
                layer.placed.of(layer.paid(self.recoveries)) - layer.placed.of(layer.paid(before))
            }
            _ => 0,
        }
    }

    /// Takes back the part of a payment that was cut, because treaties of the same step had taken
    /// what it applied to: it uses up no limit of the year, and reinstates nothing.
    fn take_back(&mut self, terms: &TreatyTerms, cut: u64) {
        if let TreatyTerms::OccurrenceXl(layer) = terms {
            let paid = layer.placed.of(layer.paid(self.recoveries)) - cut;
            self.recoveries = layer.annual.attachment + layer.placed.whole_of(paid);
        }
    }
}

/// A year after its treaties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedYear {
    /// What each treaty did.
    pub treaties: Vec<TreatyYear>,
    lines: usize,
    stages: Vec<u64>,
}

impl ClosedYear {
    /// For each line, its net amount after this many steps; after none, its gross amount.
    pub fn after_steps(&self, steps: usize) -> &[u64] {
        &self.stages[steps * self.lines..][..self.lines]
    }

    /// For each line, its net amount after the last step.
    pub fn net(&self) -> &[u64] {
        &self.stages[self.stages.len() - self.lines..]
    }
}

#[cfg(test)]
mod tests;
