//! Warnings: what is valid but probably unintended. Whether args are valid does not depend on them.

use std::ops::Range;

use super::{
    args::{GroupArgs, RiskArgs},
    counts::{self, CountArgs},
    families::FamilyArgs,
    highest_moments::{rounded_tail_index, smallest_tail_index},
    listed_severities::ListedSeverityArgs,
    portfolio::{ComponentSeverity, GroupKind, INDEX_UNITS, Portfolio, PortfolioComponent},
    ranges,
    severities::SeverityArgs,
    treaty_args::{TreatyArgs, TreatyTermsArgs},
    treaty_warnings,
};
use crate::{
    severities::SeverityLaw,
    workload::{
        MIN_EXPECTED_BEYOND, is_scarce,
        warning::{Warning, WarningList, grouped},
    },
};
use forge_contract::program::{MAX_AMOUNT, Program};

/// Medians below this many minor units are suspicious: rounding becomes visible.
const MIN_MEDIAN: f64 = 100.0;
/// Means or medians of an index that are plausible.
const USUAL_INDEX: Range<f64> = 0.2..2.0;
/// A coefficient of variation from here on is probably a percentage.
const MIN_UNUSUAL_CV: f64 = 5.0;
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
        warn_about_indices(self, &portfolio, &mut warnings);
        warn_about_capital_level(&portfolio, self.iterations, &mut warnings);
        warn_about_largest_amount(&portfolio, &mut warnings);
        for (number, group) in self.groups.iter().enumerate() {
            warn_about_counts(group, &format!("/groups/{number}/count"), &mut warnings);
            for (index, severity) in severities(group).into_iter().enumerate() {
                warn_about_law(severity, &portfolio.severity_path(number, index), &mut warnings);
            }
            for (index, component) in portfolio.groups[number].components.iter().enumerate() {
                let path = portfolio.severity_path(number, index);
                warn_about_severity(component, portfolio.units, &path, &mut warnings);
                warn_about_tail(&portfolio, number, index, &mut warnings);
                warn_about_low_limit(&portfolio, number, index, &mut warnings);
                if component.range(portfolio.units).max == 0 {
                    let message = match portfolio.groups[number].kind {
                        GroupKind::Events => "is never hit: all losses are 0, or round to 0 minor units",
                        _ => "never pays anything: the terms take off every amount",
                    };
                    warnings.push(&portfolio.component_path(number, index), message);
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

/// Warns of factors that are far from 1: amounts or percentages are probably given as factors.
fn warn_about_indices(args: &RiskArgs, portfolio: &Portfolio, warnings: &mut WarningList) {
    for (number, (index, resolved)) in args.indices.iter().zip(&portfolio.indices).enumerate() {
        let path = format!("/indices/{number}");
        warn_about_law(&index.law, &path, warnings);
        let (figure, value) = match &index.law {
            SeverityArgs::Constant(value) => ("value", *value),
            SeverityArgs::Family(family) => match parameter(family, "mean") {
                Some(mean) => ("mean", mean),
                None => ("median", ranges::median(&family.law)),
            },
            SeverityArgs::Listed(_) => {
                ("mean", resolved.law.typical_amount(INDEX_UNITS) / f64::from(INDEX_UNITS))
            }
        };
        if !USUAL_INDEX.contains(&value) {
            let message = format!(
                "has a {figure} of {value}: an index is a factor, which multiplies the amounts of its components, and \
                 usually near 1; an increase of 2% is 1.02"
            );
            warnings.push(&path, message);
        }
    }
}

/// Warns of parameters of a severity or an index, which are probably meant otherwise.
fn warn_about_law(law: &SeverityArgs, path: &str, warnings: &mut WarningList) {
    match law {
        SeverityArgs::Listed(ListedSeverityArgs::Discrete { probabilities, .. }) => {
            warn_about_sum(probabilities, &format!("{path}/discrete/probabilities"), warnings);
        }
        SeverityArgs::Family(family) => warn_about_variation(family, path, warnings),
        SeverityArgs::Constant(_) | SeverityArgs::Listed(_) => {}
    }
}

/// A parameter of a family, as written.
fn parameter<L>(family: &FamilyArgs<L>, name: &str) -> Option<f64> {
    family.parameters.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

/// Warns of a coefficient of variation that is probably a percentage; `path` is that of the family.
fn warn_about_variation<L>(family: &FamilyArgs<L>, path: &str, warnings: &mut WarningList) {
    if let Some(cv) = parameter(family, "cv").filter(|cv| *cv >= MIN_UNUSUAL_CV) {
        let message = format!(
            "makes the standard deviation {cv} times the mean; if {cv}% is meant, write {}",
            cv / 100.0
        );
        warnings.push(&format!("{path}/{}/cv", family.family), message);
    }
}

/// Warns of a capital requirement beyond whose level too few years are expected.
fn warn_about_capital_level(portfolio: &Portfolio, years: u64, warnings: &mut WarningList) {
    let Some(level) = portfolio.capital.map(|capital| capital.level) else { return };
    if is_scarce(level, years) {
        let message = format!(
            "is {}: of {years} years, fewer than {MIN_EXPECTED_BEYOND} are expected beyond it, so the capital \
             requirement says little; use more iterations",
            level.to_f64()
        );
        warnings.push("/capital/level", message);
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
        GroupArgs::Annual(_) | GroupArgs::Events(_) => return,
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
        GroupArgs::Events(_) => Vec::new(),
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
        let path = format!("{}/limit", portfolio.component_path(group, number));
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
        None => (portfolio.severity_path(group, number), String::new()),
        Some(index) => (
            format!("{}/index", portfolio.component_path(group, number)),
            format!("names {:?}, which ", portfolio.indices[index].name),
        ),
    };
    let message = format!(
        "{subject}has no {moment} (tail index {}) and no limit: {figures} of every amount that this tail enters are \
         null. VaR needs no moment, but is right only below {}, the largest amount there is. A limit, or a treaty \
         that takes the tail, gives them a value",
        rounded_tail_index(tail.value),
        grouped((MAX_AMOUNT / u64::from(portfolio.units)) as f64)
    );
    warnings.push(&path, message);
}
