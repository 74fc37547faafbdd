//! Warnings about amounts that were cut to the largest one there is.

use forge_contract::program::MAX_AMOUNT;
use forge_kernel::request::Request;
use serde_json::Value;

use crate::{
    job_result::JobResult,
    number_format::{format_amount, format_count, format_level},
};

/// Buckets of a portfolio's amounts are at most this wide, relative to their lower end. A quantile
/// that is a cut amount is estimated within the bucket of that amount.
const BUCKET_WIDTH: f64 = 1.0 / 256.0;

/// How many amounts were cut, and which figures that makes too low, as complete sentences.
///
/// An iteration with a cut amount has a total, before treaties, of at least what is paid for the
/// smallest cut amount. So quantiles of the total below that are not affected. Neither are those of
/// other amounts at the same level, because fewer iterations than lie beyond it are affected.
pub fn saturation_warnings(request: &Request, job_result: &JobResult) -> Vec<String> {
    let saturated = job_result.document.work.saturated;
    if saturated == 0 {
        return Vec::new();
    }
    let units = f64::from(request.program.units);
    let (amounts, were) = if saturated == 1 { ("amount", "was") } else { ("amounts", "were") };
    let mut warnings = vec![format!(
        "{} {amounts} exceeded {}, the largest there is, and {were} cut to it.",
        format_count(saturated),
        format_amount(MAX_AMOUNT as f64 / units)
    )];
    let cut = smallest_cut(request, job_result);
    if request.program.cap < cut {
        warnings.push("The aggregate limit is below it, so no figure is affected.".to_owned());
        return warnings;
    }
    let is_cut = |var: f64| var * units >= cut as f64 * (1.0 - BUCKET_WIDTH);
    let words = request.profile().vocabulary;
    let GrossQuantiles { mut levels, mut periods } = GrossQuantiles::new(job_result);
    levels.retain(|&(_, var)| is_cut(var));
    periods.retain(|&(_, var)| words.return_periods && is_cut(var));
    warnings.push(
        "Where they exist, means, deviations and TVaR are too low. Lower the parameters, or give a limit."
            .to_owned(),
    );
    let level = levels.iter().map(|&(level, _)| level).reduce(f64::min);
    let level = level.map(|level| format!("at {} and above", format_level(level)));
    let period = periods.iter().map(|&(period, _)| period).min();
    let period = period.map(|period| {
        format!("at return periods of {} {} and above", format_count(period), words.iterations)
    });
    let places: Vec<_> = level.into_iter().chain(period).collect();
    if places.is_empty() {
        warnings
            .push("VaR is below the cut amounts at all reported levels, so it is not affected.".to_owned());
    } else {
        warnings.push(format!("VaR is too low {}.", places.join(", and ")));
        warnings.push("At lower levels VaR is below the cut amounts, so it is not affected.".to_owned());
    }
    warnings
}

/// What is paid, before treaties, for the smallest amount that was cut.
fn smallest_cut(request: &Request, job_result: &JobResult) -> u64 {
    let components = request.program.components().zip(&job_result.merged.components);
    let cut = components.filter(|(component, tally)| component.terms.limit == MAX_AMOUNT && tally.capped > 0);
    cut.map(|(component, _)| component.terms.share.of(MAX_AMOUNT)).min().unwrap_or(MAX_AMOUNT)
}

/// The quantiles of the total before treaties.
struct GrossQuantiles {
    /// Pairs of level and quantile.
    levels: Vec<(f64, f64)>,
    /// Pairs of return period and quantile.
    periods: Vec<(u64, f64)>,
}

impl GrossQuantiles {
    fn new(job_result: &JobResult) -> Self {
        let (output, summary) = (&job_result.document.output, &job_result.summary);
        if !output["gross"].is_object() {
            return Self {
                levels: summary.quantiles.iter().map(|row| (row.level, row.tail.var)).collect(),
                periods: summary.exceedance.iter().map(|row| (row.return_period, row.aep.var)).collect(),
            };
        }
        let rows = |list: &Value| list.as_array().cloned().unwrap_or_default();
        let level = |row: &Value| Some((row["level"].as_f64()?, row["var"].as_f64()?));
        let period = |row: &Value| Some((row["return_period"].as_u64()?, row["gross"]["var"].as_f64()?));
        Self {
            levels: rows(&output["gross"]["quantiles"]).iter().filter_map(level).collect(),
            periods: rows(&output["exceedance"]).iter().filter_map(period).collect(),
        }
    }
}
