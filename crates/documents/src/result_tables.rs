//! The tables and labelled values of a result, independent of layout. The terminal summary and the
//! report page both render them.

use forge_contract::{envelope::Seed, program::MAX_AMOUNT};
use forge_kernel::{
    convergence::StopReason,
    request::Request,
    statistics::two_sided_z,
    summary::{Exceedance, TailFigures},
    workload::Vocabulary,
};

use serde_json::Value;

use crate::{
    job_result::JobResult,
    number_format::{format_amount, format_count, format_level, format_optional_amount, format_percent},
};

/// A table. Every row has as many cells as there are columns.
pub struct ResultTable {
    /// Column headings.
    pub header: Vec<&'static str>,
    /// Cells by row: the first is the label of the row, the others are numbers or values.
    pub rows: Vec<Vec<String>>,
}

/// A formatted statistic with its label.
pub struct LabelledValue {
    /// Name of the statistic.
    pub label: String,
    /// Formatted number.
    pub value: String,
    /// Additional text such as the standard error; usually empty.
    pub remark: String,
}

impl LabelledValue {
    fn new(label: impl Into<String>, value: String) -> Self {
        Self { label: label.into(), value, remark: String::new() }
    }
}

/// Converts the first letter to upper case.
pub fn capitalise(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Unit of the total: that of the profile, else the currency that the envelope states. Empty if it
/// states none.
pub fn unit(request: &Request) -> &str {
    let profile_unit = request.profile().vocabulary.unit;
    let currency = request.envelope.about.as_ref().and_then(|about| about.currency.as_deref());
    if profile_unit.is_empty() { currency.unwrap_or_default() } else { profile_unit }
}

/// The quantity with its unit, such as `travel time, s`.
pub fn quantity_with_unit(request: &Request) -> String {
    let quantity = request.profile().vocabulary.quantity;
    match unit(request) {
        "" => quantity.to_owned(),
        unit => format!("{quantity}, {unit}"),
    }
}

/// Title of the job, if its envelope states one.
pub fn title(request: &Request) -> Option<&str> {
    request.envelope.about.as_ref()?.title.as_deref()
}

/// The op with its version and profile, such as `mc@1 insurance.v1`.
pub fn profile_label(request: &Request) -> String {
    let op = &request.envelope.op;
    format!("{}@{} {}", op.name, op.version, op.profile)
}

/// Performed and requested iterations, with the reason why the job stopped.
pub fn iterations_text(job_result: &JobResult, words: Vocabulary) -> String {
    let iterations = &job_result.document.iterations;
    let reason = match iterations.stop_reason {
        StopReason::BandReached => "converged: band reached",
        StopReason::VarianceStable => "converged: variance stable",
        StopReason::BudgetExhausted => "budget exhausted",
    };
    let (performed, requested) = (format_count(iterations.performed), format_count(iterations.requested));
    format!("{performed} of {requested} {} ({reason})", words.iterations)
}

/// The position of the level whose probability of exceedance is nearest to that of `wanted`, as a
/// ratio.
pub fn nearest_level(levels: &[f64], wanted: f64) -> usize {
    let ratio = |level: f64| ((1.0 - level) / (1.0 - wanted)).max((1.0 - wanted) / (1.0 - level));
    let nearest = levels.iter().enumerate().min_by(|(_, a), (_, b)| ratio(**a).total_cmp(&ratio(**b)));
    nearest.map_or(0, |(position, _)| position)
}

/// Total occurrences, then those of each component with the number that reached its cap. An
/// occurrence of a portfolio may strike several components, which have a table of their own.
pub fn occurrences_text(request: &Request, job_result: &JobResult) -> String {
    let work = &job_result.document.work;
    if let Some(details) = &job_result.merged.details {
        let losses: u64 = details.groups.iter().map(|group| group.occurrences).sum();
        let a_year = losses as f64 / job_result.merged.iterations.max(1) as f64;
        return format!("{} ({a_year:.4} a year)", format_count(losses));
    }
    let components = work.components.iter().zip(request.program.components());
    let components = components.map(|(tally, component)| {
        let is_capped = component.terms.limit < MAX_AMOUNT && tally.capped > 0;
        let capped =
            if is_capped { format!(" ({} at the limit)", format_count(tally.capped)) } else { String::new() };
        format!("{} {}{capped}", tally.name, format_count(tally.occurrences))
    });
    format!("{}: {}", format_count(work.occurrences), components.collect::<Vec<_>>().join(", "))
}

/// Origin of the root seed.
pub fn seed_text(request: &Request) -> &'static str {
    match request.envelope.seed {
        Seed::Derived => "derived from op and args",
        Seed::Explicit { .. } => "explicit",
    }
}

/// Mean, standard deviation, extremes, and the probabilities of no occurrence and of reaching the
/// aggregate limit.
pub fn moment_values(request: &Request, job_result: &JobResult) -> Vec<LabelledValue> {
    let (summary, words) = (&job_result.summary, request.profile().vocabulary);
    let iterations = capitalise(words.iterations);
    let mut moments = vec![LabelledValue::new("Mean", format_optional_amount(summary.mean))];
    if let Some((mean, error)) = summary.mean.zip(summary.std_error) {
        let half_width = two_sided_z(0.95) * error;
        moments[0].remark = format!("standard error {}", format_amount(error));
        moments.push(LabelledValue {
            remark: format!("to {}", format_amount(mean + half_width)),
            ..LabelledValue::new("95% CI of the mean", format_amount(mean - half_width))
        });
    }
    moments.extend([
        LabelledValue::new("Standard deviation", format_optional_amount(summary.std_dev)),
        LabelledValue::new("Smallest", format_amount(summary.min)),
        LabelledValue::new("Largest", format_amount(summary.max)),
    ]);
    if words.return_periods {
        let label = if request.program.details {
            format!("{iterations} without {}", words.quantity)
        } else {
            format!("{iterations} without {}", words.occurrences)
        };
        moments.push(LabelledValue::new(label, format_percent(summary.zero_probability)));
    }
    if request.program.cap < MAX_AMOUNT {
        moments.push(LabelledValue::new(
            format!("{iterations} at the aggregate limit"),
            format_percent(summary.cap_probability),
        ));
    }
    moments
}

/// What columns named low and high are, for titles of tables on a page.
pub const INTERVAL_LEGEND: &str = "low and high: 95% CI";

/// How much room a table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableWidth {
    /// A terminal's: 100 columns.
    Terminal,
    /// A page's.
    Page,
}

/// Value at risk (VaR) with its 95% confidence interval, and tail value at risk (TVaR), by level;
/// on a page TVaR has its interval too.
pub fn quantile_table(job_result: &JobResult, width: TableWidth) -> ResultTable {
    let rows = job_result.summary.quantiles.iter().map(|q| {
        let tail = &q.tail;
        let mut amounts = vec![Some(tail.var), tail.var_low, tail.var_high, tail.tvar];
        if width == TableWidth::Page {
            amounts.extend([tail.tvar_low, tail.tvar_high]);
        }
        [format_level(q.level)].into_iter().chain(amounts.into_iter().map(format_optional_amount)).collect()
    });
    let header = match width {
        TableWidth::Terminal => vec!["Level", "VaR", "95% CI low", "95% CI high", "TVaR"],
        TableWidth::Page => vec!["Level", "VaR", "VaR low", "VaR high", "TVaR", "TVaR low", "TVaR high"],
    };
    ResultTable { header, rows: rows.collect() }
}

/// Aggregate (AEP) and occurrence (OEP) exceedance with their TVaR, by return period.
pub fn exceedance_table(job_result: &JobResult, words: Vocabulary) -> ResultTable {
    let header = vec!["Return period", "AEP", "AEP TVaR", "OEP", "OEP TVaR"];
    exceedance_rows(job_result, words, header, |e| {
        vec![Some(e.aep.var), e.aep.tvar, Some(e.oep.var), e.oep.tvar]
    })
}

/// The tables of AEP and of OEP for a page: with TVaR and 95% confidence intervals.
pub fn exceedance_interval_tables(job_result: &JobResult, words: Vocabulary) -> [ResultTable; 2] {
    let figures = |tail: &TailFigures| {
        vec![Some(tail.var), tail.var_low, tail.var_high, tail.tvar, tail.tvar_low, tail.tvar_high]
    };
    let aep =
        vec!["Return period", "AEP", "AEP low", "AEP high", "AEP TVaR", "AEP TVaR low", "AEP TVaR high"];
    let oep =
        vec!["Return period", "OEP", "OEP low", "OEP high", "OEP TVaR", "OEP TVaR low", "OEP TVaR high"];
    [
        exceedance_rows(job_result, words, aep, |e| figures(&e.aep)),
        exceedance_rows(job_result, words, oep, |e| figures(&e.oep)),
    ]
}

fn exceedance_rows(
    job_result: &JobResult,
    words: Vocabulary,
    header: Vec<&'static str>,
    amounts: impl Fn(&Exceedance) -> Vec<Option<f64>>,
) -> ResultTable {
    let rows = job_result.summary.exceedance.iter().map(|e| {
        let period = format!("{} {}", format_count(e.return_period), words.iterations);
        [period].into_iter().chain(amounts(e).into_iter().map(format_optional_amount)).collect()
    });
    ResultTable { header, rows: rows.collect() }
}

/// Title of [`exceedance_table`], which says what AEP and OEP refer to.
pub fn exceedance_title(request: &Request) -> String {
    let words = request.profile().vocabulary;
    let title = format!("Exceedance (AEP: {}, OEP: largest of its {})", words.quantity, words.occurrences);
    match unit(request) {
        "" => title,
        unit => format!("{title}, {unit}"),
    }
}

/// Limitations that a reader must know before using the result, as complete sentences.
pub fn result_warnings(request: &Request, job_result: &JobResult) -> Vec<String> {
    let words = request.profile().vocabulary;
    let performed = job_result.document.iterations.performed;
    let mut warnings = Vec::new();
    let saturated = job_result.document.work.saturated;
    if saturated > 0 {
        let largest = format_amount(MAX_AMOUNT as f64 / f64::from(request.program.units));
        let (amounts, were) = if saturated == 1 { ("amount", "was") } else { ("amounts", "were") };
        warnings.push(format!(
            "{} {amounts} exceeded {largest}, the largest there is, and {were} cut to it.",
            format_count(saturated)
        ));
        warnings
            .push("All figures understate them: lower the model's parameters, or give a limit.".to_owned());
    }
    warnings.extend(missing_moments(job_result));
    let quantiles = &job_result.summary.quantiles;
    let unbounded =
        quantiles.iter().filter(|q| q.tail.var_low.is_none() || q.tail.var_high.is_none()).count();
    if unbounded > 0 {
        warnings.push(format!(
            "Too few {} ({}) for a full 95% confidence interval of {unbounded} of {} quantiles.",
            words.iterations,
            format_count(performed),
            quantiles.len()
        ));
    }
    let beyond = job_result.summary.exceedance.iter().filter(|e| e.return_period > performed).count();
    if words.return_periods && beyond > 0 {
        warnings.push(format!(
            "{beyond} of {} return periods are longer than the {} simulated ({}).",
            job_result.summary.exceedance.len(),
            words.iterations,
            format_count(performed)
        ));
    }
    warnings
}

/// Which amounts of a portfolio have no mean or no variance, as complete sentences.
fn missing_moments(job_result: &JobResult) -> Vec<String> {
    let output = &job_result.document.output;
    let amounts = [("net annual loss", &output["net"]), ("gross annual loss", &output["gross"])];
    let sentence = |(name, figures): (&str, &Value)| {
        if !figures.is_object() {
            return None;
        }
        if figures["mean"].is_null() {
            return Some(format!("The {name} has no mean, so mean, deviation and TVaR do not exist."));
        }
        let lacks_variance = figures["quantiles"][0]["tvar_low"].is_null();
        lacks_variance.then(|| format!("The {name} has no variance, so mean and TVaR have no interval."))
    };
    amounts.into_iter().filter_map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compared_level_is_the_nearest_reported_one() {
        assert_eq!(nearest_level(&[0.5, 0.9, 0.95, 0.99, 0.995, 0.999], 0.995), 4);
        assert_eq!(nearest_level(&[0.5, 0.999], 0.995), 1);
        assert_eq!(nearest_level(&[0.99, 0.9999], 0.995), 0);
        assert_eq!(nearest_level(&[0.996], 0.5), 0);
    }
}
