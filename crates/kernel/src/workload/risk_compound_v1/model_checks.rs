//! Figures of a run beside those of its model: means and variances of groups, the probability that
//! a group causes no loss, and that the largest occurrence of a year exceeds an amount. The figures
//! of the model are sums over all draws of the program's tables (docs/determinism.md, section
//! 11.2), so that a z-score measures whether the draws, and what was made of them, follow the
//! tables.

use forge_contract::{
    distribution::Distribution,
    occurrence_subject::OccurrenceSubject,
    program::{Component, CountTable, Group, Occurrence},
    result_details::GroupTally,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::merged::Merged;
use crate::{
    double_double::power_of_two,
    statistics::Moments,
    table_moments::{CentralMoments, DrawnTogether, PowerSums, count_sums, count_weights},
};

/// A probability has a z-score where the model expects at least as many years with it and without.
const FEWEST_YEARS: f64 = 10.0;

/// Figures of the run beside those of the model.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ModelChecks {
    /// For each group, its number of occurrences and its annual loss, before treaties.
    pub groups: Vec<GroupChecks>,
    /// For each return period, the probability that the largest occurrence of a year exceeds an
    /// amount near that of the return period.
    pub largest_occurrence: Vec<LargestCheck>,
}

/// Figures of a group beside those of the model.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct GroupChecks {
    /// Name.
    pub name: String,
    /// Number of occurrences in a year; null for annual groups.
    pub count: Option<MomentChecks>,
    /// Annual loss, before treaties.
    pub gross: MomentChecks,
    /// Probability of a year without a loss.
    pub zero_probability: ModelCheck,
}

/// Mean and variance of an amount or a number.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct MomentChecks {
    /// The mean.
    pub mean: ModelCheck,
    /// The variance.
    pub variance: ModelCheck,
}

/// The probability that the largest occurrence of a year exceeds an amount.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct LargestCheck {
    /// The return period, in years.
    pub return_period: u64,
    /// The amount: the largest one of the bucket of the run's histogram that holds the amount of
    /// the return period.
    pub amount: f64,
    /// The probability that the largest occurrence of all groups exceeds it.
    pub probability: ModelCheck,
    /// The same for the occurrences of each group alone; null for annual groups.
    pub groups: Vec<Option<GroupLargestCheck>>,
}

/// The probability that a group's largest occurrence of a year exceeds an amount.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct GroupLargestCheck {
    /// Name of the group.
    pub name: String,
    /// The amount: the largest one of the bucket of the run's histogram of this group that holds
    /// the amount of the return period.
    pub amount: f64,
    /// The probability that the largest occurrence of the group exceeds it.
    pub probability: ModelCheck,
}

/// A figure of the run beside that of the model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ModelCheck {
    /// The model's figure: a sum over the program's tables; null where there is none.
    pub expected: Option<f64>,
    /// The run's figure; null for the variance of a single year.
    pub found: Option<f64>,
    /// The difference in standard errors; null where `no_z_reason` says why.
    pub z: Option<f64>,
    /// Why there is no z-score.
    pub no_z_reason: Option<NoZReason>,
}

/// Why a figure of the run has no z-score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoZReason {
    /// An index makes the losses of a year dependent.
    Index,
    /// An occurrence is a sum of independent losses.
    Strikes,
    /// The model's figure, or its standard error, does not exist: the tail is too heavy.
    Moment,
    /// A single year has no variance.
    SingleYear,
    /// The model expects fewer than 10 years with, or without, what has this probability: the
    /// number of years would not be nearly normal.
    FewYears,
    /// The figure has no standard error: it is the same in every run, or nearly so.
    Constant,
}

impl ModelCheck {
    fn without_z(expected: Option<f64>, found: Option<f64>, reason: NoZReason) -> Self {
        Self { expected, found, z: None, no_z_reason: Some(reason) }
    }

    /// A figure whose estimate from one year would have this variance.
    fn new(expected: f64, found: Option<f64>, variance: f64, years: f64) -> Self {
        let Some(value) = found else {
            return Self::without_z(Some(expected), None, NoZReason::SingleYear);
        };
        if variance > 0.0 {
            let z = (value - expected) / (variance / years).sqrt();
            Self { expected: Some(expected), found, z: Some(z), no_z_reason: None }
        } else {
            Self::without_z(Some(expected), found, NoZReason::Constant)
        }
    }

    fn probability(expected: f64, found: f64, years: f64) -> Self {
        let is_rare = |probability: f64| probability > 0.0 && years * probability < FEWEST_YEARS;
        if is_rare(expected) || is_rare(1.0 - expected) {
            return Self::without_z(Some(expected), Some(found), NoZReason::FewYears);
        }
        Self::new(expected, Some(found), expected * (1.0 - expected), years)
    }
}

/// What the program's tables say about a group whose components have no index.
struct GroupLaw<'a> {
    group: &'a Group,
    /// Components of one draw each; one component each, if an occurrence is a claim.
    drawn: Vec<DrawnTogether<'a>>,
    /// For each component of a claim, the number of pick draws that choose it.
    picks: Vec<u128>,
}

impl<'a> GroupLaw<'a> {
    /// `None` if a component has an index.
    fn new(group: &'a Group) -> Option<Self> {
        if group.components.iter().any(|component| component.index.is_some()) {
            return None;
        }
        let picks = match &group.occurrence {
            Occurrence::Claim { pick: Some(pick) } => picks(pick, group.components.len()),
            _ => Vec::new(),
        };
        let drawn: Vec<&[Component]> = match group.occurrence {
            Occurrence::Claim { .. } => group.components.chunks(1).collect(),
            _ => group.components.chunk_by(|_, next| next.same_rank).collect(),
        };
        Some(Self { group, drawn: drawn.into_iter().map(DrawnTogether).collect(), picks })
    }

    fn is_claim(&self) -> bool {
        matches!(self.group.occurrence, Occurrence::Claim { .. })
    }

    /// Moments of an occurrence, or of the year of an annual group.
    fn occurrence(&self) -> CentralMoments {
        let sums = self.drawn.iter().map(|drawn| drawn.sums());
        match self.picks.is_empty() {
            false => PowerSums::mixture(self.picks.iter().copied().zip(sums)).central(),
            true => {
                sums.map(|sums| sums.central()).reduce(CentralMoments::plus).unwrap_or(CentralMoments::ZERO)
            }
        }
    }

    /// The probability that an occurrence is 0.
    fn zero(&self) -> f64 {
        match self.is_claim() {
            true => self.claim_up_to(0),
            false => {
                self.drawn.iter().fold(1.0, |product, drawn| product * probability(drawn.draws_up_to(0)))
            }
        }
    }

    /// The probability that a claim is at most this amount.
    fn claim_up_to(&self, amount: u64) -> f64 {
        let draws = self.drawn.iter().map(|drawn| drawn.draws_up_to(amount));
        match self.picks.is_empty() {
            true => draws.map(probability).sum(),
            false => {
                let parts = self.picks.iter().zip(draws);
                parts.fold(0.0, |sum, (&pick, draws)| sum + probability(pick) * probability(draws))
            }
        }
    }

    /// The probability that an occurrence is at most this amount; `None` if it is a sum of
    /// independent amounts.
    fn occurrence_up_to(&self, amount: u64) -> Option<f64> {
        match (self.is_claim(), self.drawn.as_slice()) {
            (true, _) => Some(self.claim_up_to(amount)),
            (false, [drawn]) => Some(probability(drawn.draws_up_to(amount))),
            (false, _) => None,
        }
    }

    /// The probability that all occurrences of a year have a property that each has with this
    /// probability.
    fn all(&self, each: f64) -> f64 {
        if self.group.occurrence == Occurrence::Annual {
            return each;
        }
        let counts = &self.group.counts;
        let mut power = (0..counts.offset).fold(1.0, |power, _| power * each);
        let mut sum = 0.0;
        for weight in count_weights(counts) {
            sum += probability(weight) * power;
            power *= each;
        }
        // Rounding may leave a little more.
        sum.min(1.0)
    }
}

/// For each component, the number of pick draws that choose it.
fn picks(table: &CountTable, components: usize) -> Vec<u128> {
    let mut picks = vec![0; table.offset as usize];
    picks.extend(count_weights(table));
    picks.resize(components, 0);
    picks
}

/// The probability of this many draws.
fn probability(draws: u128) -> f64 {
    draws as f64 * power_of_two(-64)
}

/// The checks of a merged result of at least one year.
pub(super) fn model_checks(merged: &Merged<'_>) -> ModelChecks {
    let program = merged.program;
    let laws: Vec<_> = program.groups.iter().map(GroupLaw::new).collect();
    let unit = f64::from(program.units);
    let groups = merged.portfolio.groups.iter().enumerate().map(|(at, group)| {
        let has = |order: u32| merged.moments.group_has(at, order);
        let run = Run { tally: merged.details.groups[at], years: merged.result.iterations, unit };
        run.checks(group.name.clone(), &program.groups[at], laws[at].as_ref(), has)
    });
    ModelChecks { groups: groups.collect(), largest_occurrence: largest_checks(merged, &laws) }
}

/// What a run found of a group.
struct Run {
    tally: GroupTally,
    years: u64,
    unit: f64,
}

impl Run {
    fn checks(
        &self,
        name: String,
        group: &Group,
        law: Option<&GroupLaw<'_>>,
        has: impl Fn(u32) -> bool,
    ) -> GroupChecks {
        let years = self.years as f64;
        let is_annual = group.occurrence == Occurrence::Annual;
        let counts = count_sums(&group.counts).central();
        let gross = law.map(|law| {
            let occurrence = law.occurrence();
            if is_annual { occurrence } else { occurrence.compound(counts) }
        });
        let tally = &self.tally;
        let found = Moments::of_sums(self.years, tally.occurrences.into(), tally.squared_occurrences.into());
        let zero = tally.without_loss as f64 / years;
        GroupChecks {
            name,
            count: (!is_annual).then(|| moment_checks(Some(counts), found, years, 1.0, |_| true)),
            gross: moment_checks(
                gross,
                Moments::of_sums(self.years, tally.sum, tally.sum_squares),
                years,
                self.unit,
                has,
            ),
            zero_probability: match law {
                Some(law) => ModelCheck::probability(law.all(law.zero()), zero, years),
                None => ModelCheck::without_z(None, Some(zero), NoZReason::Index),
            },
        }
    }
}

/// The variance of the squared deviation, from its mean square and its mean: 0 where rounding may
/// have left all of the difference.
fn variance_of_square(fourth: f64, square: f64) -> f64 {
    let difference = fourth - square * square;
    if difference > fourth * 1e-9 { difference } else { 0.0 }
}

/// Mean and variance in units of the args. `has` tells which moments exist.
fn moment_checks(
    expected: Option<CentralMoments>,
    found: Moments,
    years: f64,
    unit: f64,
    has: impl Fn(u32) -> bool,
) -> MomentChecks {
    let (mean, variance) = (Some(found.mean / unit), found.variance.map(|variance| variance / unit / unit));
    let Some(expected) = expected else {
        let unknown = |found| ModelCheck::without_z(None, found, NoZReason::Index);
        return MomentChecks { mean: unknown(mean), variance: unknown(variance) };
    };
    // The standard error of a moment needs the moment of twice its order.
    let check = |order: u32, expected: f64, found: Option<f64>, variance: f64| match has(2 * order) {
        true => ModelCheck::new(expected, found, variance, years),
        false => ModelCheck::without_z(has(order).then_some(expected), found, NoZReason::Moment),
    };
    let (square, fourth) = (expected.second / unit / unit, expected.fourth / unit / unit / unit / unit);
    MomentChecks {
        mean: check(1, expected.mean / unit, mean, square),
        variance: check(2, square, variance, variance_of_square(fourth, square)),
    }
}

fn largest_checks(merged: &Merged<'_>, laws: &[Option<GroupLaw<'_>>]) -> Vec<LargestCheck> {
    let groups = || merged.program.groups.iter().zip(laws).enumerate();
    let check = |&return_period: &u64| {
        let (amount, probability) =
            largest_check(merged, OccurrenceSubject::all_lines(0), return_period, |amount| {
                groups().try_fold(1.0, |product, (_, (group, law))| {
                    Ok(product * largest_up_to(group, law.as_ref(), amount)?)
                })
            });
        let of_group = |(at, (group, law)): (usize, (&Group, &Option<GroupLaw<'_>>))| {
            if group.occurrence == Occurrence::Annual {
                return None;
            }
            let (amount, probability) =
                largest_check(merged, OccurrenceSubject::group(at), return_period, |amount| {
                    largest_up_to(group, law.as_ref(), amount)
                });
            let name = merged.portfolio.groups[at].name.clone();
            Some(GroupLargestCheck { name, amount, probability })
        };
        LargestCheck { return_period, amount, probability, groups: groups().map(of_group).collect() }
    };
    merged.portfolio.report.return_periods.iter().map(check).collect()
}

/// Checks the probability that the largest occurrence of a subject exceeds an amount, near that of
/// the return period. `up_to` is the model's probability that it does not. Returns the amount too.
fn largest_check(
    merged: &Merged<'_>,
    subject: OccurrenceSubject,
    return_period: u64,
    up_to: impl Fn(u64) -> Result<f64, NoZReason>,
) -> (f64, ModelCheck) {
    let years = merged.result.iterations;
    let (distribution, resolution) = merged.largest_distribution(subject);
    let (bucket, years_up_to) = bucket_of_return_period(distribution, years, return_period);
    let amount = resolution.bounds(bucket).1;
    let found = (years - years_up_to) as f64 / years as f64;
    let check = match up_to(amount) {
        Ok(up_to) => ModelCheck::probability(1.0 - up_to, found, years as f64),
        Err(reason) => ModelCheck::without_z(None, Some(found), reason),
    };
    (amount as f64 / f64::from(merged.portfolio.units), check)
}

/// The bucket of a distribution at the level of a return period, and the number of years up to it.
fn bucket_of_return_period(distribution: &Distribution, years: u64, return_period: u64) -> (usize, u64) {
    let rank = u128::from(years) * u128::from(return_period - 1);
    let rank = rank.div_ceil(u128::from(return_period)) as u64;
    let mut up_to = 0;
    let found = distribution.histogram.iter().find(|(_, count)| {
        up_to += count;
        up_to >= rank
    });
    (found.map_or(0, |&(bucket, _)| bucket as usize), up_to)
}

/// The probability that no occurrence of a group in a year exceeds this amount.
fn largest_up_to(group: &Group, law: Option<&GroupLaw<'_>>, amount: u64) -> Result<f64, NoZReason> {
    if group.occurrence == Occurrence::Annual {
        return Ok(1.0);
    }
    let law = law.ok_or(NoZReason::Index)?;
    law.occurrence_up_to(amount).map(|each| law.all(each)).ok_or(NoZReason::Strikes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loss of two values with equal probability deviates equally in every year.
    #[test]
    fn what_rounding_leaves_of_a_constant_deviation_is_no_variance() {
        for amount in (1..200_000).map(|minor| f64::from(minor) / 100.0) {
            let square = amount / 2.0 * (amount / 2.0);
            let fourth = square * (amount / 2.0) * (amount / 2.0);
            assert_eq!(variance_of_square(fourth, square), 0.0, "{amount}");
        }
        assert_eq!(variance_of_square(3.0, 1.0), 2.0);
    }
}
