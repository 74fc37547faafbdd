//! The state and the headline figures of a job record, in the words of the summary of a run, so
//! that every command and page gives the same answer. Does not know which figures a record has.

use forge_contract::job::{JobRecord, JobState};
use forge_kernel::workload::{PROFILES, Vocabulary};
use serde_json::{Map, Value};

use crate::{
    number_format::{format_amount, format_percent, format_ratio, format_rounded},
    result_tables::capitalise,
};

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
    numbers.sort_by_key(|&(name, _)| (place(name), level_digits(name)));
    numbers.into_iter().map(|(name, value)| headline_figure(name, value, words)).collect()
}

fn place(name: &str) -> u8 {
    match name {
        "mean_loss" | "mean_eta" => 0,
        "std_dev" => 1,
        "std_error" => 2,
        "min_loss" | "min_eta" => 3,
        name if level_digits(name).is_some() => 4,
        "max_loss" | "max_eta" => 5,
        _ => 6,
    }
}

fn headline_figure(name: &str, value: f64, words: Option<Vocabulary>) -> (String, String) {
    (headline_label(name, words), figure_text(name, value))
}

/// A figure as text, by its name in a record.
pub(crate) fn figure_text(name: &str, value: f64) -> String {
    match name {
        "scr" => format_rounded(value),
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
    level_digits(name).map(|digits| {
        let (percent, decimals) = digits.split_at(2);
        let point = if decimals.is_empty() { "" } else { "." };
        format!("{percent}{point}{decimals}% quantile")
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
