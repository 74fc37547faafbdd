//! The subjects of a program, and which of its amounts are their occurrences.

use forge_contract::{
    program::{Component, Program},
    treaty::IndexSet,
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
    pub(super) parts: Vec<(usize, usize)>,
    /// The subjects whose occurrence the sum is.
    pub(super) subjects: Vec<usize>,
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
