//! Errors of args that are each valid: what fields of several components or treaties mean together.

use forge_contract::{program::MAX_AMOUNT, strict::ObjectReader};

use super::{
    args::RiskArgs,
    counts,
    highest_moments::{HighestMoments, rounded_tail_index},
    portfolio::{GroupKind, Portfolio, PortfolioTreaty},
    ranges::typical_amount,
};
use crate::{
    convergence::{Convergence, Metric},
    treaties::{Proportion, TreatyTerms},
};

/// Largest median of an index.
const MAX_INDEX_MEDIAN: f64 = 1e6;

/// Records the errors of args together. Parts of the args that have errors already are left out.
pub(super) fn check(args: &RiskArgs, object: &mut ObjectReader<'_, '_>) {
    if ["/lines", "/indices", "/groups", "/decimals"].iter().any(|path| object.has_error_within(path)) {
        return;
    }
    let portfolio = args.portfolio();
    check_indices(&portfolio, object);
    check_sizes(&portfolio, object);
    let has_errors: Vec<bool> = (0..portfolio.treaties.len())
        .map(|index| object.has_error_within(&format!("/treaties/{index}")))
        .collect();
    for (index, treaty) in portfolio.treaties.iter().enumerate() {
        if has_errors[index] {
            continue;
        }
        if !covers_anything(&portfolio, treaty) {
            let message = "covers nothing: no component of its groups has one of these lines";
            object.error_at(&format!("/treaties/{index}/covers"), message);
        }
        let others = portfolio.treaties.iter().zip(&has_errors).filter(|(_, has_errors)| !**has_errors);
        let others: Vec<_> = others.map(|(other, _)| other).collect();
        if let Some(message) = needs_the_end_of_the_year(treaty, &others) {
            object.error_at(&format!("/treaties/{index}/step"), message);
        }
        let earlier = portfolio.treaties[..=index].iter().zip(&has_errors);
        let earlier: Vec<_> = earlier.filter(|(_, has_errors)| !**has_errors).map(|(t, _)| t).collect();
        if let Some(message) = cedes_too_much(&portfolio, treaty, &earlier) {
            object.error_at(&format!("/treaties/{index}/cession"), message);
        }
    }
    check_convergence(args, &portfolio, object);
}

/// Refuses to test the precision of a figure of the net annual loss that has no interval.
fn check_convergence(args: &RiskArgs, portfolio: &Portfolio, object: &mut ObjectReader<'_, '_>) {
    let needs_variance = |convergence: &Convergence| convergence.metric != Metric::Var;
    let is_tested = args.convergence.as_ref().is_some_and(needs_variance);
    if !is_tested || object.has_error_within("/convergence") || object.has_error_within("/treaties") {
        return;
    }
    let moments = HighestMoments::new(portfolio);
    let Some(tail) = moments.heaviest_net_tail().filter(|tail| tail.index.value <= 2.0) else { return };
    let path = match tail.index.factor {
        Some(index) => format!("/indices/{index}"),
        None => severity_path(portfolio, tail.group, tail.component),
    };
    let message = format!(
        "needs a variance, which the net annual loss does not have (/args{path}, tail index {}); use a quantile, or \
         give a limit",
        rounded_tail_index(tail.index.value)
    );
    object.error_at("/convergence/metric", message);
}

/// The path of a component, relative to the args.
pub(super) fn component_path(portfolio: &Portfolio, group: usize, component: usize) -> String {
    let list = match portfolio.groups[group].kind {
        GroupKind::Annual => "annual",
        GroupKind::Claims => "claims",
        GroupKind::Strikes => "strikes",
    };
    format!("/groups/{group}/{list}/{component}")
}

/// The path of a component's severity, relative to the args.
pub(super) fn severity_path(portfolio: &Portfolio, group: usize, component: usize) -> String {
    let field = if portfolio.groups[group].kind == GroupKind::Annual { "amount" } else { "severity" };
    format!("{}/{field}", component_path(portfolio, group, component))
}

fn check_indices(portfolio: &Portfolio, object: &mut ObjectReader<'_, '_>) {
    for (number, index) in portfolio.indices.iter().enumerate() {
        let typical = typical_amount(&index.law);
        if typical > MAX_INDEX_MEDIAN {
            let message = format!("must have a median of at most {MAX_INDEX_MEDIAN}; it is {typical:e}");
            object.error_at(&format!("/indices/{number}"), message);
        }
    }
}

/// Refuses components most of whose amounts would saturate, unless a limit applies.
fn check_sizes(portfolio: &Portfolio, object: &mut ObjectReader<'_, '_>) {
    for (number, group) in portfolio.groups.iter().enumerate() {
        let expected = counts::mean(&group.counts).max(1.0);
        for (index, component) in group.components.iter().enumerate() {
            let typical = component.severity.typical_amount(portfolio.units);
            if component.limit == MAX_AMOUNT && typical * expected >= MAX_AMOUNT as f64 {
                let message = format!(
                    "is too large: most years would exceed the largest representable amount, {}; lower it, or give \
                     a limit or fewer decimals",
                    MAX_AMOUNT as f64 / f64::from(portfolio.units)
                );
                object.error_at(&severity_path(portfolio, number, index), message);
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

fn covers_anything(portfolio: &Portfolio, treaty: &PortfolioTreaty) -> bool {
    !covered_pairs(portfolio, treaty).is_empty()
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
/// is of a line's amount of a group. Those with an event limit do not count: it may keep the sum
/// below.
fn cedes_too_much(
    portfolio: &Portfolio,
    treaty: &PortfolioTreaty,
    earlier: &[&PortfolioTreaty],
) -> Option<String> {
    fixed_cession(treaty)?;
    let of_step: Vec<_> = earlier.iter().filter(|other| other.treaty.step == treaty.treaty.step).collect();
    covered_pairs(portfolio, treaty).into_iter().find_map(|(group, line)| {
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
