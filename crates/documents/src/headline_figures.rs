//! The state and the headline figures of a job record, in the words of the summary of a run, so
//! that every command and page gives the same answer.

use forge_contract::job::{JobRecord, JobState};
use forge_kernel::workload::{PROFILES, Vocabulary};
use serde_json::{Map, Value};

use crate::{
    number_format::{format_amount, format_percent, format_ratio, format_rounded},
    result_tables::{capitalise, compared_position},
};

/// Figures of a portfolio by their names in a record, and where the output has them.
const PORTFOLIO_FIGURES: [(&str, &str); 4] = [
    ("mean_net_loss", "/net/mean"),
    ("mean_gross_loss", "/gross/mean"),
    ("scr", "/capital_adequacy_signal/scr"),
    ("solvency_ratio", "/capital_adequacy_signal/ratio"),
];

/// A quantile of a portfolio that records have, at the level at which tables compare its parts.
struct PortfolioQuantile {
    /// What follows the level in its name, as in `p995_net_loss`.
    name: &'static str,
    /// Label, as in `Net VaR at 99.5%`.
    label: &'static str,
    /// Member of the output.
    member: &'static str,
    /// Whether it is of occurrences, which a portfolio need not have.
    is_largest: bool,
}

const PORTFOLIO_QUANTILES: [PortfolioQuantile; 4] = [
    PortfolioQuantile { name: "net_loss", label: "Net VaR", member: "net", is_largest: false },
    PortfolioQuantile { name: "gross_loss", label: "Gross VaR", member: "gross", is_largest: false },
    PortfolioQuantile {
        name: "net_largest_loss",
        label: "Net OEP",
        member: "net_largest_occurrence",
        is_largest: true,
    },
    PortfolioQuantile {
        name: "gross_largest_loss",
        label: "Gross OEP",
        member: "largest_occurrence",
        is_largest: true,
    },
];

/// The headline figures of a result's `output`, as the record of its job has them: its numeric
/// members, such as `mean_loss`, and of a portfolio means, quantiles and capital.
pub fn record_figures(output: &Value) -> Map<String, Value> {
    let numbers = output.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value));
    let of_portfolio =
        PORTFOLIO_FIGURES.iter().filter_map(|&(name, path)| Some((name.to_owned(), output.pointer(path)?)));
    let position = compared_position(output);
    let has_occurrences = output["largest_occurrence"]["max"].as_f64() > Some(0.0);
    let quantiles = PORTFOLIO_QUANTILES.iter().filter(|quantile| has_occurrences || !quantile.is_largest);
    let quantiles = quantiles.filter_map(|quantile| {
        let row = output[quantile.member]["quantiles"].get(position)?;
        let level = row["level"].as_f64()?.to_string();
        Some((format!("p{:0<2}_{}", level.strip_prefix("0.")?, quantile.name), &row["var"]))
    });
    let figures = numbers.chain(of_portfolio).chain(quantiles).filter(|(_, value)| value.is_number());
    figures.map(|(name, value)| (name, value.clone())).collect()
}

/// The state of a job: why it waits if it does, and else its state, with the failure code if it has
/// failed. A waiting job may be planned or running, but nothing of it is executed.
pub fn state_label(record: &JobRecord) -> String {
    match (&record.waiting, &record.error, record.state) {
        (Some(reason), _, state) if !state.is_terminal() => format!("waiting: {reason}"),
        (_, Some(error), JobState::Failed) => format!("failed ({})", error.code),
        (_, _, state) => state.as_str().to_owned(),
    }
}

/// Labels and texts of figures by their names, in the words of a profile if there is one of this
/// name.
pub fn profile_figures(profile: Option<&str>, figures: &Map<String, Value>) -> Vec<(String, String)> {
    let profile = PROFILES.into_iter().find(|known| Some(known.name) == profile);
    headline_figures(figures, profile.map(|profile| profile.vocabulary))
}

/// Labels and texts of the figures of a record by their names, such as `mean_loss`: mean and
/// deviation first, then from the smallest value over the quantiles to the largest. Names that are
/// not known here become words.
pub fn headline_figures(figures: &Map<String, Value>, words: Option<Vocabulary>) -> Vec<(String, String)> {
    let mut numbers: Vec<_> =
        figures.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_f64()?))).collect();
    // Levels of quantiles compare as the digits behind the decimal point.
    numbers.sort_by_key(|&(name, _)| (place(name), level_digits(name), portfolio_place(name)));
    numbers.into_iter().map(|(name, value)| headline_figure(name, value, words)).collect()
}

fn place(name: &str) -> u8 {
    match name {
        "mean_loss" | "mean_eta" | "mean_net_loss" | "mean_gross_loss" => 0,
        "std_dev" => 1,
        "std_error" => 2,
        "min_loss" | "min_eta" => 3,
        name if level_digits(name).is_some() => 4,
        "max_loss" | "max_eta" => 5,
        _ => 6,
    }
}

/// The quantile of a portfolio that a name is of, and its place among them.
fn portfolio_quantile(name: &str) -> Option<(usize, &'static PortfolioQuantile)> {
    level_digits(name)?;
    let (_, rest) = name.split_once('_')?;
    PORTFOLIO_QUANTILES.iter().enumerate().find(|(_, quantile)| quantile.name == rest)
}

fn portfolio_place(name: &str) -> Option<usize> {
    let of_means = PORTFOLIO_FIGURES.iter().position(|&(figure, _)| figure == name);
    portfolio_quantile(name).map(|(place, _)| place).or(of_means)
}

fn headline_figure(name: &str, value: f64, words: Option<Vocabulary>) -> (String, String) {
    (headline_label(name, words), figure_text(name, value))
}

/// A figure as text, by its name in a record.
pub(crate) fn figure_text(name: &str, value: f64) -> String {
    match name {
        "scr" => format_rounded(value),
        name if portfolio_quantile(name).is_some() => format_rounded(value),
        "solvency_ratio" => format_ratio(value),
        _ if name.ends_with("_probability") => format_percent(value),
        _ => format_amount(value),
    }
}

fn headline_label(name: &str, words: Option<Vocabulary>) -> String {
    let iterations = words.map_or("iterations", |words| words.iterations);
    let occurrences = words.map_or("occurrences", |words| words.occurrences);
    match name {
        "mean_loss" | "mean_eta" => "Mean".to_owned(),
        "std_dev" => "Standard deviation".to_owned(),
        "std_error" => "Standard error of the mean".to_owned(),
        "min_loss" | "min_eta" => "Smallest".to_owned(),
        "max_loss" | "max_eta" => "Largest".to_owned(),
        "zero_loss_probability" => capitalise(&format!("{iterations} without {occurrences}")),
        "aggregate_limit_probability" => capitalise(&format!("{iterations} at the aggregate limit")),
        "scr" => "SCR".to_owned(),
        other => quantile_label(other).unwrap_or_else(|| capitalise(&other.replace('_', " "))),
    }
}

fn quantile_label(name: &str) -> Option<String> {
    let level = level_digits(name).map(|digits| {
        let (percent, decimals) = digits.split_at(2);
        let percent = percent.strip_prefix('0').unwrap_or(percent);
        let point = if decimals.is_empty() { "" } else { "." };
        format!("{percent}{point}{decimals}%")
    })?;
    Some(match portfolio_quantile(name) {
        Some((_, quantile)) => format!("{} at {level}", quantile.label),
        None => format!("{level} quantile"),
    })
}

/// The level of a quantile, as its name has it: 995 in `p995_loss`, at 99.5%.
fn level_digits(name: &str) -> Option<&str> {
    let digits = name.strip_prefix('p')?.split('_').next()?;
    (digits.len() >= 2 && digits.bytes().all(|digit| digit.is_ascii_digit())).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_words_of_the_summary_and_are_never_rounded_to_0() {
        let figure = |name, value| headline_figure(name, value, None);
        let pair = |label: &str, text: &str| (label.to_owned(), text.to_owned());
        assert_eq!(
            figure("zero_loss_probability", 0.001_038),
            pair("Iterations without occurrences", "0.10%")
        );
        assert_eq!(figure("mean_loss", 0.001_038), pair("Mean", "0.001038"));
        assert_eq!(figure("p995_loss", 1234.5), pair("99.5% quantile", "1,234.50"));
        assert_eq!(figure("p50_eta", 2.0), pair("50% quantile", "2.00"));
        assert_eq!(figure("mean_net_loss", 2.0), pair("Mean net loss", "2.00"));
        assert_eq!(figure("solvency_ratio", 1.5), pair("Solvency ratio", "150.0%"));
        assert_eq!(figure("p995_net_largest_loss", 2e6), pair("Net OEP at 99.5%", "2,000,000"));
        assert_eq!(figure("p05_gross_loss", 2.0), pair("Gross VaR at 5%", "2.00"));
    }

    #[test]
    fn figures_ascend_from_the_smallest_value_to_the_largest() {
        let names =
            ["mean_loss", "std_dev", "min_loss", "p50_loss", "p99_loss", "p995_loss", "max_loss", "scr"];
        let figures = names.iter().map(|&name| (name.to_owned(), Value::from(1.0))).collect();
        let labels: Vec<_> = headline_figures(&figures, None).into_iter().map(|(label, _)| label).collect();
        assert_eq!(labels, names.map(|name| headline_label(name, None)));
    }
}
