//! Compiles a portfolio to a program of integers.

use forge_contract::{
    error::InvalidDocument,
    program::{
        AmountTable, Component, CountTable, Group, MAX_AMOUNT, MAX_COUNT, MAX_TABLE_BYTES, OCTAVES,
        Occurrence, Program, Terms,
    },
};

use super::portfolio::{
    ComponentSeverity, GroupKind, INDEX_UNITS, Portfolio, PortfolioComponent, PortfolioCounts,
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
/// The laws that have no table, with the pointers to their args: all indices, or the counts or all
/// components of each group.
pub fn compile(portfolio: &Portfolio) -> Result<Program, InvalidDocument> {
    check_table_sizes(portfolio)?;
    let mut tables = SeverityTables::default();
    let indices = portfolio.indices.iter().enumerate().map(|(at, index)| {
        let pointer = format!("/args/indices/{at}");
        amount_table(&index.law, INDEX_UNITS, &pointer, &mut tables)
    });
    let indices = collect(indices)?;
    let groups = (0..portfolio.groups.len()).map(|at| compile_group(portfolio, at, &mut tables));
    let groups = collect(groups)?;
    check_amounts(&groups)?;
    Ok(Program {
        units: portfolio.units,
        base: 0,
        cap: MAX_AMOUNT,
        lines: portfolio.lines.len() as u32,
        details: true,
        allocation: portfolio.report.allocation,
        indices,
        groups,
        treaties: portfolio.treaties.iter().map(|treaty| treaty.treaty.clone()).collect(),
    })
}

/// Refuses groups that together allow too many amounts in a year, and names the one with the most.
fn check_amounts(groups: &[Group]) -> Result<(), InvalidDocument> {
    let total: u64 = groups.iter().map(Group::max_amounts).sum();
    let Some((at, group)) = groups.iter().enumerate().max_by_key(|(_, group)| group.max_amounts()) else {
        return Ok(());
    };
    if total <= MAX_COUNT {
        return Ok(());
    }
    let message = format!(
        "allows {} amounts in a year, from up to {} occurrences; all groups together may have at most {MAX_COUNT}: \
         lower the mean or the variance of its count, or the number of its components",
        group.max_amounts(),
        group.counts.max_count()
    );
    Err(InvalidDocument::single(format!("/args/groups/{at}"), message))
}

/// All values, or all errors.
fn collect<T>(results: impl Iterator<Item = Result<T, InvalidDocument>>) -> Result<Vec<T>, InvalidDocument> {
    let (mut values, mut errors) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(invalid) => errors.extend(invalid.into_errors()),
        }
    }
    InvalidDocument::from_errors(errors).map_or(Ok(values), Err)
}

/// Bytes of the table of a law; 0 where it has none, which is another error.
fn table_bytes(law: &SeverityLaw) -> u64 {
    law.segment_bits().map_or(0, |bits| (16 * 2 * OCTAVES as u64) << bits)
}

/// Refuses laws whose tables are too large together, before they are computed: that takes up to
/// a fifth of a second each.
fn check_table_sizes(portfolio: &Portfolio) -> Result<(), InvalidDocument> {
    let components = portfolio.groups.iter().flat_map(|group| &group.components);
    let severities = components.map(|component| &component.severity);
    let laws =
        severities.chain(portfolio.indices.iter().map(|index| &index.law)).filter_map(|law| match law {
            ComponentSeverity::Law(law) => Some(law),
            _ => None,
        });
    let sizes: Vec<u64> = laws.map(table_bytes).collect();
    let total: u64 = sizes.iter().sum();
    if total <= MAX_TABLE_BYTES {
        return Ok(());
    }
    let largest = sizes.iter().copied().max().unwrap_or_default();
    let of_largest = sizes.iter().filter(|&&size| size == largest).count();
    let message = format!(
        "need {} MiB of tables, more than {} MiB: {of_largest} of the {} severities and indices need {} KiB each; use \
         fewer components, or shapes and tail indices further from 0, which need smaller tables",
        total.div_ceil(1 << 20),
        MAX_TABLE_BYTES >> 20,
        sizes.len(),
        largest >> 10
    );
    Err(InvalidDocument::single("/args/groups", message))
}

/// The tables of severities. Equal laws share the computation of a table.
#[derive(Default)]
struct SeverityTables {
    of_laws: Vec<(SeverityLaw, u32, AmountTable)>,
    /// The last weights, with the table of the number that they draw: the lines of an event table
    /// have the same ones.
    numbers: Option<(Vec<f64>, CountTable)>,
}

impl SeverityTables {
    fn get(&mut self, law: &SeverityLaw, units: u32, pointer: &str) -> Result<AmountTable, InvalidDocument> {
        let known = self.of_laws.iter().find(|(other, other_units, _)| (other, *other_units) == (law, units));
        if let Some((_, _, table)) = known {
            return Ok(table.clone());
        }
        let table = severity_table(law, units, pointer)?;
        self.of_laws.push((*law, units, table.clone()));
        Ok(table)
    }

    /// The table of one of several amounts. The number of the amount is drawn as a count is.
    fn steps(&mut self, amounts: &[u64], weights: &[f64]) -> Result<AmountTable, CountTableError> {
        let numbers = match self.numbers.take() {
            Some((known, numbers)) if known == weights => numbers,
            _ => CountLaw::Discrete(weights.to_vec()).table()?,
        };
        let drawn = numbers.offset as usize..=numbers.max_count() as usize;
        let steps =
            AmountTable::Steps { amounts: amounts[drawn].to_vec(), thresholds: numbers.thresholds.clone() };
        self.numbers = Some((weights.to_vec(), numbers));
        Ok(steps)
    }
}

fn compile_group(
    portfolio: &Portfolio,
    at: usize,
    tables: &mut SeverityTables,
) -> Result<Group, InvalidDocument> {
    let (group, pointer) = (&portfolio.groups[at], format!("/args/groups/{at}"));
    let none = CountTable { offset: 0, thresholds: Vec::new() };
    let counts = match group.kind {
        GroupKind::Annual => none,
        GroupKind::Events => {
            count_table(&group.counts).map_err(table_error(&format!("{pointer}/events/rates")))?
        }
        _ => count_table(&group.counts).map_err(table_error(&format!("{pointer}/count")))?,
    };
    let occurrence = match group.kind {
        GroupKind::Claims if group.components.len() == 1 => Occurrence::Claim { pick: None },
        GroupKind::Claims => {
            let weights = group.components.iter().map(|component| component.weight).collect();
            let pick =
                CountLaw::Discrete(weights).table().map_err(table_error(&format!("{pointer}/claims")))?;
            Occurrence::Claim { pick: Some(pick) }
        }
        GroupKind::Strikes | GroupKind::Events => Occurrence::Strike,
        GroupKind::Annual => Occurrence::Annual,
    };
    let component = |(number, component): (usize, &PortfolioComponent)| {
        let pointer = format!("/args{}", portfolio.severity_path(at, number));
        compile_component(component, portfolio.units, &pointer, tables)
    };
    let components = collect(group.components.iter().enumerate().map(component))?;
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
    tables: &mut SeverityTables,
) -> Result<Component, InvalidDocument> {
    let amounts = amount_table(&component.severity, units, pointer, tables)?;
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

/// The table of amounts, with `units` minor units in a unit of the args.
fn amount_table(
    law: &ComponentSeverity,
    units: u32,
    pointer: &str,
    tables: &mut SeverityTables,
) -> Result<AmountTable, InvalidDocument> {
    Ok(match law {
        ComponentSeverity::Constant(amount) => AmountTable::constant(*amount),
        ComponentSeverity::Law(law) => tables.get(law, units, pointer)?,
        ComponentSeverity::Discrete { amounts, weights } => {
            tables.steps(amounts, weights).map_err(table_error(pointer))?
        }
        ComponentSeverity::Piecewise { amounts, probabilities } => linear_table(amounts, probabilities),
    })
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
