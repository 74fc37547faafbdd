//! The smallest and largest amounts that treaties can see: from the tables of a program, and from
//! what treaties of earlier steps leave. Bounds, not exact extremes: no amount is outside.

use forge_contract::program::{Component, Group, MAX_AMOUNT, Occurrence, Program};

use super::ranges::AmountRange;
use crate::{
    backend::scalar::{amount_in_table, loss_of_draw},
    treaties::{IndexSet, Layer, OccurrenceLayer, Proportion, Treaty, TreatyTerms},
};

/// What a treaty can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TreatySubject {
    /// Amounts of an occurrence that concerns one of the covered lines; `None` if there is none.
    pub occurrence: Option<AmountRange>,
    /// Amounts of the covered lines in a year.
    pub year: AmountRange,
    /// The most that the layer takes of all occurrences of a year, before annual terms; 0 for
    /// treaties that are no layer of an occurrence.
    pub recoveries: u64,
}

/// The subject of each treaty.
pub(super) fn treaty_subjects(program: &Program) -> Vec<TreatySubject> {
    let mut bounds = PortfolioBounds::new(program);
    let mut subjects: Vec<_> = program.treaties.iter().map(|treaty| bounds.subject(treaty)).collect();
    for step in program.steps() {
        let treaties = || program.treaties.iter().enumerate().filter(|(_, treaty)| treaty.step == step);
        for (number, treaty) in treaties() {
            subjects[number] = bounds.subject(treaty);
        }
        bounds.pass_step(treaties().map(|(_, treaty)| treaty));
    }
    subjects
}

/// Bounds on the amounts that the steps so far have left.
struct PortfolioBounds<'a> {
    groups: Vec<GroupBounds<'a>>,
    /// Sets of lines, each with the most that they have together in a year.
    years: Vec<(IndexSet, u64)>,
    /// Lines that a treaty has covered.
    ceded_lines: u32,
}

/// Bounds on the amounts of a group.
struct GroupBounds<'a> {
    group: &'a Group,
    /// For each line, the amounts of an occurrence; `None` without a component.
    lines: Vec<Option<AmountRange>>,
    /// Sets of lines, each with the most that they have together in an occurrence.
    sets: Vec<(IndexSet, u64)>,
}

fn is_subset(lines: IndexSet, of: IndexSet) -> bool {
    lines.0 & !of.0 == 0
}

/// The smallest bound on a set of lines that has all of these lines.
fn bound_of_sets(sets: &[(IndexSet, u64)], lines: IndexSet) -> u64 {
    let bounds = sets.iter().filter(|(set, _)| is_subset(lines, *set)).map(|&(_, bound)| bound);
    bounds.min().unwrap_or(u64::MAX)
}

/// What is left of an amount, at most: rounding may leave one minor unit more of a smaller amount.
fn left_of(amount: u64, ceded: u64, is_rounded: bool) -> u64 {
    (amount.saturating_sub(ceded) + u64::from(is_rounded)).min(amount)
}

impl<'a> PortfolioBounds<'a> {
    fn new(program: &'a Program) -> Self {
        let groups = program.groups.iter().map(|group| GroupBounds::new(program, group)).collect();
        Self { groups, years: Vec::new(), ceded_lines: 0 }
    }

    fn occurrence_groups(&self, groups: IndexSet) -> impl Iterator<Item = &GroupBounds<'a>> {
        let covered = self.groups.iter().enumerate().filter(move |(index, _)| groups.contains(*index));
        covered.map(|(_, group)| group).filter(|group| group.group.occurrence != Occurrence::Annual)
    }

    fn subject(&self, treaty: &Treaty) -> TreatySubject {
        let lines = treaty.lines;
        // A treaty of an earlier step may leave less than the smallest amount.
        let is_first = self.ceded_lines & lines.0 == 0;
        let occurrences = self.occurrence_groups(treaty.groups).filter_map(|group| {
            let min = group.smallest(lines)?;
            Some(AmountRange { min: if is_first { min } else { 0 }, max: group.largest(lines) })
        });
        let recoveries = match &treaty.terms {
            TreatyTerms::OccurrenceXl(layer) => {
                let of_group = |group: &GroupBounds<'_>| {
                    group.most().saturating_mul(layer.layer.part_of(layer.cession.of(group.largest(lines))))
                };
                self.occurrence_groups(treaty.groups).map(of_group).fold(0, u64::saturating_add)
            }
            _ => 0,
        };
        TreatySubject {
            occurrence: occurrences
                .reduce(|a, b| AmountRange { min: a.min.min(b.min), max: a.max.max(b.max) }),
            year: AmountRange {
                min: if is_first { self.smallest_year(lines) } else { 0 },
                max: self.largest_year(lines),
            },
            recoveries,
        }
    }

    fn smallest_year(&self, lines: IndexSet) -> u64 {
        self.groups.iter().map(|group| group.smallest_year(lines)).fold(0, u64::saturating_add)
    }

    fn largest_year(&self, lines: IndexSet) -> u64 {
        let of_group = |group: &GroupBounds<'_>| group.most().saturating_mul(group.largest(lines));
        let sum = self.groups.iter().map(of_group).fold(0, u64::saturating_add);
        sum.min(bound_of_sets(&self.years, lines)).min(MAX_AMOUNT)
    }

    /// Applies the treaties of a step, which all see what the steps before have left.
    fn pass_step(&mut self, treaties: impl Iterator<Item = &'a Treaty> + Clone) {
        let mut years = Vec::new();
        let mut sets: Vec<Vec<(IndexSet, u64)>> = vec![Vec::new(); self.groups.len()];
        for treaty in treaties.clone() {
            match &treaty.terms {
                TreatyTerms::OccurrenceXl(layer) if has_no_annual_terms(layer) => {
                    for (index, group) in self.groups.iter().enumerate() {
                        let is_covered = treaty.groups.contains(index);
                        if is_covered && group.group.occurrence != Occurrence::Annual {
                            sets[index]
                                .push((treaty.lines, left_of_layer(layer, group.largest(treaty.lines))));
                        }
                    }
                }
                TreatyTerms::AggregateXl { layer, placed } => {
                    let subject = self.largest_year(treaty.lines);
                    let ceded = placed.of(layer.part_of(subject));
                    years.push((treaty.lines, left_of(subject, ceded, *placed != Proportion::ONE)));
                }
                _ => {}
            }
        }
        for (index, group) in self.groups.iter_mut().enumerate() {
            for (line, range) in group.lines.iter_mut().enumerate() {
                let cessions = treaties.clone().filter_map(|treaty| match treaty.terms {
                    TreatyTerms::QuotaShare { cession, event_limit: MAX_AMOUNT }
                        if treaty.groups.contains(index) && treaty.lines.contains(line) =>
                    {
                        Some(cession.0)
                    }
                    _ => None,
                });
                let cession = Proportion(cessions.sum::<u32>().min(Proportion::ONE.0));
                if let Some(range) = range {
                    let is_rounded = cession.0 > 0 && cession != Proportion::ONE;
                    range.max = left_of(range.max, cession.of(range.max), is_rounded);
                }
            }
            group.sets.append(&mut sets[index]);
        }
        self.years.extend(years);
        self.ceded_lines |= treaties.fold(0, |lines, treaty| lines | treaty.lines.0);
    }
}

/// Whether a layer pays its part of every occurrence of a year.
fn has_no_annual_terms(layer: &OccurrenceLayer) -> bool {
    layer.annual == Layer { limit: MAX_AMOUNT, attachment: 0 }
}

/// The most that a layer leaves of an occurrence of at most this amount.
fn left_of_layer(layer: &OccurrenceLayer, subject: u64) -> u64 {
    let ceded = layer.placed.of(layer.layer.part_of(layer.cession.of(subject)));
    let is_whole = layer.placed == Proportion::ONE && layer.cession == Proportion::ONE;
    left_of(subject, ceded, !is_whole)
}

impl<'a> GroupBounds<'a> {
    fn new(program: &Program, group: &'a Group) -> Self {
        let mut lines: Vec<Option<AmountRange>> = vec![None; program.lines as usize];
        let is_claim = matches!(group.occurrence, Occurrence::Claim { .. });
        for component in &group.components {
            let range = component_range(program, component);
            let line = &mut lines[component.line as usize];
            *line = Some(match *line {
                None => range,
                Some(other) if is_claim => {
                    AmountRange { min: other.min.min(range.min), max: other.max.max(range.max) }
                }
                Some(other) => AmountRange { min: other.min + range.min, max: other.max + range.max },
            });
        }
        Self { group, lines, sets: Vec::new() }
    }

    /// Most occurrences in a year; totals of the year count once.
    fn most(&self) -> u64 {
        match self.group.occurrence {
            Occurrence::Annual => 1,
            _ => self.group.counts.count(u64::MAX).into(),
        }
    }

    fn covered(&self, lines: IndexSet) -> impl Iterator<Item = AmountRange> {
        let covered = self.lines.iter().enumerate().filter(move |(line, _)| lines.contains(*line));
        covered.filter_map(|(_, range)| *range)
    }

    /// The most that these lines have together in an occurrence.
    fn largest(&self, lines: IndexSet) -> u64 {
        let amounts = self.covered(lines).map(|range| range.max);
        let by_line = match self.group.occurrence {
            Occurrence::Claim { .. } => amounts.max().unwrap_or(0),
            _ => amounts.fold(0, u64::saturating_add),
        };
        by_line.min(bound_of_sets(&self.sets, lines)).min(MAX_AMOUNT)
    }

    /// The least that these lines have together in an occurrence that concerns one of them, before
    /// treaties; `None` if no occurrence does.
    fn smallest(&self, lines: IndexSet) -> Option<u64> {
        let amounts = self.covered(lines).map(|range| range.min);
        match self.group.occurrence {
            Occurrence::Claim { .. } => amounts.min(),
            _ => amounts.reduce(u64::saturating_add),
        }
    }

    fn smallest_year(&self, lines: IndexSet) -> u64 {
        let concerns_all = match self.group.occurrence {
            Occurrence::Claim { .. } => {
                self.group.components.iter().all(|component| lines.contains(component.line as usize))
            }
            _ => true,
        };
        let fewest = match self.group.occurrence {
            Occurrence::Annual => 1,
            _ => u64::from(self.group.counts.count(0)),
        };
        if concerns_all { fewest.saturating_mul(self.smallest(lines).unwrap_or(0)) } else { 0 }
    }
}

/// The amounts of a component after its terms: tables ascend with the draw, and so do terms.
fn component_range(program: &Program, component: &Component) -> AmountRange {
    let at = |draw: u64| {
        let factors: Vec<u64> = program.indices.iter().map(|index| amount_in_table(index, draw)).collect();
        component.terms.paid(loss_of_draw(component, &factors, draw))
    };
    AmountRange { min: at(0), max: at(u64::MAX) }
}

#[cfg(test)]
mod tests {
    use forge_contract::{
        digest::Digest,
        program::Program,
        shard::{Shard, ShardId},
    };
    use serde_json::json;

    use super::*;
    use crate::{
        backend::{Backend, simd::Simd},
        request::Request,
    };

    fn program(treaties: &serde_json::Value) -> Program {
        let args = json!({
            "iterations": 1000, "lines": ["a", "b"], "decimals": 0, "treaties": treaties,
            "groups": [
                {"name": "claims", "count": {"poisson": 2}, "claims": [
                    {"line": "a", "severity": {"exponential": 1e6}},
                    {"line": "b", "severity": {"uniform": {"low": 100, "high": 900}}}]},
                {"name": "strikes", "count": {"constant": 2}, "strikes": [
                    {"line": "a", "severity": {"constant": 1000}}, {"line": "b", "severity": {"constant": 3000}}]},
                {"name": "year", "annual": [{"line": "b", "amount": {"constant": 500}}]}
            ]
        });
        let envelope =
            json!({"op": {"name": "mc", "version": 1, "profile": "risk.compound.v1"}, "args": args});
        Program::clone(&Request::from_json(envelope.to_string().as_bytes()).unwrap().program)
    }

    #[test]
    fn later_steps_see_what_earlier_ones_leave() {
        let xl = |step: u32, limit: Option<u64>, groups: &[&str]| {
            json!({"name": format!("xl {step}"), "step": step, "kind": "occurrence_xl", "covers": ["a", "b"],
                "groups": groups, "attachment": 1500, "limit": limit})
        };
        let share = |step: u32, cession: f64| {
            json!({"name": format!("share {step}"), "step": step, "kind": "quota_share", "covers": ["a", "b"],
                "cession": cession})
        };
        let largest = |treaties: serde_json::Value| -> Vec<_> {
            let subjects = treaty_subjects(&program(&treaties));
            subjects.into_iter().map(|subject| subject.occurrence.unwrap().max).collect()
        };
        let strikes = &["strikes"];
        assert_eq!(largest(json!([xl(1, None, strikes), xl(2, None, strikes)])), [4000, 1500]);
        assert_eq!(largest(json!([xl(1, Some(1000), strikes), xl(2, None, strikes)])), [4000, 3000]);
        assert_eq!(largest(json!([share(1, 1.0), xl(2, None, strikes)]))[1], 0);
        assert_eq!(largest(json!([share(1, 0.5), xl(2, None, strikes)]))[1], 2002);
        // An exponential claim is at most 65 · ln 2 of its mean.
        let claims = largest(json!([xl(1, None, &["claims"])]))[0];
        assert!((45_000_000..45_100_000).contains(&claims), "{claims}");
        let year = |treaties| treaty_subjects(&program(&treaties))[0].year;
        let stop_loss = json!([{"name": "stop", "kind": "aggregate_xl", "covers": ["b"], "attachment": 1,
            "limit": 1}]);
        assert_eq!(year(stop_loss).min, 6500);
    }

    /// In random portfolios, treaties never attach above the stated bound of their subject.
    #[test]
    fn no_amount_is_outside_of_the_bounds() {
        let mut checked = 0;
        for attachment in [0, 100, 1000, 1999, 2000, 4000, 100_000] {
            for cession in [0.3, 0.999_999, 1.0] {
                let program = program(&json!([
                    {"name": "share", "kind": "quota_share", "covers": ["a"], "cession": cession},
                    {"name": "first", "step": 2, "kind": "occurrence_xl", "covers": ["a", "b"],
                        "attachment": attachment, "limit": 1000, "placed": cession},
                    {"name": "second", "step": 3, "kind": "occurrence_xl", "covers": ["a"], "groups": ["strikes"],
                        "attachment": attachment, "limit": 1000},
                    {"name": "third", "step": 4, "kind": "occurrence_xl", "covers": ["b"],
                        "attachment": attachment, "limit": 1000},
                ]));
                let shard = Shard {
                    id: ShardId { height: 12, index: 0 },
                    iterations: 1000,
                    seed: Digest::hash_parts(&[b"subjects"]),
                };
                let result = Simd::new().execute(&program, &[shard], &()).unwrap().remove(0);
                let tallies = result.details.unwrap().treaties;
                for (number, subject) in treaty_subjects(&program).into_iter().enumerate().skip(1) {
                    if subject.occurrence.unwrap().max <= attachment {
                        assert_eq!(tallies[number].attached, 0, "{number}, {attachment}, {cession}");
                        checked += 1;
                    }
                }
            }
        }
        assert!(checked > 10, "{checked}");
    }
}
