//! A portfolio prepared for execution in batches: which draws its occurrences take, and which
//! treaties they pass.

use std::ops::Range;

use forge_contract::{
    program::{AmountTable, Component, Group, MAX_AMOUNT, MAX_LINES, Occurrence, Program, Segment},
    treaty::{IndexSet, Proportion, Treaty, TreatyTerms},
};

use super::{
    subjects::{
        PreparedSubject, SubjectSum, paying_steps, prepared_subjects, subject_sums, subjects_by_steps,
    },
    thresholds::GuidedThresholds,
};

/// A program, with what is the same in all iterations.
pub(in crate::backend::simd) struct PreparedPortfolio<'a> {
    pub(super) program: &'a Program,
    /// The distinct steps of the treaties, ascending.
    pub(super) steps: Vec<u32>,
    /// Whether the occurrences of the groups follow in random order.
    pub(super) interleaves: bool,
    pub(super) groups: Vec<GroupDraws<'a>>,
    pub(super) components: Vec<ComponentPath<'a>>,
    pub(super) kinds: Vec<EventKind>,
    /// Draws of numbers of occurrences, which are the first ones.
    pub(super) count_draws: usize,
    /// Draws before the first occurrence.
    pub(super) head_draws: usize,
    /// For each treaty, the lines whose occurrences it may pay for.
    pub(super) ceded_lines: Vec<CededLines>,
    /// Number of subjects.
    pub(super) subjects: usize,
}

/// The lines whose occurrences a treaty may pay for.
#[derive(Clone, Copy)]
pub(super) struct CededLines {
    pub(super) lines: IndexSet,
    /// The number of the first line's column among those of all treaties.
    first: usize,
}

impl CededLines {
    /// The number of the column of a line among those of all treaties.
    #[inline]
    pub(super) fn column_of(self, line: usize) -> usize {
        self.first + (self.lines.0 & ((1 << line) - 1)).count_ones() as usize
    }
}

/// How the occurrences of a group are drawn.
pub(super) struct GroupDraws<'a> {
    pub(super) occurrence: &'a Occurrence,
    pub(super) offset: u32,
    pub(super) counts: GuidedThresholds,
    /// Which component a claim belongs to, if there are several.
    pub(super) pick: Option<Pick<'a>>,
    pub(super) components: Range<usize>,
    /// Draws of one occurrence, without that for the order.
    pub(super) draws_per_occurrence: usize,
    /// The kind of its events; of claims the first one.
    pub(super) kind: usize,
}

/// How the component of a claim is drawn.
pub(super) struct Pick<'a> {
    /// Number in the group of the first component that may be picked.
    pub(super) first: usize,
    pub(super) thresholds: &'a [u64],
    /// The tables of all components of the group, one after another, and their segment bits.
    /// `None` if the tables differ in kind or size.
    pub(super) tables: Option<(u32, Vec<Segment>)>,
}

/// A component, and the quota shares of its amounts in events that no layer pays for.
pub(super) struct ComponentPath<'a> {
    pub(super) component: &'a Component,
    pub(super) line: usize,
    /// The quota shares of each step that has such.
    pub(super) quota_shares: Vec<Vec<QuotaShare>>,
    /// Before these steps and after each of them, the subjects whose occurrence a claim of the
    /// component then is. None if the component is struck together with others.
    pub(super) subjects: Vec<Vec<usize>>,
}

impl<'a> ComponentPath<'a> {
    /// `shares` are the quota shares of each distinct step.
    fn new(
        component: &'a Component,
        shares: &[Vec<QuotaShare>],
        subjects: &[(usize, &PreparedSubject)],
    ) -> Self {
        let lines = IndexSet(1 << component.line);
        let by_steps = subjects_by_steps(subjects.iter().copied(), lines, shares);
        Self {
            component,
            line: component.line as usize,
            quota_shares: shares.iter().filter(|step| !step.is_empty()).cloned().collect(),
            subjects: by_steps
                .into_iter()
                .map(|of_step| of_step.into_iter().map(|(at, _)| at).collect())
                .collect(),
        }
    }

    /// The quota share, if there is only one.
    #[inline]
    pub(super) fn only_share(&self) -> Option<&QuotaShare> {
        match &self.quota_shares[..] {
            [step] if step.len() == 1 => Some(&step[0]),
            _ => None,
        }
    }
}

/// A quota share of a component's amounts.
#[derive(Clone, Copy)]
pub(super) struct QuotaShare {
    /// The number of the column of what is ceded.
    pub(super) column: usize,
    pub(super) cession: Proportion,
    pub(super) event_limit: u64,
}

/// A kind of event: an occurrence, or the year of an annual group, that strikes these components.
/// Each component of a group of claims is a kind of its own.
pub(super) struct EventKind {
    pub(super) components: Range<usize>,
    /// The lines of the components.
    pub(super) lines: IndexSet,
    /// Treaties may treat the components of an event apart, and no layer pays for it, unless the
    /// sum of its amounts is above this.
    pub(super) apart_up_to: u64,
    /// The treaties that pay for the event, step by step.
    pub(super) steps: Vec<Vec<usize>>,
    /// Before these steps and after each of them, the subjects whose occurrence the event then is,
    /// with their lines.
    pub(super) subjects: Vec<Vec<(usize, IndexSet)>>,
    /// The sums of components that are occurrences of subjects, in events whose components treaties
    /// treat apart. Those of claims are in [`ComponentPath::subjects`].
    pub(super) sums: Vec<SubjectSum>,
}

impl<'a> PreparedPortfolio<'a> {
    pub(super) fn new(program: &'a Program) -> Self {
        let steps = program.steps();
        let ceded_lines = ceded_lines(program);
        let subjects = prepared_subjects(program, &steps);
        let (mut groups, mut components, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
        for (number, group) in program.groups.iter().enumerate() {
            let first = components.len();
            let range = first..first + group.components.len();
            groups.push(GroupDraws::new(group, range.clone(), kinds.len()));
            let paying = treaties_of(program, &steps, number, group);
            let of_group: Vec<_> =
                subjects.iter().enumerate().filter(|(_, subject)| subject.groups.contains(number)).collect();
            let shares = |component| quota_shares(&program.treaties, &ceded_lines, &paying, component);
            let shares: Vec<_> = group.components.iter().map(shares).collect();
            let is_claim = matches!(group.occurrence, Occurrence::Claim { pick: Some(_) });
            for (component, shares) in group.components.iter().zip(&shares) {
                let of_claim = if is_claim { &of_group[..] } else { &[] };
                components.push(ComponentPath::new(component, shares, of_claim));
            }
            let kind = |range: Range<usize>| {
                let struck = range.start - first..range.end - first;
                let paid_steps = |at: usize, steps| paying_steps(&shares[at], steps);
                let sums = match is_claim {
                    true => Vec::new(),
                    false => subject_sums(of_group.iter().copied(), &group.components, paid_steps),
                };
                EventKind::new(&program.treaties, &paying, range, &group.components[struck], &of_group, sums)
            };
            match group.occurrence {
                Occurrence::Claim { .. } => kinds.extend(range.map(|at| kind(at..at + 1))),
                _ => kinds.push(kind(range)),
            }
        }
        let count_draws = groups.iter().filter(|group| !group.is_annual()).count();
        let annual = groups.iter().filter(|group| group.is_annual());
        let annual: usize = annual.map(|group| group.draws_per_occurrence).sum();
        let head_draws = count_draws + program.indices.len() + annual;
        let interleaves = program.interleaves();
        let subjects = subjects.len();
        Self {
            program,
            steps,
            interleaves,
            groups,
            components,
            kinds,
            count_draws,
            head_draws,
            ceded_lines,
            subjects,
        }
    }

    /// Number of columns of what treaties cede by occurrence.
    pub(super) fn ceded_columns(&self) -> usize {
        self.ceded_lines.iter().map(|ceded| ceded.lines.0.count_ones() as usize).sum()
    }
}

impl<'a> GroupDraws<'a> {
    fn new(group: &'a Group, components: Range<usize>, kind: usize) -> Self {
        let pick = match &group.occurrence {
            Occurrence::Claim { pick: Some(pick) } => Some(Pick {
                first: pick.offset as usize,
                thresholds: &pick.thresholds,
                tables: joined_tables(&group.components),
            }),
            _ => None,
        };
        let draws_per_occurrence = match group.occurrence {
            Occurrence::Claim { .. } => 1 + usize::from(pick.is_some()),
            _ => group.components.iter().filter(|component| !component.same_rank).count(),
        };
        Self {
            occurrence: &group.occurrence,
            offset: group.counts.offset,
            counts: GuidedThresholds::new(&group.counts.thresholds),
            pick,
            components,
            draws_per_occurrence,
            kind,
        }
    }

    #[inline]
    pub(super) fn is_annual(&self) -> bool {
        *self.occurrence == Occurrence::Annual
    }

    #[inline]
    pub(super) fn amounts_per_event(&self) -> usize {
        if self.pick.is_some() { 1 } else { self.components.len() }
    }
}

/// The quantile tables of these components, one after another, if they have the same segment bits.
fn joined_tables(components: &[Component]) -> Option<(u32, Vec<Segment>)> {
    let (mut bits, mut joined) = (None, Vec::new());
    for component in components {
        let AmountTable::Quantiles { segment_bits, segments } = &component.amounts else { return None };
        if *bits.get_or_insert(*segment_bits) != *segment_bits {
            return None;
        }
        joined.extend_from_slice(segments);
    }
    bits.map(|bits| (bits, joined))
}

/// For each treaty, the lines whose occurrences it may pay for.
fn ceded_lines(program: &Program) -> Vec<CededLines> {
    let mut first = 0;
    let of_treaty = |treaty: &Treaty| {
        let pays = !matches!(treaty.terms, TreatyTerms::AggregateXl { .. });
        let lines = IndexSet(if pays { treaty.lines.0 & ((1 << program.lines) - 1) } else { 0 });
        let ceded = CededLines { lines, first };
        first += lines.0.count_ones() as usize;
        ceded
    };
    program.treaties.iter().map(of_treaty).collect()
}

/// For each step, the treaties that may pay for an event of a group.
fn treaties_of(program: &Program, steps: &[u32], number: usize, group: &Group) -> Vec<Vec<usize>> {
    let is_occurrence = group.occurrence != Occurrence::Annual;
    let pays = |treaty: &Treaty| match &treaty.terms {
        TreatyTerms::QuotaShare { event_limit, .. } => is_occurrence || *event_limit == MAX_AMOUNT,
        TreatyTerms::OccurrenceXl(_) => is_occurrence,
        TreatyTerms::AggregateXl { .. } => false,
    };
    let of_step = |step: &u32| {
        let all = program.treaties.iter().enumerate();
        let paying = all.filter(|(_, t)| t.step == *step && t.groups.contains(number) && pays(t));
        paying.map(|(at, _)| at).collect()
    };
    steps.iter().map(of_step).collect()
}

/// For each step, the quota shares of a component.
fn quota_shares(
    treaties: &[Treaty],
    ceded_lines: &[CededLines],
    paying: &[Vec<usize>],
    component: &Component,
) -> Vec<Vec<QuotaShare>> {
    let line = component.line as usize;
    let quota_share = |&treaty: &usize| match treaties[treaty].terms {
        TreatyTerms::QuotaShare { cession, event_limit } if treaties[treaty].lines.contains(line) => {
            Some(QuotaShare { column: ceded_lines[treaty].column_of(line), cession, event_limit })
        }
        _ => None,
    };
    paying.iter().map(|step| step.iter().filter_map(quota_share).collect()).collect()
}

impl EventKind {
    fn new(
        treaties: &[Treaty],
        paying: &[Vec<usize>],
        components: Range<usize>,
        struck: &[Component],
        subjects: &[(usize, &PreparedSubject)],
        sums: Vec<SubjectSum>,
    ) -> Self {
        let struck_by = |line: usize| struck.iter().filter(|c| c.line as usize == line).count();
        let components_of =
            |t: &Treaty| (0..MAX_LINES).filter(|&l| t.lines.contains(l)).map(struck_by).sum::<usize>();
        let of_step = |step: &Vec<usize>| -> Vec<usize> {
            step.iter().copied().filter(|&at| components_of(&treaties[at]) > 0).collect()
        };
        let of_steps: Vec<_> = paying.iter().map(of_step).collect();
        let limit_of = |treaty: &Treaty| match &treaty.terms {
            TreatyTerms::OccurrenceXl(layer) => layer.layer.attachment,
            // The components of a quota share of several have to be taken together.
            _ if components_of(treaty) > 1 => 0,
            _ => NEVER,
        };
        let limits = of_steps.iter().flatten().map(|&at| limit_of(&treaties[at]));
        let lines = IndexSet(struck.iter().fold(0, |lines, component| lines | 1 << component.line));
        Self {
            components,
            lines,
            apart_up_to: limits.min().unwrap_or(NEVER),
            subjects: subjects_by_steps(subjects.iter().copied(), lines, &of_steps),
            steps: of_steps.into_iter().filter(|step| !step.is_empty()).collect(),
            sums,
        }
    }
}

/// Above the amounts of every event: 64 amounts below 2^53.
pub(super) const NEVER: u64 = 1 << 60;
