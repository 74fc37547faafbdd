//! Reinsurance treaties on the amounts of one year, exact to the minor unit.
//!
//! A [`Year`] takes the occurrences of the year one after another, each as an amount for every
//! line, and passes them through the treaties in the order of their steps. Net is gross minus
//! ceded, always, so no minor unit is lost or made. All amounts are whole minor units up to
//! [`MAX_AMOUNT`].
//!
//! Terms follow the market's usage: a layer "`limit` xs `attachment`", an annual aggregate
//! deductible (AAD) and limit (AAL), reinstatements that are charged pro rata as to amount (Sundt
//! 1991, "On excess of loss reinsurance with reinstatements", Mitteilungen der SVVM).

use ethnum::U256;
use forge_contract::program::MAX_AMOUNT;

/// Parts of a whole in a [`Proportion`].
const MILLION: u64 = 1_000_000;

/// A fraction with six decimals: a number of millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proportion(pub u32);

impl Proportion {
    /// The whole.
    pub const ONE: Self = Self(MILLION as u32);

    /// This fraction of an amount, at most 1 of it, rounded to the nearest minor unit (halves up).
    pub fn of(self, amount: u64) -> u64 {
        let parts = u64::from(self.0);
        // The quotient and the remainder separately, so that 64 bits are enough.
        amount / MILLION * parts + (amount % MILLION * parts + MILLION / 2) / MILLION
    }
}

/// A set of lines, or of groups: bit i is the i-th one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexSet(pub u32);

impl IndexSet {
    /// Every index.
    pub const ALL: Self = Self(u32::MAX);

    /// Whether the set contains `index`, which is below 32.
    pub fn contains(self, index: usize) -> bool {
        self.0 >> index & 1 == 1
    }
}

/// A treaty: the part of the lines' amounts that it covers, and what it pays for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Treaty {
    /// Inuring step. Treaties of a step see the amounts that the steps before have left.
    pub step: u32,
    /// The lines that the treaty covers.
    pub lines: IndexSet,
    /// The groups whose occurrences the treaty covers. An [`Terms::AggregateXl`] covers all.
    pub groups: IndexSet,
    /// What the treaty pays.
    pub terms: Terms,
}

/// What a treaty pays for its subject, the sum of the covered lines' amounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Terms {
    /// The same fraction of every occurrence.
    QuotaShare {
        /// Ceded fraction.
        cession: Proportion,
        /// Most that is ceded for one occurrence; [`MAX_AMOUNT`] without a limit.
        event_limit: u64,
    },
    /// The part of every occurrence within a layer.
    OccurrenceXl(OccurrenceLayer),
    /// The part of the year's amount within a layer (stop loss).
    AggregateXl {
        /// The layer.
        layer: Layer,
        /// Proportion of the layer that reinsurers have taken.
        placed: Proportion,
    },
}

/// The layer "`limit` xs `attachment`".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Largest payment; [`MAX_AMOUNT`] without a limit.
    pub limit: u64,
    /// Amount above which the layer pays.
    pub attachment: u64,
}

impl Layer {
    /// The part of an amount within the layer.
    pub fn part_of(self, amount: u64) -> u64 {
        amount.saturating_sub(self.attachment).min(self.limit)
    }
}

/// A layer on every occurrence, with the annual terms of its recoveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OccurrenceLayer {
    /// Proportion of the subject that the layer applies to, taken before the attachment.
    pub cession: Proportion,
    /// The layer of one occurrence.
    pub layer: Layer,
    /// The layer of the year's recoveries: the annual aggregate deductible is its attachment, and
    /// its limit is the smaller of the annual aggregate limit and the capacity, which is the limit
    /// of an occurrence times one more than the number of reinstatements.
    pub annual: Layer,
    /// Proportion of the layer that reinsurers have taken.
    pub placed: Proportion,
    /// Price of each reinstatement, as a fraction of the premium.
    pub reinstatements: Vec<Proportion>,
    /// Premium of the whole layer; 0 where none is stated.
    pub premium: u64,
}

impl OccurrenceLayer {
    /// What the layer pays, of the whole layer, for a year with these recoveries of occurrences.
    fn paid(&self, recoveries: u64) -> u64 {
        self.annual.part_of(recoveries)
    }

    /// The amounts reinstated, in the order of the reinstatements, of the whole layer, when it has
    /// paid `paid`. The limit of an occurrence that is used for the k-th time is reinstated k-th.
    pub fn reinstated(&self, paid: u64) -> impl Iterator<Item = u64> {
        let limit = self.layer.limit;
        (0..self.reinstatements.len() as u64).map(move |k| paid.saturating_sub(k * limit).min(limit))
    }

    /// The reinstatement premium of the placed part, when the whole layer has paid `paid`: pro rata
    /// as to amount, rounded once to the nearest minor unit (halves up), then placed.
    pub fn reinstatement_premium(&self, paid: u64) -> u64 {
        let weighted: U256 = self
            .reinstated(paid)
            .zip(&self.reinstatements)
            .map(|(amount, price)| U256::from(amount) * U256::from(price.0))
            .sum();
        let divisor = U256::from(self.layer.limit) * U256::from(MILLION);
        let rounded = (U256::from(self.premium) * weighted * 2 + divisor) / (divisor * 2);
        self.placed.of(rounded.min(U256::from(MAX_AMOUNT)).as_u64())
    }
}

/// A year in progress: what every treaty has recovered so far, and the amounts of every line.
#[derive(Debug, Clone)]
pub struct Year<'a> {
    treaties: &'a [Treaty],
    /// The distinct steps, ascending.
    steps: Vec<u32>,
    /// For each treaty, the sum of its layer's part of every occurrence.
    recoveries: Vec<u64>,
    /// For each treaty, the amount ceded.
    ceded: Vec<u64>,
    /// For each line, its gross amount, then its net amount after each step.
    lines: Vec<Vec<u64>>,
}

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

fn sum_of(amounts: &[u64], lines: IndexSet) -> u64 {
    let covered = amounts.iter().enumerate().filter(|(line, _)| lines.contains(*line));
    covered.fold(0, |sum, (_, &amount)| plus(sum, amount))
}

/// Takes `payment` from the covered lines in proportion to their amounts, and returns it; no more
/// than the lines have. Line by line, the parts taken so far are the exact proportion, rounded
/// down, so the parts add up to the payment.
fn cede(amounts: &mut [u64], lines: IndexSet, payment: u64) -> u64 {
    let total: u128 = covered(amounts, lines).map(|amount| u128::from(*amount)).sum();
    let payment = u128::from(payment).min(total);
    if payment == 0 {
        return 0;
    }
    let (mut sum, mut taken) = (0, 0);
    for amount in covered(amounts, lines) {
        sum += u128::from(*amount);
        let due = payment * sum / total;
        *amount -= (due - taken) as u64;
        taken = due;
    }
    payment as u64
}

fn covered(amounts: &mut [u64], lines: IndexSet) -> impl Iterator<Item = &mut u64> {
    amounts.iter_mut().enumerate().filter(move |(line, _)| lines.contains(*line)).map(|(_, amount)| amount)
}

impl<'a> Year<'a> {
    /// A year without occurrences.
    pub fn new(treaties: &'a [Treaty], lines: usize) -> Self {
        let mut steps: Vec<u32> = treaties.iter().map(|t| t.step).collect();
        steps.sort_unstable();
        steps.dedup();
        let stages = vec![vec![0; lines]; steps.len() + 1];
        Self {
            treaties,
            steps,
            recoveries: vec![0; treaties.len()],
            ceded: vec![0; treaties.len()],
            lines: stages,
        }
    }

    /// Adds an occurrence of `group`, with the amount of every line, and passes it through the
    /// treaties that pay by occurrence. `amounts` becomes what is left after the last step.
    pub fn add_occurrence(&mut self, group: usize, amounts: &mut [u64]) {
        self.add(group, amounts, true);
    }

    /// Adds amounts of `group` that are totals of the year: only quota shares without an event
    /// limit apply to them, because no occurrence is known.
    pub fn add_annual(&mut self, group: usize, amounts: &mut [u64]) {
        self.add(group, amounts, false);
    }

    fn add(&mut self, group: usize, amounts: &mut [u64], is_occurrence: bool) {
        add_to(&mut self.lines[0], amounts);
        for stage in 0..self.steps.len() {
            let subject = amounts.to_vec();
            for (index, treaty) in self.treaties.iter().enumerate() {
                if treaty.step != self.steps[stage] || !treaty.groups.contains(group) {
                    continue;
                }
                let amount = sum_of(&subject, treaty.lines);
                let payment = match &treaty.terms {
                    Terms::QuotaShare { cession, event_limit } if is_occurrence => {
                        cession.of(amount).min(*event_limit)
                    }
                    Terms::QuotaShare { cession, event_limit: MAX_AMOUNT } => cession.of(amount),
                    Terms::OccurrenceXl(layer) if is_occurrence => {
                        let before = self.recoveries[index];
                        let after = plus(before, layer.layer.part_of(layer.cession.of(amount)));
                        self.recoveries[index] = after;
                        layer.placed.of(layer.paid(after)) - layer.placed.of(layer.paid(before))
                    }
                    _ => 0,
                };
                self.ceded[index] = plus(self.ceded[index], cede(amounts, treaty.lines, payment));
            }
            add_to(&mut self.lines[stage + 1], amounts);
        }
    }

    /// Ends the year: applies the treaties on the year's amounts.
    pub fn close(mut self) -> ClosedYear {
        for stage in 0..self.steps.len() {
            let subject = self.lines[stage].clone();
            for (index, treaty) in self.treaties.iter().enumerate() {
                if treaty.step != self.steps[stage] {
                    continue;
                }
                if let Terms::AggregateXl { layer, placed } = &treaty.terms {
                    let payment = placed.of(layer.part_of(sum_of(&subject, treaty.lines)));
                    let before = self.lines[stage + 1].clone();
                    self.ceded[index] = cede(&mut self.lines[stage + 1], treaty.lines, payment);
                    // Later steps have passed the occurrences on without this cession.
                    let parts: Vec<u64> =
                        before.iter().zip(&self.lines[stage + 1]).map(|(b, a)| b - a).collect();
                    for later in &mut self.lines[stage + 2..] {
                        later.iter_mut().zip(&parts).for_each(|(net, part)| *net -= part);
                    }
                }
            }
        }
        let paid = |(treaty, &recoveries): (&Treaty, &u64)| match &treaty.terms {
            Terms::OccurrenceXl(layer) => layer.paid(recoveries),
            _ => 0,
        };
        let paid = self.treaties.iter().zip(&self.recoveries).map(paid).collect();
        ClosedYear { ceded: self.ceded, paid, lines: self.lines }
    }
}

/// A year after its treaties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedYear {
    /// For each treaty, the amount ceded to the placed part.
    pub ceded: Vec<u64>,
    /// For each treaty by occurrence, what the whole layer paid: the base of its reinstatements.
    pub paid: Vec<u64>,
    /// For each line, its gross amount, then its net amount after each step.
    pub lines: Vec<Vec<u64>>,
}

#[cfg(test)]
mod tests;
