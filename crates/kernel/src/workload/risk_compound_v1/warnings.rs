//! Warnings: what is legal, but hardly meant. Whether args are valid does not depend on them.

use super::{
    args::{GroupArgs, RiskArgs},
    checks::{component_path, severity_path},
    counts::{self, CountArgs},
    portfolio::{ComponentSeverity, Portfolio, PortfolioComponent},
    ranges, treaty_warnings,
    warning::{Warning, WarningList},
};
use crate::severities::SeverityLaw;
use forge_contract::program::MAX_AMOUNT;

/// Medians below this many minor units are suspicious: rounding becomes visible.
const MIN_MEDIAN: f64 = 100.0;
/// Above this sigma, a noticeable part of a lognormal mean lies beyond the largest draw.
const MAX_SIGMA: f64 = 5.0;
/// Weights are taken for probabilities if their sum differs from 1 by less.
const SUM_TOLERANCE: f64 = 1e-6;

impl RiskArgs {
    /// Warnings about valid args.
    pub fn warnings(&self) -> Vec<Warning> {
        let portfolio = self.portfolio();
        let mut warnings = WarningList::default();
        warn_about_unused_names(&portfolio, &mut warnings);
        for (number, group) in self.groups.iter().enumerate() {
            warn_about_counts(group, &format!("/groups/{number}/count"), &mut warnings);
            for (index, component) in portfolio.groups[number].components.iter().enumerate() {
                let path = severity_path(&portfolio, number, index);
                warn_about_severity(component, portfolio.units, &path, &mut warnings);
                if component.range(portfolio.units).max == 0 {
                    warnings.push(
                        &component_path(&portfolio, number, index),
                        "never pays anything: the terms take off every amount",
                    );
                }
            }
        }
        treaty_warnings::warn(&portfolio, &mut warnings);
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
    let sum: f64 = weights.iter().sum();
    if (sum - 1.0).abs() > SUM_TOLERANCE {
        warnings.push(&path, format!("add up to {sum}, not to 1: they are taken as relative weights"));
    }
}

fn warn_about_severity(component: &PortfolioComponent, units: u32, path: &str, warnings: &mut WarningList) {
    let ComponentSeverity::Law(law) = &component.severity else { return };
    let median = ranges::median(law) * f64::from(units);
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
    match (law, ranges::tail_index(law)) {
        (_, Some(alpha)) if alpha <= 1.0 => warnings.push(
            path,
            format!(
                "has no mean (tail index {alpha}), and no limit applies: means, standard deviations and tail \
                 values at risk that it enters are not reported"
            ),
        ),
        (_, Some(alpha)) if alpha <= 2.0 => warnings.push(
            path,
            format!(
                "has no variance (tail index {alpha}), and no limit applies: standard deviations and standard \
                 errors do not settle as iterations increase"
            ),
        ),
        (SeverityLaw::Lognormal { sigma, .. }, _) if *sigma > MAX_SIGMA => warnings.push(
            path,
            format!("has a sigma of {sigma}: above {MAX_SIGMA}, a noticeable part of the mean lies beyond the largest draw"),
        ),
        _ => {}
    }
}
