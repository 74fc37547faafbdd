//! The tables of a result: what they say, not how they are set. Shared by the summary in the terminal and the report page.

use forge_contract::{envelope::Seed, program::MAX_AMOUNT};
use forge_kernel::{converge::StopReason, request::Request, statistics::two_sided_z, workload::Words};

use crate::{
    figures::Figures,
    number::{amount, amount_or_dash, grouped, level, percent},
};

/// A table: its column heads and its rows of as many cells.
pub struct Table {
    /// Heads of the columns.
    pub header: Vec<&'static str>,
    /// Rows of cells; the first cell of a row is its label, the others are figures.
    pub rows: Vec<Vec<String>>,
}

/// A figure with its name, and what is to be said about it.
pub struct Figure {
    /// Its name.
    pub label: String,
    /// The figure.
    pub value: String,
    /// A remark; empty as a rule.
    pub remark: String,
}

impl Figure {
    fn new(label: impl Into<String>, value: String) -> Self {
        Self { label: label.into(), value, remark: String::new() }
    }
}

/// The text with a capital first letter.
pub fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A quantity with its unit: `travel time, s`.
pub fn with_unit(words: Words) -> String {
    if words.unit.is_empty() {
        words.quantity.to_owned()
    } else {
        format!("{}, {}", words.quantity, words.unit)
    }
}

/// The profile with its op, as in `mc@1 insurance.v1`.
pub fn profile(request: &Request) -> String {
    let op = &request.envelope.op;
    format!("{}@{} {}", op.name, op.version, op.profile)
}

/// How many iterations of how many, and why no more.
pub fn iterations(figures: &Figures, words: Words) -> String {
    let iterations = &figures.document.iterations;
    let reason = match iterations.stop_reason {
        StopReason::BandReached => "converged: band reached",
        StopReason::VarianceStable => "converged: variance stable",
        StopReason::BudgetExhausted => "budget exhausted",
    };
    let (performed, requested) = (grouped(iterations.performed), grouped(iterations.requested));
    format!("{performed} of {requested} {} ({reason})", words.iterations)
}

/// All occurrences, and each component's with those at its limit.
pub fn occurrences(request: &Request, figures: &Figures) -> String {
    let work = &figures.document.work;
    let components = work.components.iter().zip(&request.program.components);
    let components = components.map(|(counted, component)| {
        let limited = component.cap < MAX_AMOUNT && counted.capped > 0;
        let capped =
            if limited { format!(" ({} at the limit)", grouped(counted.capped)) } else { String::new() };
        format!("{} {}{capped}", counted.name, grouped(counted.occurrences))
    });
    format!("{}: {}", grouped(work.occurrences), components.collect::<Vec<_>>().join(", "))
}

/// Where the random numbers come from.
pub fn seed(request: &Request) -> &'static str {
    match request.envelope.seed {
        Seed::Derived => "derived from op and args",
        Seed::Explicit { .. } => "explicit",
    }
}

/// Mean, spread, extremes, and the probabilities of nothing and of the limit.
pub fn moments(request: &Request, figures: &Figures) -> Vec<Figure> {
    let (s, words) = (&figures.summary, request.profile().words);
    let iterations = capitalised(words.iterations);
    let mut moments = vec![Figure::new("Mean", amount(s.mean))];
    if let Some(error) = s.std_error {
        let reach = two_sided_z(0.95) * error;
        moments[0].remark = format!("standard error {}", amount(error));
        moments.push(Figure {
            remark: format!("to {}", amount(s.mean + reach)),
            ..Figure::new("95% CI of the mean", amount(s.mean - reach))
        });
    }
    moments.extend([
        Figure::new("Standard deviation", amount_or_dash(s.std_dev)),
        Figure::new("Smallest", amount(s.min)),
        Figure::new("Largest", amount(s.max)),
    ]);
    if words.return_periods {
        let label = format!("{iterations} without {}", words.occurrences);
        moments.push(Figure::new(label, percent(s.zero_probability)));
    }
    if request.program.cap < MAX_AMOUNT {
        moments.push(Figure::new(format!("{iterations} at the aggregate limit"), percent(s.cap_probability)));
    }
    moments
}

/// Value at risk with its confidence interval, and tail value at risk, by level.
pub fn quantiles(figures: &Figures) -> Table {
    let rows = figures.summary.quantiles.iter().map(|q| {
        vec![
            level(q.level),
            amount(q.var),
            amount_or_dash(q.var_low),
            amount_or_dash(q.var_high),
            amount(q.tvar),
        ]
    });
    Table { header: vec!["Level", "VaR", "95% CI low", "95% CI high", "TVaR"], rows: rows.collect() }
}

/// Exceedance of the total and of the largest occurrence, by return period.
pub fn exceedance(figures: &Figures, words: Words) -> Table {
    let rows = figures.summary.exceedance.iter().map(|e| {
        let period = format!("{} {}", grouped(e.return_period), words.iterations);
        [period].into_iter().chain([e.aep, e.aep_tvar, e.oep, e.oep_tvar].map(amount)).collect()
    });
    Table { header: vec!["Return period", "AEP", "AEP TVaR", "OEP", "OEP TVaR"], rows: rows.collect() }
}

/// What the two kinds of exceedance are of.
pub fn exceedance_title(words: Words) -> String {
    format!("Exceedance (AEP: {}, OEP: largest of its {})", words.quantity, words.occurrences)
}

/// What a reader must know before using the figures, with counts.
pub fn warnings(request: &Request, figures: &Figures) -> Vec<String> {
    let words = request.profile().words;
    let performed = figures.document.iterations.performed;
    let mut warnings = Vec::new();
    let saturated = figures.document.work.saturated;
    if saturated > 0 {
        let largest = amount(MAX_AMOUNT as f64 / f64::from(request.program.units));
        warnings.push(format!(
            "{} amounts exceeded {largest}, the largest there is, and were cut to it.",
            grouped(saturated)
        ));
        warnings
            .push("All figures understate them: lower the model's parameters, or give a limit.".to_owned());
    }
    let quantiles = &figures.summary.quantiles;
    let open = quantiles.iter().filter(|q| q.var_low.is_none() || q.var_high.is_none()).count();
    if open > 0 {
        warnings.push(format!(
            "Too few {} ({}) for a full 95% confidence interval of {open} of {} quantiles.",
            words.iterations,
            grouped(performed),
            quantiles.len()
        ));
    }
    let beyond = figures.summary.exceedance.iter().filter(|e| e.return_period > performed).count();
    if words.return_periods && beyond > 0 {
        warnings.push(format!(
            "{beyond} of {} return periods are longer than the {} simulated ({}).",
            figures.summary.exceedance.len(),
            words.iterations,
            grouped(performed)
        ));
    }
    warnings
}
