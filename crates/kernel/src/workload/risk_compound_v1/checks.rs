//! Errors of args that are each valid: what fields of several components or treaties mean together.

use forge_contract::{program::MAX_AMOUNT, strict::ObjectReader};

use super::{
    args::RiskArgs,
    counts,
    highest_moments::{HighestMoments, rounded_tail_index},
    portfolio::{GroupKind, INDEX_UNITS, Portfolio, PortfolioTreaty},
};
use crate::{
    convergence::{Convergence, Metric},
    treaties::{Proportion, TreatyTerms},
};

/// Largest median of an index.
const MAX_INDEX_MEDIAN: f64 = 1e6;

/// Records the errors of args together, as far as they can be decided: parts that have errors
/// already take no part.
pub(super) fn check(args: &RiskArgs, object: &mut ObjectReader<'_, '_>) {
    let portfolio = args.portfolio();
    let valid = ValidParts::new(args, &portfolio, object);
    check_indices(&portfolio, &valid, object);
    check_sizes(&portfolio, &valid, object);
    check_treaties(&portfolio, &valid, object);
    check_convergence(args, &portfolio, &valid, object);
}

/// Which parts of args have no errors.
struct ValidParts {
    decimals: bool,
    indices: Vec<bool>,
    /// For each group, its number of occurrences.
    counts: Vec<bool>,
    /// For each group, its components.
    components: Vec<Vec<bool>>,
    /// For each group, the names of its components' lines.
    lines: Vec<Vec<bool>>,
    /// For each treaty, what places it among the others: kind, step and covered lines.
    positions: Vec<bool>,
    /// For each treaty, what it covers and what it cedes.
    cessions: Vec<bool>,
    /// Whether all groups and all components are known, with the names of groups and lines.
    all_lines: bool,
    all_treaties: bool,
}

impl ValidParts {
    fn new(args: &RiskArgs, portfolio: &Portfolio, object: &ObjectReader<'_, '_>) -> Self {
        let is_valid = |path: &str| !object.has_error_within(path);
        let of_components = |field: &str| {
            let groups = portfolio.groups.iter().enumerate();
            let paths = groups.map(|(number, group)| {
                let components = 0..group.components.len();
                let path = |at| format!("{}{field}", portfolio.component_path(number, at));
                components.map(|at| is_valid(&path(at))).collect()
            });
            paths.collect::<Vec<Vec<bool>>>()
        };
        let are_groups_named = (0..portfolio.groups.len()).all(|at| is_valid(&format!("/groups/{at}/name")));
        let of_treaties = |fields: &[&str]| {
            let are_valid =
                |number: usize| fields.iter().all(|field| is_valid(&format!("/treaties/{number}/{field}")));
            (0..portfolio.treaties.len()).map(are_valid).collect::<Vec<bool>>()
        };
        let lines = of_components("/line");
        // Groups and components that are missing in the portfolio were no objects.
        let is_complete =
            |number: usize| !lines[number].is_empty() && !object.has_error_at(&format!("/groups/{number}"));
        let all_lines = are_groups_named
            && !lines.is_empty()
            && !args.lines.is_empty()
            && (0..lines.len()).all(|number| is_complete(number) && lines[number].iter().all(|valid| *valid));
        let mut cessions = of_treaties(&["kind", "step", "covers", "groups", "cession", "event_limit"]);
        for (is_valid, treaty) in cessions.iter_mut().zip(&args.treaties) {
            *is_valid &= are_groups_named || treaty.groups.is_none();
        }
        Self {
            decimals: is_valid("/decimals"),
            indices: (0..portfolio.indices.len()).map(|at| is_valid(&format!("/indices/{at}"))).collect(),
            counts: (0..lines.len())
                .map(|at| {
                    let fields = ["count", "events/rates", "events/frequency"];
                    fields.iter().all(|field| is_valid(&format!("/groups/{at}/{field}")))
                })
                .collect(),
            components: of_components(""),
            positions: of_treaties(&["kind", "step", "covers"]),
            cessions,
            all_treaties: is_valid("/treaties"),
            all_lines,
            lines,
        }
    }

    /// The pairs of group and line that a treaty covers and a component has.
    fn covered_pairs(&self, portfolio: &Portfolio, treaty: &PortfolioTreaty) -> Vec<(usize, usize)> {
        let is_known = |&(group, line): &(usize, usize)| {
            let components = portfolio.groups[group].components.iter().zip(&self.lines[group]);
            components.into_iter().any(|(component, is_known)| *is_known && component.line == line)
        };
        covered_pairs(portfolio, treaty).into_iter().filter(is_known).collect()
    }
}

fn check_treaties(portfolio: &Portfolio, valid: &ValidParts, object: &mut ObjectReader<'_, '_>) {
    for (number, treaty) in portfolio.treaties.iter().enumerate() {
        let path = format!("/treaties/{number}");
        let others = portfolio.treaties.iter().zip(&valid.positions).filter(|(_, valid)| **valid);
        let others: Vec<_> = others.map(|(other, _)| other).collect();
        if valid.positions[number]
            && let Some(message) = needs_the_end_of_the_year(treaty, &others)
        {
            object.error_at(&format!("{path}/step"), message);
        }
        if !valid.cessions[number] {
            continue;
        }
        if valid.all_lines && covered_pairs(portfolio, treaty).is_empty() {
            let message = "covers nothing: no component of its groups has one of these lines";
            object.error_at(&format!("{path}/covers"), message);
        }
        let earlier = portfolio.treaties[..=number].iter().zip(&valid.cessions);
        let earlier: Vec<_> = earlier.filter(|(_, valid)| **valid).map(|(treaty, _)| treaty).collect();
        let pairs = valid.covered_pairs(portfolio, treaty);
        if let Some(message) = cedes_too_much(portfolio, treaty, &pairs, &earlier) {
            object.error_at(&format!("{path}/cession"), message);
        }
    }
}

/// Refuses to test the precision of a figure of the net annual loss that has no interval.
fn check_convergence(
    args: &RiskArgs,
    portfolio: &Portfolio,
    valid: &ValidParts,
    object: &mut ObjectReader<'_, '_>,
) {
    let needs_variance = |convergence: &Convergence| convergence.metric != Metric::Var;
    let is_tested = args.convergence.as_ref().is_some_and(needs_variance);
    if !is_tested || object.has_error_within("/convergence") || !valid.all_treaties {
        return;
    }
    let moments = HighestMoments::new(portfolio);
    let tail = moments.heaviest_net_tail(|tail| {
        valid.components[tail.group][tail.component] && tail.index.factor.is_none_or(|at| valid.indices[at])
    });
    let Some(tail) = tail.filter(|tail| tail.index.value <= 2.0) else { return };
    let path = match tail.index.factor {
        Some(index) => format!("/indices/{index}"),
        None => portfolio.severity_path(tail.group, tail.component),
    };
    let message = format!(
        "needs a variance, which the net annual loss does not have (/args{path}, tail index {}); use a quantile, or \
         give a limit",
        rounded_tail_index(tail.index.value)
    );
    object.error_at("/convergence/metric", message);
}

fn check_indices(portfolio: &Portfolio, valid: &ValidParts, object: &mut ObjectReader<'_, '_>) {
    for (number, index) in portfolio.indices.iter().enumerate() {
        let typical = index.law.typical_amount(INDEX_UNITS) / f64::from(INDEX_UNITS);
        if valid.indices[number] && typical > MAX_INDEX_MEDIAN {
            let message = format!("must have a median of at most {MAX_INDEX_MEDIAN}; it is {typical:e}");
            object.error_at(&format!("/indices/{number}"), message);
        }
    }
}

/// Refuses components most of whose amounts would saturate, unless a limit applies.
fn check_sizes(portfolio: &Portfolio, valid: &ValidParts, object: &mut ObjectReader<'_, '_>) {
    for (number, group) in portfolio.groups.iter().enumerate() {
        if !valid.decimals || !valid.counts[number] {
            continue;
        }
        let expected = counts::mean(&group.counts).max(1.0);
        for (at, component) in group.components.iter().enumerate() {
            let typical = component.severity.typical_amount(portfolio.units);
            let is_large = component.limit == MAX_AMOUNT && typical * expected >= MAX_AMOUNT as f64;
            if is_large && valid.components[number][at] {
                let remedy = match group.kind {
                    GroupKind::Events => "use a larger unit, or fewer decimals",
                    _ => "lower it, or give a limit or fewer decimals",
                };
                let message = format!(
                    "is too large: most years would exceed the largest representable amount, {}; {remedy}",
                    MAX_AMOUNT as f64 / f64::from(portfolio.units)
                );
                object.error_at(&portfolio.severity_path(number, at), message);
            }
        }
    }
}

/// The pairs of group and line that a treaty covers and a component has.
pub(super) fn covered_pairs(portfolio: &Portfolio, treaty: &PortfolioTreaty) -> Vec<(usize, usize)> {
    let covers = &treaty.treaty;
    let groups = portfolio.groups.iter().enumerate().filter(|(index, _)| covers.groups.contains(*index));
    let pairs = groups.flat_map(|(index, group)| group.components.iter().map(move |c| (index, c.line)));
    let mut pairs: Vec<_> = pairs.filter(|(_, line)| covers.lines.contains(*line)).collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

/// The message for a treaty by occurrence after a treaty on the year's amount of a common line.
fn needs_the_end_of_the_year(treaty: &PortfolioTreaty, others: &[&PortfolioTreaty]) -> Option<String> {
    if is_aggregate(treaty) {
        return None;
    }
    let inuring = others.iter().find(|other| {
        is_aggregate(other)
            && other.treaty.step < treaty.treaty.step
            && other.treaty.lines.0 & treaty.treaty.lines.0 != 0
    })?;
    Some(format!(
        "must not be after step {}, the step of {:?}, which covers a common line: what an aggregate treaty leaves \
         of an occurrence is known only when the year has ended",
        inuring.treaty.step, inuring.name
    ))
}

fn is_aggregate(treaty: &PortfolioTreaty) -> bool {
    matches!(treaty.treaty.terms, TreatyTerms::AggregateXl { .. })
}

/// The message for a quota share that together with earlier ones of its step cedes more than there
/// is of a line's amount of a group, one of `pairs`. Those with an event limit do not count: it may
/// keep the sum below.
fn cedes_too_much(
    portfolio: &Portfolio,
    treaty: &PortfolioTreaty,
    pairs: &[(usize, usize)],
    earlier: &[&PortfolioTreaty],
) -> Option<String> {
    fixed_cession(treaty)?;
    let of_step: Vec<_> = earlier.iter().filter(|other| other.treaty.step == treaty.treaty.step).collect();
    pairs.iter().find_map(|&(group, line)| {
        let covering = of_step
            .iter()
            .filter(|other| other.treaty.groups.contains(group) && other.treaty.lines.contains(line));
        let total: u64 = covering.filter_map(|other| fixed_cession(other)).map(|c| u64::from(c.0)).sum();
        (total > u64::from(Proportion::ONE.0)).then(|| {
            format!(
                "makes the quota shares of step {} cede {} of line {:?}: they must cede at most 1",
                treaty.treaty.step,
                total as f64 / f64::from(Proportion::ONE.0),
                portfolio.lines[line]
            )
        })
    })
}

fn fixed_cession(treaty: &PortfolioTreaty) -> Option<Proportion> {
    match treaty.treaty.terms {
        TreatyTerms::QuotaShare { cession, event_limit: MAX_AMOUNT } => Some(cession),
        _ => None,
    }
}
