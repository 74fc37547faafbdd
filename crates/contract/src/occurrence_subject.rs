//! Subjects: the parts of occurrences whose largest one in a year a result holds
//! (docs/determinism.md, section 8.1).

use crate::{
    program::{Occurrence, Program},
    treaty::{IndexSet, Treaty, TreatyTerms},
};

/// What treaties have left of some lines' amounts, in the occurrences of some groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OccurrenceSubject {
    /// The last step whose treaties have paid; 0 before all treaties.
    pub step: u32,
    /// The lines.
    pub lines: IndexSet,
    /// The groups.
    pub groups: IndexSet,
}

impl OccurrenceSubject {
    /// Everything that occurrences cost after a step; 0 before all treaties.
    pub const fn all_lines(step: u32) -> Self {
        Self { step, lines: IndexSet::ALL, groups: IndexSet::ALL }
    }

    /// A line before treaties.
    pub const fn line(line: usize) -> Self {
        Self { step: 0, lines: IndexSet(1 << line), groups: IndexSet::ALL }
    }

    /// A group before treaties.
    pub const fn group(group: usize) -> Self {
        Self { step: 0, lines: IndexSet::ALL, groups: IndexSet(1 << group) }
    }
}

impl Program {
    /// The subjects of a program with `details`, each in its normal form and once: all lines, each
    /// line, each group, all lines after each step, and what each treaty by occurrence covers.
    pub fn occurrence_subjects(&self) -> Vec<OccurrenceSubject> {
        let lines = (0..self.lines as usize).map(OccurrenceSubject::line);
        let has_occurrences = |group: &usize| self.groups[*group].occurrence != Occurrence::Annual;
        let groups = (0..self.groups.len()).filter(has_occurrences).map(OccurrenceSubject::group);
        let steps = self.steps().into_iter().map(OccurrenceSubject::all_lines);
        let treaties = self.treaties.iter().filter_map(|treaty| self.subject_of(treaty));
        let all = std::iter::once(OccurrenceSubject::all_lines(0)).chain(lines).chain(groups);
        let mut distinct = Vec::new();
        for subject in all.chain(steps).chain(treaties).map(|subject| self.normal_subject(subject)) {
            if !distinct.contains(&subject) {
                distinct.push(subject);
            }
        }
        distinct
    }

    /// What a treaty covers of an occurrence; `None` for treaties on the year's amount.
    pub fn subject_of(&self, treaty: &Treaty) -> Option<OccurrenceSubject> {
        let Treaty { lines, groups, .. } = *treaty;
        (!is_annual(treaty)).then(|| OccurrenceSubject { step: self.step_before(treaty), lines, groups })
    }

    /// The subject with the same amounts that names no step, group or line without effect.
    pub fn normal_subject(&self, subject: OccurrenceSubject) -> OccurrenceSubject {
        let steps = self.treaties.iter().filter(|t| t.step <= subject.step && !is_annual(t));
        let (mut lines, mut groups) = (0, 0);
        for (at, group) in self.groups.iter().enumerate() {
            let struck = group.components.iter().fold(0, |struck, c| struck | 1 << c.line);
            if group.occurrence != Occurrence::Annual
                && subject.groups.contains(at)
                && subject.lines.intersects(IndexSet(struck))
            {
                groups |= 1 << at;
                lines |= struck;
            }
        }
        OccurrenceSubject {
            step: steps.map(|treaty| treaty.step).max().unwrap_or(0),
            lines: IndexSet(lines & subject.lines.0),
            groups: IndexSet(groups),
        }
    }

    /// The distinct step before that of a treaty; 0 if there is none.
    pub(crate) fn step_before(&self, treaty: &Treaty) -> u32 {
        self.steps().into_iter().rev().find(|&step| step < treaty.step).unwrap_or(0)
    }
}

/// Whether a treaty pays for the year's amount only.
fn is_annual(treaty: &Treaty) -> bool {
    matches!(treaty.terms, TreatyTerms::AggregateXl { .. })
}
