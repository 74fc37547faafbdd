//! Which moments the amounts of a portfolio have. A distribution without a mean or a variance is
//! legal below a limit or a treaty that takes its tail; where it enters an amount without bound,
//! figures that need the moment are null (docs/determinism.md, section 11.1). Which these are
//! follows from the portfolio alone.

use forge_contract::program::MAX_AMOUNT;

use super::{
    portfolio::{ComponentSeverity, GroupKind, Portfolio, PortfolioComponent, PortfolioTreaty},
    ranges::tail_index,
};
use crate::{
    summary::HighestMoment,
    treaties::{Proportion, TreatyTerms},
};

/// A component without a limit whose distribution, or whose index, has a heavy tail.
#[derive(Clone, Copy)]
struct HeavyTail {
    group: usize,
    line: usize,
    is_annual: bool,
    /// The amount exceeds x with a probability in proportion to x to the power of minus this.
    index: f64,
}

/// The moments of a portfolio's amounts.
pub struct HighestMoments<'a> {
    portfolio: &'a Portfolio,
    tails: Vec<HeavyTail>,
}

impl<'a> HighestMoments<'a> {
    /// The moments of the amounts of this portfolio.
    pub fn new(portfolio: &'a Portfolio) -> Self {
        let groups = portfolio.groups.iter().enumerate();
        let components = groups.flat_map(|(group, g)| g.components.iter().map(move |c| (group, g.kind, c)));
        let tails = components.filter(|(_, _, component)| component.limit >= MAX_AMOUNT);
        let tails = tails.filter_map(|(group, kind, component)| {
            let index = smallest_tail_index(portfolio, component)?;
            Some(HeavyTail { group, line: component.line, is_annual: kind == GroupKind::Annual, index })
        });
        Self { portfolio, tails: tails.collect() }
    }

    /// Of the sum of all lines before treaties.
    pub fn gross(&self) -> HighestMoment {
        self.of(|_| true)
    }

    /// Of a line before treaties.
    pub fn line(&self, line: usize) -> HighestMoment {
        self.of(|tail| tail.line == line)
    }

    /// Of the largest occurrence, before treaties.
    pub fn largest(&self) -> HighestMoment {
        self.of(|tail| !tail.is_annual)
    }

    /// Of the sum of all lines after the treaties of a step and of those before it.
    pub fn after_step(&self, step: u32) -> HighestMoment {
        self.of(|tail| !self.is_taken(tail, |treaty| treaty.treaty.step <= step))
    }

    /// Of the sum of all lines after all treaties.
    pub fn net(&self) -> HighestMoment {
        self.after_step(u32::MAX)
    }

    /// Of what a treaty pays in a year.
    pub fn ceded(&self, treaty: &PortfolioTreaty) -> HighestMoment {
        let is_before = |other: &PortfolioTreaty| other.treaty.step < treaty.treaty.step;
        self.of(|tail| !is_limited(treaty) && applies(treaty, tail) && !self.is_taken(tail, is_before))
    }

    /// Whether a group's gross amount has the moment of this order.
    pub fn group_has(&self, group: usize, order: u32) -> bool {
        self.tails.iter().filter(|tail| tail.group == group).all(|tail| tail.index > f64::from(order))
    }

    /// The highest moment of an amount that these heavy tails enter.
    fn of(&self, enters: impl Fn(&HeavyTail) -> bool) -> HighestMoment {
        let indices = self.tails.iter().filter(|tail| enters(tail)).map(|tail| tail.index);
        match indices.fold(f64::INFINITY, f64::min) {
            index if index <= 1.0 => HighestMoment::None,
            index if index <= 2.0 => HighestMoment::Mean,
            _ => HighestMoment::Variance,
        }
    }

    /// Whether one of these treaties takes everything of a tail above some amount.
    fn is_taken(&self, tail: &HeavyTail, counts: impl Fn(&PortfolioTreaty) -> bool) -> bool {
        self.portfolio.treaties.iter().any(|treaty| counts(treaty) && takes(treaty, tail))
    }
}

fn smallest_tail_index(portfolio: &Portfolio, component: &PortfolioComponent) -> Option<f64> {
    let law = match &component.severity {
        ComponentSeverity::Law(law) => tail_index(law),
        _ => None,
    };
    let index = component.index.and_then(|index| tail_index(&portfolio.indices[index].law));
    law.into_iter().chain(index).reduce(f64::min)
}

/// Whether a limit bounds what a treaty pays in a year, up to the number of occurrences.
fn is_limited(treaty: &PortfolioTreaty) -> bool {
    match &treaty.treaty.terms {
        TreatyTerms::QuotaShare { event_limit, .. } => *event_limit < MAX_AMOUNT,
        TreatyTerms::OccurrenceXl(layer) => layer.layer.limit < MAX_AMOUNT || layer.annual.limit < MAX_AMOUNT,
        TreatyTerms::AggregateXl { layer, .. } => layer.limit < MAX_AMOUNT,
    }
}

/// Whether a treaty applies to a component.
fn applies(treaty: &PortfolioTreaty, tail: &HeavyTail) -> bool {
    let is_of_years = match &treaty.treaty.terms {
        TreatyTerms::QuotaShare { event_limit, .. } => *event_limit >= MAX_AMOUNT,
        TreatyTerms::OccurrenceXl(_) => false,
        TreatyTerms::AggregateXl { .. } => true,
    };
    (is_of_years || !tail.is_annual)
        && treaty.treaty.lines.contains(tail.line)
        && treaty.treaty.groups.contains(tail.group)
}

/// Whether a treaty takes everything of a component above some amount.
fn takes(treaty: &PortfolioTreaty, tail: &HeavyTail) -> bool {
    let is_whole = match &treaty.treaty.terms {
        TreatyTerms::QuotaShare { cession, .. } => *cession == Proportion::ONE,
        TreatyTerms::OccurrenceXl(layer) => [layer.cession, layer.placed] == [Proportion::ONE; 2],
        TreatyTerms::AggregateXl { placed, .. } => *placed == Proportion::ONE,
    };
    is_whole && !is_limited(treaty) && applies(treaty, tail)
}
