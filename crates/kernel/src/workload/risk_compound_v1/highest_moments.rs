//! Which moments the amounts of a portfolio have. A distribution without a mean or a variance is
//! legal below a limit or a treaty that takes its tail; where it enters an amount without bound,
//! figures that need the moment are null (docs/determinism.md, section 11.1). Which these are
//! follows from the portfolio alone.

use forge_contract::{occurrence_subject::OccurrenceSubject, program::MAX_AMOUNT};

use super::portfolio::{GroupKind, Portfolio, PortfolioComponent, PortfolioTreaty};
use crate::{
    summary::HighestMoment,
    treaties::{Proportion, TreatyTerms},
};

/// The heaviest tail that enters the amounts of a component.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TailIndex {
    /// The amount exceeds x with a probability in proportion to x to the power of minus this.
    pub value: f64,
    /// Number of the index whose factor has this tail; `None` if it is that of the severity.
    pub factor: Option<usize>,
}

/// A component without a limit whose distribution, or whose index, has a heavy tail.
#[derive(Clone, Copy)]
pub struct HeavyTail {
    /// Number of the component's group.
    pub group: usize,
    /// Number of the component in its group.
    pub component: usize,
    /// Its tail index.
    pub index: TailIndex,
    line: usize,
    is_annual: bool,
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
        let tails = groups.flat_map(|(number, group)| {
            let is_annual = group.kind == GroupKind::Annual;
            group.components.iter().enumerate().filter_map(move |(position, component)| {
                let index = smallest_tail_index(portfolio, component)?;
                let line = component.line;
                Some(HeavyTail { group: number, component: position, index, line, is_annual })
            })
        });
        Self { portfolio, tails: tails.collect() }
    }

    /// Of the sum of all lines before treaties.
    pub fn gross(&self) -> HighestMoment {
        self.of(|_| true)
    }

    /// Of a group before treaties.
    pub fn group(&self, group: usize) -> HighestMoment {
        self.of(|tail| tail.group == group)
    }

    /// Of a line before treaties.
    pub fn line(&self, line: usize) -> HighestMoment {
        self.of(|tail| tail.line == line)
    }

    /// Of the largest occurrence of a subject.
    pub fn largest(&self, subject: OccurrenceSubject) -> HighestMoment {
        let pays = |treaty: &PortfolioTreaty| {
            let is_annual = matches!(treaty.treaty.terms, TreatyTerms::AggregateXl { .. });
            !is_annual && treaty.treaty.step <= subject.step
        };
        self.of(|tail| {
            !tail.is_annual
                && subject.lines.contains(tail.line)
                && subject.groups.contains(tail.group)
                && !self.is_taken(tail, pays)
        })
    }

    /// Of the sum of all lines after the treaties of a step and of those before it.
    pub fn after_step(&self, step: u32) -> HighestMoment {
        self.of(|tail| !self.is_taken(tail, |treaty| treaty.treaty.step <= step))
    }

    /// Of the sum of all lines after all treaties.
    pub fn net(&self) -> HighestMoment {
        self.after_step(u32::MAX)
    }

    /// The heaviest one of some tails of the sum of all lines after all treaties.
    pub fn heaviest_net_tail(&self, counts: impl Fn(&HeavyTail) -> bool) -> Option<&HeavyTail> {
        let tails = self.tails.iter().filter(|tail| counts(tail) && !self.is_taken(tail, |_| true));
        tails.min_by(|a, b| a.index.value.total_cmp(&b.index.value))
    }

    /// Of what a treaty pays in a year.
    pub fn ceded(&self, treaty: &PortfolioTreaty) -> HighestMoment {
        let is_before = |other: &PortfolioTreaty| other.treaty.step < treaty.treaty.step;
        self.of(|tail| !is_limited(treaty) && applies(treaty, tail) && !self.is_taken(tail, is_before))
    }

    /// Whether a group's gross amount has the moment of this order.
    pub fn group_has(&self, group: usize, order: u32) -> bool {
        self.tails.iter().filter(|tail| tail.group == group).all(|tail| tail.index.value > f64::from(order))
    }

    /// The highest moment of an amount that these heavy tails enter.
    fn of(&self, enters: impl Fn(&HeavyTail) -> bool) -> HighestMoment {
        let indices = self.tails.iter().filter(|tail| enters(tail)).map(|tail| tail.index.value);
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

/// The smaller of the tail indices of a component's severity and of its index; `None` with a limit,
/// and where all moments exist.
pub fn smallest_tail_index(portfolio: &Portfolio, component: &PortfolioComponent) -> Option<TailIndex> {
    if component.limit < MAX_AMOUNT {
        return None;
    }
    let severity = component.severity.tail_index().map(|value| TailIndex { value, factor: None });
    let factor = component.index.and_then(|number| {
        let value = portfolio.indices[number].law.tail_index()?;
        Some(TailIndex { value, factor: Some(number) })
    });
    severity.into_iter().chain(factor).min_by(|a, b| a.value.total_cmp(&b.value))
}

/// A tail index with at most three decimals, for messages.
pub fn rounded_tail_index(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
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
