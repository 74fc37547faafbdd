//! A portfolio prepared for execution in batches: which draws its occurrences take, and which
//! treaties they pass.

use std::ops::Range;

use forge_contract::{
    program::{Component, Group, MAX_AMOUNT, MAX_LINES, Occurrence, Program},
    treaty::{IndexSet, Proportion, Treaty, TreatyTerms},
};

use super::thresholds::GuidedThresholds;

/// A program, with what is the same in all iterations.
pub(super) struct PreparedPortfolio<'a> {
    pub(super) program: &'a Program,
    /// The distinct steps of the treaties, ascending.
    pub(super) steps: Vec<u32>,
    /// Whether the occurrences of the groups follow in random order.
    pub(super) interleaves: bool,
    pub(super) groups: Vec<GroupDraws<'a>>,
    pub(super) components: Vec<ComponentPath<'a>>,
    pub(super) kinds: Vec<EventKind>,
    /// The numbers of the kinds, those together that have layers in common. Between them the order
    /// of events matters.
    pub(super) kinds_by_layers: Vec<Vec<usize>>,
    /// Draws before the first occurrence.
    pub(super) head_draws: usize,
}

/// How the occurrences of a group are drawn.
pub(super) struct GroupDraws<'a> {
    pub(super) occurrence: &'a Occurrence,
    pub(super) offset: u32,
    pub(super) counts: GuidedThresholds<'a>,
    /// Which component a claim belongs to, if there are several: the first number and the others.
    pub(super) pick: Option<(usize, GuidedThresholds<'a>)>,
    pub(super) components: Range<usize>,
    /// Draws of one occurrence, without that for the order.
    pub(super) draws_per_occurrence: usize,
}

/// A component, and the quota shares of its amounts in events that no layer pays for.
pub(super) struct ComponentPath<'a> {
    pub(super) component: &'a Component,
    pub(super) group: usize,
    /// The quota shares of each step.
    pub(super) quota_shares: Vec<Vec<QuotaShare>>,
}

/// A quota share of a component's amounts.
#[derive(Clone, Copy)]
pub(super) struct QuotaShare {
    pub(super) treaty: usize,
    pub(super) cession: Proportion,
    pub(super) event_limit: u64,
}

/// A kind of event: an occurrence, or the year of an annual group, that strikes these components.
/// Each component of a group of claims is a kind of its own.
pub(super) struct EventKind {
    pub(super) components: Range<usize>,
    pub(super) is_occurrence: bool,
    /// The lines of the components.
    pub(super) lines: IndexSet,
    /// Treaties may treat the components of an event apart, and no layer pays for it, unless the
    /// sum of its amounts is above this.
    pub(super) apart_up_to: u64,
    /// The treaties that pay for the event, step by step.
    pub(super) steps: Vec<Vec<usize>>,
}

impl<'a> PreparedPortfolio<'a> {
    pub(super) fn new(program: &'a Program) -> Self {
        let steps = program.steps();
        let (mut groups, mut components, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
        for (number, group) in program.groups.iter().enumerate() {
            let first = components.len();
            let range = first..first + group.components.len();
            groups.push(GroupDraws::new(group, range.clone()));
            let paying = treaties_of(program, &steps, number, group);
            for component in &group.components {
                let quota_shares = quota_shares(&program.treaties, &paying, component);
                components.push(ComponentPath { component, group: number, quota_shares });
            }
            let kind = |range: Range<usize>| {
                let struck = &group.components[range.start - first..range.end - first];
                EventKind::new(&program.treaties, &paying, group, range, struck)
            };
            match group.occurrence {
                Occurrence::Claim { .. } => kinds.extend(range.map(|at| kind(at..at + 1))),
                _ => kinds.push(kind(range)),
            }
        }
        let counts = program.groups.iter().filter(|group| group.occurrence != Occurrence::Annual).count();
        let annual = groups.iter().filter(|group| *group.occurrence == Occurrence::Annual);
        let annual: usize = annual.map(|group| group.draws_per_occurrence).sum();
        let head_draws = counts + program.indices.len() + annual;
        let interleaves = program.interleaves();
        let kinds_by_layers = kinds_by_layers(program, &kinds);
        Self { program, steps, interleaves, groups, components, kinds, kinds_by_layers, head_draws }
    }
}

impl<'a> GroupDraws<'a> {
    fn new(group: &'a Group, components: Range<usize>) -> Self {
        let pick = match &group.occurrence {
            Occurrence::Claim { pick: Some(pick) } => {
                let first = components.start + pick.offset as usize;
                Some((first, GuidedThresholds::new(&pick.thresholds)))
            }
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
        }
    }

    pub(super) fn is_annual(&self) -> bool {
        *self.occurrence == Occurrence::Annual
    }

    pub(super) fn amounts_per_event(&self) -> usize {
        if self.pick.is_some() { 1 } else { self.components.len() }
    }
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

fn kinds_by_layers(program: &Program, kinds: &[EventKind]) -> Vec<Vec<usize>> {
    let is_layer = |at: &usize| matches!(program.treaties[*at].terms, TreatyTerms::OccurrenceXl(_));
    let mut sets: Vec<(u64, Vec<usize>)> = Vec::new();
    for (number, kind) in kinds.iter().enumerate() {
        let layers = kind.steps.iter().flatten().filter(|at| is_layer(at)).fold(0, |set, at| set | 1 << at);
        let (common, mut others): (Vec<_>, Vec<_>) =
            sets.into_iter().partition(|(other, _)| other & layers != 0);
        let joined = common.iter().fold(layers, |set, (other, _)| set | other);
        let numbers = common.into_iter().flat_map(|(_, numbers)| numbers).chain([number]);
        others.push((joined, numbers.collect()));
        sets = others;
    }
    sets.into_iter().map(|(_, numbers)| numbers).collect()
}

fn quota_shares(treaties: &[Treaty], paying: &[Vec<usize>], component: &Component) -> Vec<Vec<QuotaShare>> {
    let quota_share = |&treaty: &usize| match treaties[treaty].terms {
        TreatyTerms::QuotaShare { cession, event_limit }
            if treaties[treaty].lines.contains(component.line as usize) =>
        {
            Some(QuotaShare { treaty, cession, event_limit })
        }
        _ => None,
    };
    let of_step = |step: &Vec<usize>| step.iter().filter_map(quota_share).collect::<Vec<_>>();
    paying.iter().map(of_step).filter(|step| !step.is_empty()).collect()
}

impl EventKind {
    fn new(
        treaties: &[Treaty],
        paying: &[Vec<usize>],
        group: &Group,
        components: Range<usize>,
        struck: &[Component],
    ) -> Self {
        let struck_by = |line: usize| struck.iter().filter(|c| c.line as usize == line).count();
        let components_of =
            |t: &Treaty| (0..MAX_LINES).filter(|&l| t.lines.contains(l)).map(struck_by).sum::<usize>();
        let of_step = |step: &Vec<usize>| -> Vec<usize> {
            step.iter().copied().filter(|&at| components_of(&treaties[at]) > 0).collect()
        };
        let steps: Vec<_> = paying.iter().map(of_step).filter(|step| !step.is_empty()).collect();
        let limit_of = |treaty: &Treaty| match &treaty.terms {
            TreatyTerms::OccurrenceXl(layer) => layer.layer.attachment,
            // The components of a quota share of several have to be taken together.
            _ if components_of(treaty) > 1 => 0,
            _ => u64::MAX,
        };
        let limits = steps.iter().flatten().map(|&at| limit_of(&treaties[at]));
        let is_occurrence = group.occurrence != Occurrence::Annual;
        let lines = IndexSet(struck.iter().fold(0, |lines, component| lines | 1 << component.line));
        let apart_up_to = limits.min().unwrap_or(u64::MAX);
        Self { components, is_occurrence, lines, apart_up_to, steps }
    }
}
