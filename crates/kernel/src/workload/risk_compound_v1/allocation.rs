//! The allocation of the tail: the parts of lines and treaties in the net total, from a level on
//! (co-TVaR) and around a level.

use std::collections::BTreeMap;

use forge_contract::{result_details::AllocationClass, shard_result::ShardResult};
use schemars::JsonSchema;
use serde::Serialize;

use super::{highest_moments::HighestMoments, portfolio::Portfolio};
use crate::{
    statistics::Level,
    summary::HighestMoment,
    tail_sums::{ClassSums, sums_above},
};

/// The parts of lines and treaties in the net total.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Allocation {
    /// The level.
    pub level: f64,
    /// Parts in the mean of the net total above the level (co-TVaR).
    pub tail: AllocatedParts,
    /// Parts in the mean of the net total next to the quantile of the level.
    pub at_quantile: AllocatedParts,
}

/// Means of lines and treaties over some years. They add up exactly: the lines less the treaties
/// are the net total. Those of amounts without a mean are null.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AllocatedParts {
    /// Mean of the net total.
    pub net: Option<f64>,
    /// For each line, its mean before treaties, in the order of the args.
    pub lines: Vec<Option<f64>>,
    /// For each treaty, the mean of what it pays, in the order of the args.
    pub treaties: Vec<Option<f64>>,
}

/// The allocations at these levels.
pub fn allocations(portfolio: &Portfolio, result: &ShardResult, levels: &[Level]) -> Vec<Allocation> {
    let details = result.details.as_ref().filter(|_| portfolio.report.allocation);
    let Some(details) = details else { return Vec::new() };
    let years: BTreeMap<u64, u64> = result.total_classes().into_iter().collect();
    let years_of = |part: &AllocationClass| years.get(&part.number).copied().unwrap_or(0);
    let classes = details.allocation.iter().map(|part| ClassSums { years: years_of(part), sums: &part.sums });
    let classes: Vec<_> = classes.collect();
    if classes.is_empty() {
        return Vec::new();
    }
    let unit = f64::from(portfolio.units);
    let existing = ExistingMeans::new(portfolio);
    // Next to a quantile the net total is bounded, and with it each line that has no treaty.
    let near_quantile =
        if portfolio.treaties.is_empty() { ExistingMeans::all(portfolio) } else { existing.beside_net() };
    let allocation = |&level: &Level| {
        let tail = sums_above(&classes, result.iterations, level);
        let quantile = classes[tail.quantile];
        let quantile_sums: Vec<f64> = quantile.sums.iter().map(|&sum| sum as f64).collect();
        Allocation {
            level: level.to_f64(),
            tail: existing.parts(&tail.sums, tail.years, unit),
            at_quantile: near_quantile.parts(&quantile_sums, quantile.years as f64, unit),
        }
    };
    levels.iter().map(allocation).collect()
}

/// Which of the parts have a mean.
struct ExistingMeans {
    net: bool,
    lines: Vec<bool>,
    treaties: Vec<bool>,
}

impl ExistingMeans {
    fn new(portfolio: &Portfolio) -> Self {
        let moments = HighestMoments::new(portfolio);
        let exists = |moment: HighestMoment| moment >= HighestMoment::Mean;
        Self {
            net: exists(moments.net()),
            lines: (0..portfolio.lines.len()).map(|line| exists(moments.line(line))).collect(),
            treaties: portfolio.treaties.iter().map(|treaty| exists(moments.ceded(treaty))).collect(),
        }
    }

    fn all(portfolio: &Portfolio) -> Self {
        Self {
            net: true,
            lines: vec![true; portfolio.lines.len()],
            treaties: vec![true; portfolio.treaties.len()],
        }
    }

    /// The means where the net total is bounded.
    fn beside_net(&self) -> Self {
        Self { net: true, lines: self.lines.clone(), treaties: self.treaties.clone() }
    }

    fn parts(&self, sums: &[f64], years: f64, unit: f64) -> AllocatedParts {
        let means: Vec<f64> = sums.iter().map(|sum| sum / years / unit).collect();
        let (lines, treaties) = means.split_at(self.lines.len());
        let sum = |means: &[f64]| means.iter().fold(0.0, |sum, mean| sum + mean);
        let net = sum(lines) - sum(treaties);
        let existing = |means: &[f64], exist: &[bool]| {
            means.iter().zip(exist).map(|(&mean, exists)| exists.then_some(mean)).collect()
        };
        AllocatedParts {
            net: self.net.then_some(net),
            lines: existing(lines, &self.lines),
            treaties: existing(treaties, &self.treaties),
        }
    }
}
