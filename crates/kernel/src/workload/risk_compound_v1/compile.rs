//! Compiles a portfolio to a program of integers.

use forge_contract::{
    error::InvalidDocument,
    program::{
        AmountTable, Component, CountTable, Group, INDEX_FRACTION_BITS, MAX_AMOUNT, Occurrence, Program,
        Terms,
    },
};

use super::portfolio::{
    ComponentSeverity, GroupKind, Portfolio, PortfolioComponent, PortfolioCounts, PortfolioGroup,
};
use crate::{
    counts::{CountLaw, CountTableError},
    double_double::power_of_two,
    severities::SeverityLaw,
    workload::table_error,
};

/// Compiles a portfolio.
///
/// # Errors
/// The first law that has no table, with the pointer to its arg.
pub fn compile(portfolio: &Portfolio) -> Result<Program, InvalidDocument> {
    let index = |(at, index): (usize, &super::portfolio::PortfolioIndex)| {
        let pointer = format!("/args/indices/{at}");
        severity_table(&index.law, 1 << INDEX_FRACTION_BITS, &pointer)
    };
    let groups = portfolio.groups.iter().enumerate();
    Ok(Program {
        units: portfolio.units,
        base: 0,
        cap: MAX_AMOUNT,
        lines: portfolio.lines.len() as u32,
        details: true,
        allocation: portfolio.report.allocation,
        indices: portfolio.indices.iter().enumerate().map(index).collect::<Result<_, _>>()?,
        groups: groups
            .map(|(at, group)| compile_group(group, portfolio.units, at))
            .collect::<Result<_, _>>()?,
        treaties: portfolio.treaties.iter().map(|treaty| treaty.treaty.clone()).collect(),
    })
}

fn compile_group(group: &PortfolioGroup, units: u32, at: usize) -> Result<Group, InvalidDocument> {
    let pointer = format!("/args/groups/{at}");
    let none = CountTable { offset: 0, thresholds: Vec::new() };
    let counts = match group.kind {
        GroupKind::Annual => none,
        _ => count_table(&group.counts).map_err(table_error(&format!("{pointer}/count")))?,
    };
    let (list, field) = match group.kind {
        GroupKind::Claims => ("claims", "severity"),
        GroupKind::Strikes => ("strikes", "severity"),
        GroupKind::Annual => ("annual", "amount"),
    };
    let occurrence = match group.kind {
        GroupKind::Claims if group.components.len() == 1 => Occurrence::Claim { pick: None },
        GroupKind::Claims => {
            let weights = group.components.iter().map(|component| component.weight).collect();
            let pick =
                CountLaw::Discrete(weights).table().map_err(table_error(&format!("{pointer}/claims")))?;
            Occurrence::Claim { pick: Some(pick) }
        }
        GroupKind::Strikes => Occurrence::Strike,
        GroupKind::Annual => Occurrence::Annual,
    };
    let component = |(number, component): (usize, &PortfolioComponent)| {
        compile_component(component, units, &format!("{pointer}/{list}/{number}/{field}"))
    };
    let components = group.components.iter().enumerate().map(component).collect::<Result<_, _>>()?;
    Ok(Group { counts, occurrence, components })
}

fn count_table(counts: &PortfolioCounts) -> Result<CountTable, CountTableError> {
    match counts.zero_probability {
        None => counts.law.table(),
        Some(zero) => counts.law.zero_modified_table(zero),
    }
}

fn compile_component(
    component: &PortfolioComponent,
    units: u32,
    pointer: &str,
) -> Result<Component, InvalidDocument> {
    let amounts = match &component.severity {
        ComponentSeverity::Constant(amount) => AmountTable::constant(*amount),
        ComponentSeverity::Law(law) => severity_table(law, units, pointer)?,
        ComponentSeverity::Discrete { amounts, weights } => {
            step_table(amounts, weights).map_err(table_error(pointer))?
        }
        ComponentSeverity::Piecewise { amounts, probabilities } => linear_table(amounts, probabilities),
    };
    let terms = Terms {
        deductible: component.deductible.max(component.franchise),
        franchise: component.franchise > 0,
        limit: component.limit,
        share: component.share,
    };
    Ok(Component {
        line: component.line as u32,
        index: component.index.map(|index| index as u32),
        same_rank: component.has_same_rank,
        terms,
        amounts,
    })
}

/// The table of one of several amounts. The number of the amount is drawn as a count is.
fn step_table(amounts: &[u64], weights: &[f64]) -> Result<AmountTable, CountTableError> {
    let numbers = CountLaw::Discrete(weights.to_vec()).table()?;
    let drawn = numbers.offset as usize..=numbers.max_count() as usize;
    Ok(AmountTable::Steps { amounts: amounts[drawn].to_vec(), thresholds: numbers.thresholds })
}

fn linear_table(amounts: &[u64], probabilities: &[f64]) -> AmountTable {
    let inner = &probabilities[1..probabilities.len() - 1];
    // A product with a power of two is exact, and below 2^64, as the probability is below 1.
    let threshold = |probability: &f64| (probability * power_of_two(64)) as u64;
    AmountTable::Linear { thresholds: inner.iter().map(threshold).collect(), amounts: amounts.to_vec() }
}

fn severity_table(law: &SeverityLaw, units: u32, pointer: &str) -> Result<AmountTable, InvalidDocument> {
    let Some(segment_bits) = law.segment_bits() else {
        let message = "has too heavy a tail, or too many amounts near 0, for an accurate table: choose a shape or \
                       a tail index further from 0";
        return Err(InvalidDocument::single(pointer, message));
    };
    let segments = law.table(units, segment_bits).map_err(table_error(pointer))?;
    Ok(AmountTable::Quantiles { segment_bits, segments })
}
