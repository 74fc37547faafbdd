//! Marks: amounts at which probability may accumulate, and whose iterations a result therefore
//! counts one by one (docs/determinism.md, section 8.2).
//!
//! They follow from the program alone. A mark that no iteration has costs a counter and nothing
//! else, so these rules may name too many amounts; the intervals of quantiles rely on none.

use std::collections::BTreeSet;

use crate::{
    amount::MAX_AMOUNT,
    program::{Component, Group, Occurrence, Program},
    result_details::Quantity,
    table::AmountTable,
    treaty::{IndexSet, OccurrenceLayer, Proportion, Treaty, TreatyTerms},
};

/// Largest multiple of an amount that is a mark.
const MAX_MULTIPLE: u64 = 16;
/// Largest number of marks of a program without details, which GPUs have room for.
pub const MAX_PLAIN_MARKS: usize = 18;
/// Largest number of marks of a distribution of a program with details.
const MAX_MARKS: usize = 64;
/// Largest number of amounts in a step table whose amounts are marks.
const MAX_STEP_ATOMS: usize = 16;

/// An amount that many occurrences may have, or that an annual group always has.
#[derive(Debug, Clone, Copy)]
struct Atom {
    amount: u64,
    group: usize,
    lines: IndexSet,
}

impl Program {
    /// The marks of the total and of the largest occurrence, ascending.
    pub fn marks(&self) -> Vec<u64> {
        let all = IndexSet::ALL;
        let last = self.steps().last().copied().unwrap_or(0);
        let least = self.base + sum_of(&self.fixed_amounts(all, last));
        let candidates = [least, self.cap].into_iter().chain(self.annual_attachments(last));
        let candidates = candidates.chain(amounts_of(&self.atoms(all, 0)));
        let candidates = candidates.chain(multiples(least, &amounts_of(&self.atoms(all, last))));
        let most = if self.details { MAX_MARKS } else { MAX_PLAIN_MARKS };
        first_marks(candidates.filter(|&amount| amount <= self.cap), most)
    }

    /// The marks of a quantity, ascending.
    pub fn marks_of(&self, quantity: Quantity) -> Vec<u64> {
        first_marks(self.candidates_of(quantity).into_iter(), MAX_MARKS)
    }

    /// The amounts that a quantity may often have, in the order of their importance.
    fn candidates_of(&self, quantity: Quantity) -> Vec<u64> {
        let lines_after = |lines, step| {
            let fixed = sum_of(&self.fixed_amounts(lines, step));
            multiples(fixed, &amounts_of(&self.atoms(lines, step)))
        };
        match quantity {
            Quantity::Gross => lines_after(IndexSet::ALL, 0),
            Quantity::GrossLine(line) => lines_after(IndexSet(1 << line), 0),
            Quantity::NetAfterSteps(steps) => {
                let step = self.steps()[steps - 1];
                self.annual_attachments(step).chain(lines_after(IndexSet::ALL, step)).collect()
            }
            Quantity::Ceded(at) => {
                let treaty = &self.treaties[at];
                match &treaty.terms {
                    TreatyTerms::QuotaShare { cession, event_limit } => {
                        self.ceded_by_quota_share(treaty, *cession, *event_limit)
                    }
                    TreatyTerms::OccurrenceXl(layer) => self.ceded_by_layer(treaty, layer),
                    TreatyTerms::AggregateXl { layer, placed } => {
                        let subjects = lines_after(treaty.lines, self.step_before(treaty));
                        let parts = subjects.into_iter().map(|m| layer.part_of(m));
                        let parts = limit_of(layer.limit).chain(parts);
                        parts.map(|part| placed.of(part)).collect()
                    }
                }
            }
            Quantity::LargestOccurrence(at) => {
                let subject = self.occurrence_subjects()[at];
                let mut atoms = self.atoms(subject.lines, subject.step);
                atoms.retain(|atom| subject.groups.contains(atom.group));
                amounts_of(&atoms)
            }
        }
    }

    /// What a treaty's subject often is for an occurrence, before its cession.
    fn subjects(&self, treaty: &Treaty) -> Vec<u64> {
        let mut atoms = self.atoms(treaty.lines, self.step_before(treaty));
        atoms.retain(|atom| covers(treaty, atom));
        amounts_of(&atoms)
    }

    fn ceded_by_quota_share(&self, treaty: &Treaty, cession: Proportion, event_limit: u64) -> Vec<u64> {
        let mut fixed = self.fixed_amounts(treaty.lines, self.step_before(treaty));
        fixed.retain(|atom| covers(treaty, atom));
        let fixed = fixed.iter().map(|atom| fixed_payment(treaty, atom)).sum();
        let payments = self.subjects(treaty).into_iter().map(|s| cession.of(s).min(event_limit));
        multiples(fixed, &ascending(payments.chain(limit_of(event_limit))))
    }

    fn ceded_by_layer(&self, treaty: &Treaty, layer: &OccurrenceLayer) -> Vec<u64> {
        let recoveries = self.subjects(treaty).into_iter().map(|s| recovery(layer, s));
        let recoveries = ascending(recoveries.chain(limit_of(layer.layer.limit)));
        let years = multiples(0, &recoveries).into_iter().map(|recoveries| layer.paid(recoveries));
        limit_of(layer.annual.limit).chain(years).map(|paid| layer.placed.of(paid)).collect()
    }

    /// The attachments of treaties on the year's amount up to a step, where what is left stays.
    fn annual_attachments(&self, last: u32) -> impl Iterator<Item = u64> {
        self.treaties.iter().filter(move |treaty| treaty.step <= last).filter_map(Treaty::annual_attachment)
    }

    /// The atoms of occurrences, as the treaties up to a step leave them.
    fn atoms(&self, lines: IndexSet, last: u32) -> Vec<Atom> {
        let groups = self.groups.iter().enumerate();
        let mut atoms: Vec<Atom> =
            groups.clone().flat_map(|(at, group)| occurrence_atoms(at, group, lines)).collect();
        for step in self.steps().into_iter().filter(|&step| step <= last) {
            self.pass(step, &mut atoms, occurrence_payment);
            for treaty in self.treaties.iter().filter(|treaty| treaty.step == step) {
                let Some(retention) = retention_of(&treaty.terms) else { continue };
                let components = groups.clone().filter(|(_, group)| group.occurrence != Occurrence::Annual);
                let components = components.flat_map(|(at, group)| components_in(group, lines, at));
                let retained = components.map(|(group, component)| Atom {
                    amount: retention,
                    group,
                    lines: line_of(component),
                });
                atoms.extend(retained.filter(|atom| covers(treaty, atom)));
            }
        }
        atoms
    }

    /// The amounts of annual groups that are the same in every year, as the treaties up to a step
    /// leave them.
    fn fixed_amounts(&self, lines: IndexSet, last: u32) -> Vec<Atom> {
        let annual =
            self.groups.iter().enumerate().filter(|(_, group)| group.occurrence == Occurrence::Annual);
        let components = annual.flat_map(|(at, group)| components_in(group, lines, at));
        let fixed = |(group, component): (usize, &Component)| match &component.amounts {
            AmountTable::Steps { amounts, .. } if amounts.len() == 1 && component.index.is_none() => {
                Some(Atom { amount: component.terms.paid(amounts[0]), group, lines: line_of(component) })
            }
            _ => None,
        };
        let mut fixed: Vec<Atom> = components.filter_map(fixed).collect();
        for step in self.steps().into_iter().filter(|&step| step <= last) {
            self.pass(step, &mut fixed, fixed_payment);
        }
        fixed
    }

    /// Takes from each atom what the treaties of a step pay for it.
    fn pass(&self, step: u32, atoms: &mut [Atom], payment: fn(&Treaty, &Atom) -> u64) {
        for atom in atoms {
            let treaties = self.treaties.iter().filter(|treaty| treaty.step == step && covers(treaty, atom));
            let payments = treaties.map(|treaty| payment(treaty, atom)).fold(0, u64::saturating_add);
            atom.amount = atom.amount.saturating_sub(payments);
        }
    }
}

/// The components of a group that have one of the lines, with the group's number.
fn components_in(
    group: &Group,
    lines: IndexSet,
    at: usize,
) -> impl Iterator<Item = (usize, &Component)> + Clone {
    let in_lines = move |component: &&Component| lines.contains(component.line as usize);
    group.components.iter().filter(in_lines).map(move |component| (at, component))
}

fn line_of(component: &Component) -> IndexSet {
    IndexSet(1 << component.line)
}

/// The atoms of a group's occurrences on some lines.
fn occurrence_atoms(at: usize, group: &Group, lines: IndexSet) -> Vec<Atom> {
    if group.occurrence == Occurrence::Annual {
        return Vec::new();
    }
    let components: Vec<_> = components_in(group, lines, at).map(|(_, component)| component).collect();
    let of_component = |component: &&Component| {
        let lines = line_of(component);
        atoms_of(component).into_iter().map(move |amount| Atom { amount, group: at, lines })
    };
    let mut atoms: Vec<Atom> = components.iter().flat_map(of_component).collect();
    if group.occurrence == Occurrence::Strike && components.len() > 1 {
        let largest: Option<Vec<u64>> = components.iter().map(|c| atoms_of(c).last().copied()).collect();
        let lines = components.iter().fold(0, |lines, component| lines | line_of(component).0);
        let together = largest.map(|amounts| amounts.into_iter().sum());
        atoms.extend(together.map(|amount| Atom { amount, group: at, lines: IndexSet(lines) }));
    }
    atoms
}

/// What a component often pays: at its limit, or for the amounts of a short step table.
fn atoms_of(component: &Component) -> Vec<u64> {
    let terms = &component.terms;
    let steps = match &component.amounts {
        AmountTable::Steps { amounts, .. } if amounts.len() <= MAX_STEP_ATOMS => &amounts[..],
        _ => &[],
    };
    let steps = steps.iter().filter(|_| component.index.is_none()).map(|&amount| terms.paid(amount));
    ascending(limit_of(terms.limit).map(|limit| terms.share.of(limit)).chain(steps))
}

fn covers(treaty: &Treaty, atom: &Atom) -> bool {
    treaty.groups.contains(atom.group) && atom.lines.0 & !treaty.lines.0 == 0
}

/// What a treaty pays for an occurrence of this amount, annual terms aside.
fn occurrence_payment(treaty: &Treaty, atom: &Atom) -> u64 {
    match &treaty.terms {
        TreatyTerms::QuotaShare { cession, event_limit } => cession.of(atom.amount).min(*event_limit),
        TreatyTerms::OccurrenceXl(layer) => layer.placed.of(recovery(layer, atom.amount)),
        TreatyTerms::AggregateXl { .. } => 0,
    }
}

/// What a treaty pays for an amount of an annual group.
fn fixed_payment(treaty: &Treaty, atom: &Atom) -> u64 {
    match &treaty.terms {
        TreatyTerms::QuotaShare { cession, event_limit: MAX_AMOUNT } => cession.of(atom.amount),
        _ => 0,
    }
}

fn recovery(layer: &OccurrenceLayer, subject: u64) -> u64 {
    layer.layer.part_of(layer.cession.of(subject))
}

/// What a layer that covers its whole subject leaves of an occurrence that reaches it.
fn retention_of(terms: &TreatyTerms) -> Option<u64> {
    match terms {
        TreatyTerms::OccurrenceXl(layer)
            if layer.cession == Proportion::ONE && layer.placed == Proportion::ONE =>
        {
            Some(layer.layer.attachment)
        }
        _ => None,
    }
}

/// A limit, if there is one.
fn limit_of(limit: u64) -> impl Iterator<Item = u64> {
    Some(limit).filter(|&limit| limit < MAX_AMOUNT).into_iter()
}

fn sum_of(atoms: &[Atom]) -> u64 {
    atoms.iter().map(|atom| atom.amount).sum()
}

fn amounts_of(atoms: &[Atom]) -> Vec<u64> {
    ascending(atoms.iter().map(|atom| atom.amount))
}

/// The distinct amounts but 0, ascending.
fn ascending(amounts: impl Iterator<Item = u64>) -> Vec<u64> {
    amounts.filter(|&amount| amount > 0).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The constant; it and each amount; it and twice each amount; and so on.
fn multiples(constant: u64, amounts: &[u64]) -> Vec<u64> {
    let times = |k| amounts.iter().map(move |&amount| constant + k * amount);
    std::iter::once(constant).chain((1..=MAX_MULTIPLE).flat_map(times)).collect()
}

/// The first candidates that are marks, ascending.
fn first_marks(candidates: impl Iterator<Item = u64>, most: usize) -> Vec<u64> {
    let mut marks = BTreeSet::new();
    for candidate in candidates.filter(|&amount| (1..MAX_AMOUNT).contains(&amount)) {
        if marks.len() == most {
            break;
        }
        marks.insert(candidate);
    }
    marks.into_iter().collect()
}

#[cfg(test)]
mod tests;
