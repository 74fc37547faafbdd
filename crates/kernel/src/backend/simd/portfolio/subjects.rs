//! The largest occurrences of subjects (docs/determinism.md, section 8.1). Events whose components
//! treaties treat apart are sums of what quota shares leave of these, in vectors; the other events
//! pass the treaties as a whole (`treaties`).

use forge_contract::{
    program::{Component, Program},
    treaty::IndexSet,
};

use super::{
    super::vector::Vector,
    amounts::BatchAmounts,
    model::{ComponentPath, EventKind, GroupDraws, PreparedPortfolio},
    policies::paid_by,
};

/// A subject of the program.
#[derive(Clone, Copy)]
pub(super) struct PreparedSubject {
    pub(super) lines: IndexSet,
    pub(super) groups: IndexSet,
    /// Number of distinct steps that have paid.
    pub(super) steps: usize,
}

/// A sum of amounts of an event's components, each after some of its quota shares.
pub(super) struct SubjectSum {
    /// Number of each component in the event, and of its steps of quota shares that have paid.
    parts: Vec<(usize, usize)>,
    /// The subjects whose occurrence the sum is.
    subjects: Vec<usize>,
}

/// The subjects of a program, whose distinct steps are these.
pub(super) fn prepared_subjects(program: &Program, steps: &[u32]) -> Vec<PreparedSubject> {
    let subjects = program.occurrence_subjects().into_iter();
    let prepared = subjects.map(|subject| PreparedSubject {
        lines: subject.lines,
        groups: subject.groups,
        steps: steps.iter().filter(|&&step| step <= subject.step).count(),
    });
    prepared.collect()
}

/// How many of the first steps have something to pay.
pub(super) fn paying_steps<T>(of_steps: &[Vec<T>], first: usize) -> usize {
    of_steps[..first].iter().filter(|step| !step.is_empty()).count()
}

/// For each number of paying steps, the subjects with these lines, among the given ones of a group.
/// `of_steps` are the treaties of each distinct step.
pub(super) fn subjects_by_steps<'a, T>(
    subjects: impl Iterator<Item = (usize, &'a PreparedSubject)>,
    lines: IndexSet,
    of_steps: &[Vec<T>],
) -> Vec<Vec<(usize, IndexSet)>> {
    let mut by_steps = vec![Vec::new(); paying_steps(of_steps, of_steps.len()) + 1];
    for (number, subject) in subjects.filter(|(_, subject)| subject.lines.intersects(lines)) {
        let common = IndexSet(subject.lines.0 & lines.0);
        by_steps[paying_steps(of_steps, subject.steps)].push((number, common));
    }
    by_steps
}

/// The sums of an event's components that are occurrences of these subjects. `paid_steps` is the
/// number of a component's steps of quota shares among the first distinct steps.
pub(super) fn subject_sums<'a>(
    subjects: impl Iterator<Item = (usize, &'a PreparedSubject)>,
    struck: &[Component],
    paid_steps: impl Fn(usize, usize) -> usize,
) -> Vec<SubjectSum> {
    let mut sums: Vec<SubjectSum> = Vec::new();
    for (number, subject) in subjects {
        let components = struck.iter().enumerate();
        let components = components.filter(|(_, c)| subject.lines.contains(c.line as usize));
        let parts: Vec<_> = components.map(|(at, _)| (at, paid_steps(at, subject.steps))).collect();
        match sums.iter_mut().find(|sum| sum.parts == parts) {
            Some(sum) => sum.subjects.push(number),
            None => sums.push(SubjectSum { parts, subjects: vec![number] }),
        }
    }
    sums
}

/// What the quota shares of a component's first steps leave of its amounts.
#[inline(always)]
fn left_after<V: Vector>(path: &ComponentPath<'_>, steps: usize, amounts: V) -> V {
    let mut left = amounts;
    for step in &path.quota_shares[..steps] {
        let subject = left;
        for share in step {
            left = left.subtract(paid_by(share, subject).min(left));
        }
    }
    left
}

impl BatchAmounts {
    /// Raises the largest occurrences of subjects to amounts of the iterations from `first` on.
    #[inline(always)]
    pub(super) fn raise<V: Vector>(&mut self, subjects: &[usize], first: usize, amounts: V) {
        for &subject in subjects {
            let column = &mut self.largest_of[subject][first..];
            V::load(column).max_signed(amounts).store(column);
        }
    }

    /// Raises the largest occurrences of subjects to events that strike all components of a group,
    /// which treaties treat apart.
    #[inline(always)]
    pub(super) fn raise_to_strikes<V: Vector>(
        &mut self,
        portfolio: &PreparedPortfolio<'_>,
        group: &GroupDraws<'_>,
        first_year: usize,
        events: usize,
    ) {
        let EventKind { sums, apart_up_to, .. } = &portfolio.kinds[group.kind];
        let above_apart = V::splat(apart_up_to + 1);
        let paths = &portfolio.components[group.components.clone()];
        for sum in sums {
            let mut largest = V::splat(0);
            for event in 0..events {
                let mut left = V::splat(0);
                for &(number, steps) in &sum.parts {
                    left = left.add(left_after(&paths[number], steps, V::load(&self.paid[number][event])));
                }
                let is_apart = V::greater_than(above_apart, V::load(&self.sums[event]));
                largest = largest.max_signed(left.select_or_zero(is_apart));
            }
            self.raise(&sum.subjects, first_year, largest);
        }
    }

    /// Raises the largest occurrences of subjects to what treaties have left of an event.
    #[inline]
    pub(super) fn raise_to_event(
        &mut self,
        subjects: &[(usize, IndexSet)],
        year: usize,
        left: impl Fn(IndexSet) -> u64,
    ) {
        for &(subject, lines) in subjects {
            let largest = &mut self.largest_of[subject][year];
            *largest = left(lines).max(*largest);
        }
    }
}
