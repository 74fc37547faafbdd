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
    saturation::saturation_warnings,
    tail_value_intervals::{beyond_level, beyond_return_period, mark_if_few},
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

/// The position, among the levels that the output of a portfolio reports, of the one at which parts
/// are compared: the nearest to that of the diversification benefit.
pub fn compared_position(output: &Value) -> usize {
    let wanted = output["diversification"]["level"].as_f64().unwrap_or_default();
    let levels = output["net"]["quantiles"].as_array().map_or(&[][..], Vec::as_slice);
    let levels: Vec<f64> = levels.iter().filter_map(|row| row["level"].as_f64()).collect();
    nearest_level(&levels, wanted)
}

/// Label of [`occurrences_text`].
pub const OCCURRENCES: &str = "Occurrences";

/// A number of occurrences, not an amount: of one iteration in the mean, and of all of them.
pub fn occurrence_counts(an_iteration: f64, in_all: &str, words: Vocabulary) -> String {
    format!("{an_iteration:.4} a {}, {in_all} in all", words.iterations.trim_end_matches('s'))
}

/// Numbers of occurrences, then those of each component with the number that reached its cap. An
/// occurrence of a portfolio may strike several components, which have a table of their own.
pub fn occurrences_text(request: &Request, job_result: &JobResult) -> String {
    let (merged, work) = (&job_result.merged, &job_result.document.work);
    let occurrences = match &merged.details {
        Some(details) => details.groups.iter().map(|group| group.occurrences).sum(),
        None => work.occurrences,
    };
    let an_iteration = occurrences as f64 / merged.iterations.max(1) as f64;
    let counts = occurrence_counts(an_iteration, &format_count(occurrences), request.profile().vocabulary);
    if merged.details.is_some() {
        return counts;
    }
    let components = work.components.iter().zip(request.program.components());
    let components = components.map(|(tally, component)| {
        let is_capped = component.terms.limit < MAX_AMOUNT && tally.capped > 0;
        let capped =
            if is_capped { format!(" ({} at the limit)", format_count(tally.capped)) } else { String::new() };
        format!("{} {}{capped}", tally.name, format_count(tally.occurrences))
    });
    format!("{counts}: {}", components.collect::<Vec<_>>().join(", "))
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
/// Headings of the ends of an interval.
pub const INTERVAL_HEADINGS: [&str; 2] = ["95% CI low", "95% CI high"];

/// How much room a table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableWidth {
    /// A terminal's: 80 columns where the amounts allow it.
    Terminal,
    /// A page's.
    Page,
}

/// Value at risk (VaR) with its 95% confidence interval, by level.
pub fn value_at_risk_table(job_result: &JobResult) -> ResultTable {
    quantile_table(job_result, "VaR", |label, _, tail| (label, [Some(tail.var), tail.var_low, tail.var_high]))
}

/// Tail value at risk (TVaR) with its 95% confidence interval, by level.
pub fn tail_value_table(job_result: &JobResult) -> ResultTable {
    quantile_table(job_result, "TVaR", |label, beyond, tail| {
        let label = mark_if_few(label, beyond, tail.tvar_low.is_some());
        (label, [tail.tvar, tail.tvar_low, tail.tvar_high])
    })
}

/// Title of [`tail_value_table`].
pub fn tail_value_title(request: &Request) -> String {
    format!("Tail value at risk of the {}", quantity_with_unit(request))
}

/// The rows by level; `row` makes label and amounts of the label, the iterations beyond, and the
/// figures.
fn quantile_table(
    job_result: &JobResult,
    figure: &'static str,
    row: impl Fn(String, u64, &TailFigures) -> (String, [Option<f64>; 3]),
) -> ResultTable {
    let rows = job_result.summary.quantiles.iter().map(|q| {
        let (label, amounts) = row(format_level(q.level), beyond_level(job_result, q.level), &q.tail);
        [label].into_iter().chain(amounts.map(format_optional_amount)).collect()
    });
    let [low, high] = INTERVAL_HEADINGS;
    ResultTable { header: vec!["Level", figure, low, high], rows: rows.collect() }
}

/// Aggregate (AEP) and occurrence (OEP) exceedance with their TVaR, by return period.
pub fn exceedance_table(job_result: &JobResult, words: Vocabulary) -> ResultTable {
    let header = vec!["Return period", "AEP", "AEP TVaR", "OEP", "OEP TVaR"];
    exceedance_rows(job_result, words, header, |label, _, e| {
        (label, vec![Some(e.aep.var), e.aep.tvar, Some(e.oep.var), e.oep.tvar])
    })
}

/// The tables of AEP and of OEP for a page: with TVaR and 95% confidence intervals.
pub fn exceedance_interval_tables(job_result: &JobResult, words: Vocabulary) -> [ResultTable; 2] {
    let row = |label: String, beyond: u64, tail: &TailFigures| {
        let amounts =
            vec![Some(tail.var), tail.var_low, tail.var_high, tail.tvar, tail.tvar_low, tail.tvar_high];
        (mark_if_few(label, beyond, tail.tvar_low.is_some()), amounts)
    };
    let aep =
        vec!["Return period", "AEP", "AEP low", "AEP high", "AEP TVaR", "AEP TVaR low", "AEP TVaR high"];
    let oep =
        vec!["Return period", "OEP", "OEP low", "OEP high", "OEP TVaR", "OEP TVaR low", "OEP TVaR high"];
    [
        exceedance_rows(job_result, words, aep, |label, beyond, e| row(label, beyond, &e.aep)),
        exceedance_rows(job_result, words, oep, |label, beyond, e| row(label, beyond, &e.oep)),
    ]
}

/// The rows by return period; `row` makes label and amounts of the label, the iterations beyond,
/// and the figures.
fn exceedance_rows(
    job_result: &JobResult,
    words: Vocabulary,
    header: Vec<&'static str>,
    row: impl Fn(String, u64, &Exceedance) -> (String, Vec<Option<f64>>),
) -> ResultTable {
    let rows = job_result.summary.exceedance.iter().map(|e| {
        let label = format!("{} {}", format_count(e.return_period), words.iterations);
        let (label, amounts) = row(label, beyond_return_period(job_result, e.return_period), e);
        [label].into_iter().chain(amounts.into_iter().map(format_optional_amount)).collect()
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
    warnings.extend(saturation_warnings(request, job_result));
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
