//! Warnings: what is valid but probably unintended. Whether args are valid does not depend on them.

use std::ops::RangeInclusive;

use super::{
    args::{GroupArgs, RiskArgs},
    checks::{component_path, severity_path},
    counts::{self, CountArgs},
    highest_moments::{rounded_tail_index, smallest_tail_index},
    listed_severities::ListedSeverityArgs,
    portfolio::{ComponentSeverity, GroupKind, Portfolio, PortfolioComponent},
    ranges,
    severities::SeverityArgs,
    treaty_args::{TreatyArgs, TreatyTermsArgs},
    treaty_warnings,
};
use crate::{
    severities::SeverityLaw,
    workload::warning::{Warning, WarningList, grouped},
};
use forge_contract::program::{MAX_AMOUNT, Program};

/// Medians below this many minor units are suspicious: rounding becomes visible.
const MIN_MEDIAN: f64 = 100.0;
/// Medians of an index that are plausible.
const USUAL_INDEX: RangeInclusive<f64> = 0.2..=5.0;
/// The largest amount should be at least this many typical years.
const TYPICAL_YEARS_BELOW_LARGEST: f64 = 1000.0;
/// Above this sigma, a noticeable part of a lognormal mean lies beyond the largest draw.
const MAX_SIGMA: f64 = 5.0;
/// Weights are taken for probabilities if their sum differs from 1 by less.
const SUM_TOLERANCE: f64 = 1e-6;

impl RiskArgs {
    /// Warnings about valid args, which were compiled to this program.
    pub fn warnings(&self, program: &Program) -> Vec<Warning> {
        let portfolio = self.portfolio();
        let mut warnings = WarningList::default();
        warn_about_unused_names(&portfolio, &mut warnings);
        warn_about_indices(&portfolio, &mut warnings);
        warn_about_largest_amount(&portfolio, &mut warnings);
        for (number, group) in self.groups.iter().enumerate() {
            warn_about_counts(group, &format!("/groups/{number}/count"), &mut warnings);
            for (index, severity) in severities(group).into_iter().enumerate() {
                if let SeverityArgs::Listed(ListedSeverityArgs::Discrete { probabilities, .. }) = severity {
                    let path = severity_path(&portfolio, number, index);
                    warn_about_sum(probabilities, &format!("{path}/discrete/probabilities"), &mut warnings);
                }
            }
            for (index, component) in portfolio.groups[number].components.iter().enumerate() {
                let path = severity_path(&portfolio, number, index);
                warn_about_severity(component, portfolio.units, &path, &mut warnings);
                warn_about_tail(&portfolio, number, index, &mut warnings);
                warn_about_low_limit(&portfolio, number, index, &mut warnings);
                if component.range(portfolio.units).max == 0 {
                    warnings.push(
                        &component_path(&portfolio, number, index),
                        "never pays anything: the terms take off every amount",
                    );
                }
            }
        }
        for (number, treaty) in self.treaties.iter().enumerate() {
            warn_about_annual_limit(treaty, &format!("/treaties/{number}/aal"), &mut warnings);
        }
        treaty_warnings::warn(&portfolio, program, &mut warnings);
        warnings.into_warnings()
    }
}

fn warn_about_unused_names(portfolio: &Portfolio, warnings: &mut WarningList) {
    let components = || portfolio.groups.iter().flat_map(|group| &group.components);
    for line in 0..portfolio.lines.len() {
        if !components().any(|component| component.line == line) {
            warnings.push(&format!("/lines/{line}"), "has no component: its losses are always 0");
        }
    }
    for index in 0..portfolio.indices.len() {
        if !components().any(|component| component.index == Some(index)) {
            warnings.push(&format!("/indices/{index}"), "is not used by any component");
        }
    }
}

/// Warns of factors that are far from 1: amounts are probably given in the wrong place.
fn warn_about_indices(portfolio: &Portfolio, warnings: &mut WarningList) {
    for (number, index) in portfolio.indices.iter().enumerate() {
        let median = ranges::median(&index.law);
        if !USUAL_INDEX.contains(&median) {
            let message = format!(
                "has a median of {median}: an index is a factor, which multiplies the amounts of its components, and \
                 usually near 1"
            );
            warnings.push(&format!("/indices/{number}"), message);
        }
    }
}

/// Warns of portfolios whose typical year is not far below the largest amount.
fn warn_about_largest_amount(portfolio: &Portfolio, warnings: &mut WarningList) {
    let typical_year = portfolio.groups.iter().fold(0.0, |sum, group| {
        let size = |component: &PortfolioComponent| {
            let amount = component.severity.typical_amount(portfolio.units);
            component.weight * amount.min(component.limit as f64)
        };
        let amounts = group.components.iter().fold(0.0, |sum, component| sum + size(component));
        let weights = group.components.iter().fold(0.0, |sum, component| sum + component.weight);
        let a_claim = if group.kind == GroupKind::Claims { amounts / weights } else { amounts };
        let occurrences = if group.kind == GroupKind::Annual { 1.0 } else { counts::mean(&group.counts) };
        sum + occurrences * a_claim
    });
    if typical_year > MAX_AMOUNT as f64 / TYPICAL_YEARS_BELOW_LARGEST {
        let units = f64::from(portfolio.units);
        let message = format!(
            "give {:e} in a typical year: amounts above {:e}, the largest there is, are cut to it; use fewer \
             `decimals`, or a larger unit",
            typical_year / units,
            MAX_AMOUNT as f64 / units
        );
        warnings.push("/groups", message);
    }
}

/// Warns of an annual aggregate limit that is above what limit and reinstatements allow.
fn warn_about_annual_limit(treaty: &TreatyArgs, path: &str, warnings: &mut WarningList) {
    let TreatyTermsArgs::OccurrenceXl(terms) = &treaty.terms else { return };
    let (Some(aal), Some(limit), Some(prices)) = (terms.aal, terms.limit, &terms.reinstatements) else {
        return;
    };
    let capacity = limit * (1 + prices.len()) as f64;
    if aal > capacity {
        let message =
            format!("has no effect: limit and reinstatements allow at most {} a year", grouped(capacity));
        warnings.push(path, message);
    }
}

fn warn_about_counts(group: &GroupArgs, path: &str, warnings: &mut WarningList) {
    let count = match group {
        GroupArgs::Annual(_) => return,
        GroupArgs::Claims(group) => &group.count,
        GroupArgs::Strikes(group) => &group.count,
    };
    if counts::mean(&count.counts()) == 0.0 {
        warnings.push(path, "is always 0: the group has no occurrences");
    }
    let (weights, path) = match count {
        CountArgs::Discrete(weights) => (weights, format!("{path}/discrete/probabilities")),
        CountArgs::ZeroModified { of, .. } => match &**of {
            CountArgs::Discrete(weights) => {
                (weights, format!("{path}/zero_modified/of/discrete/probabilities"))
            }
            _ => return,
        },
        CountArgs::Family(_) => return,
    };
    warn_about_sum(weights, &path, warnings);
}

/// Warns of probabilities that do not add up to 1.
fn warn_about_sum(weights: &[f64], path: &str, warnings: &mut WarningList) {
    let sum: f64 = weights.iter().sum();
    if (sum - 1.0).abs() > SUM_TOLERANCE {
        warnings.push(path, format!("add up to {sum}, not to 1: they are taken as relative weights"));
    }
}

/// The severities of a group's components, as written.
fn severities(group: &GroupArgs) -> Vec<&SeverityArgs> {
    match group {
        GroupArgs::Annual(group) => group.annual.iter().map(|component| &component.amount).collect(),
        GroupArgs::Claims(group) => group.claims.iter().map(|component| &component.severity).collect(),
        GroupArgs::Strikes(group) => group.strikes.iter().map(|component| &component.severity).collect(),
    }
}

fn warn_about_severity(component: &PortfolioComponent, units: u32, path: &str, warnings: &mut WarningList) {
    let median = match &component.severity {
        ComponentSeverity::Law(law) => ranges::median(law) * f64::from(units),
        ComponentSeverity::Constant(amount) if *amount > 0 => *amount as f64,
        // Their amounts are given one by one.
        _ => MIN_MEDIAN,
    };
    if median < MIN_MEDIAN {
        warnings.push(
            path,
            format!(
                "has a median of {median:.3} minor units: amounts are rounded to whole minor units; raise \
                 `decimals`, or give amounts in a smaller unit"
            ),
        );
    }
    if component.limit < MAX_AMOUNT {
        return;
    }
    if let ComponentSeverity::Law(SeverityLaw::Lognormal { sigma, .. }) = &component.severity
        && *sigma > MAX_SIGMA
    {
        let message = format!(
            "has a sigma of {sigma}: above {MAX_SIGMA}, a noticeable part of the mean lies beyond the largest draw"
        );
        warnings.push(path, message);
    }
}

/// Warns of a limit below the smallest amount of a law, such as the threshold of a Pareto law.
fn warn_about_low_limit(portfolio: &Portfolio, group: usize, number: usize, warnings: &mut WarningList) {
    let component = &portfolio.groups[group].components[number];
    let is_drawn = matches!(component.severity, ComponentSeverity::Law(_));
    let range = component.range(portfolio.units);
    if is_drawn && component.limit < MAX_AMOUNT && range.min > 0 && range.min == range.max {
        let path = format!("{}/limit", component_path(portfolio, group, number));
        warnings
            .push(&path, "is at most the smallest amount of the severity: every claim is cut to the limit");
    }
}

/// Warns of a tail without a mean or a variance that no limit cuts.
fn warn_about_tail(portfolio: &Portfolio, group: usize, number: usize, warnings: &mut WarningList) {
    let component = &portfolio.groups[group].components[number];
    let Some(tail) = smallest_tail_index(portfolio, component).filter(|tail| tail.value <= 2.0) else {
        return;
    };
    let (moment, figures) = match tail.value <= 1.0 {
        true => ("mean", "means, standard deviations and TVaR"),
        false => ("variance", "standard deviations, standard errors and intervals of TVaR"),
    };
    let (path, subject) = match tail.factor {
        None => (severity_path(portfolio, group, number), String::new()),
        Some(index) => (
            format!("{}/index", component_path(portfolio, group, number)),
            format!("names {:?}, which ", portfolio.indices[index].name),
        ),
    };
    let message = format!(
        "{subject}has no {moment} (tail index {}) and no limit: {figures} of every amount that this tail enters are \
         null; VaR is unaffected. A limit, or a treaty that takes the tail, gives them a value",
        rounded_tail_index(tail.value)
    );
    warnings.push(&path, message);
}
