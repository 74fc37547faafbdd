//! The table of the figures of a run beside those of its model.

use serde_json::Value;

use super::{ABSENT, PortfolioOutput, PortfolioPart, TitledTable, amount, text, titled};
use crate::{
    number_format::format_rounded,
    result_tables::{TableWidth, capitalise},
};

/// What stands in place of z-scores, with its meaning.
const CHECK_WORDS: [(&str, &str); 8] = [
    ("index", "depends on an index, so no model figure"),
    ("strikes", "is a sum of independent losses, so no model figure"),
    ("moment", "the tail is too heavy for this figure or its standard error"),
    ("single year", "a single year has no variance"),
    ("few years", "fewer than 10 expected"),
    ("exact", "the same in every year, and equal to the model's"),
    ("DIFFERS", "the same in every year of the model, but not of this run"),
    ("constant", "nearly the same in every run, so no standard error"),
];
/// Figures that are equal but for rounding differ by less than this, relative to their size.
const ROUNDING: f64 = 1e-9;

/// The words that stand in place of z-scores in a table.
#[derive(Default)]
struct CheckLegend(Vec<String>);

impl CheckLegend {
    /// A difference in standard errors; in its place, why there is none.
    fn z_score(&mut self, check: &Value, is_variance: bool) -> String {
        let word = match (check["z"].as_f64(), check["no_z_reason"].as_str()) {
            (Some(z), _) => return format!("{z:+.2}"),
            (None, None) => return ABSENT.to_owned(),
            (None, Some("constant")) => constant_word(check, is_variance).to_owned(),
            (None, Some(reason)) => reason.replace('_', " "),
        };
        if !self.0.contains(&word) {
            self.0.push(word.clone());
        }
        word
    }

    /// A figure of the model, that of the run, and their distance.
    fn row(&mut self, label: String, check: &Value, is_variance: bool) -> Vec<String> {
        let z = self.z_score(check, is_variance);
        vec![label, figure(&check["expected"]), figure(&check["found"]), z]
    }

    /// A sentence for each word that the table has.
    fn sentences(&self) -> Vec<String> {
        let used = CHECK_WORDS.iter().filter(|(word, _)| self.0.iter().any(|used| used == word));
        used.map(|(word, meaning)| format!("{word}: {meaning}.")).collect()
    }
}

/// Whether a figure without a standard error is that of the model. The variance of two equally
/// probable values has no standard error either, but is not the same in every run.
fn constant_word(check: &Value, is_variance: bool) -> &'static str {
    let (Some(expected), Some(found)) = (check["expected"].as_f64(), check["found"].as_f64()) else {
        return "constant";
    };
    match (found - expected).abs() <= ROUNDING * expected.abs() {
        true => "exact",
        false if is_variance && expected > 0.0 => "constant",
        false => "DIFFERS",
    }
}

impl PortfolioOutput<'_> {
    /// Figures of the run beside those of the model: on a terminal the z-scores alone.
    pub(super) fn checks(&self) -> Option<TitledTable> {
        let mut legend = CheckLegend::default();
        let (header, rows, unknown) = match self.width {
            TableWidth::Terminal => {
                let header = vec!["Group", "Count mean", "Count var.", "Loss mean", "Loss var.", "No loss"];
                (header, self.z_scores(&mut legend), Vec::new())
            }
            TableWidth::Page => {
                let mut rows = self.checks_of_groups(&mut legend);
                let unknown = self.add_checks_of_largest(&mut rows, &mut legend);
                (vec!["Figure", "Model", "This run", "z"], rows, unknown)
            }
        };
        let title = "Checks against the model (z: distance in standard errors)";
        let checks = titled(PortfolioPart::Checks, title, header, rows.into_iter())?;
        let notes = legend.sentences().into_iter().chain(unknown).collect();
        Some(TitledTable { notes, ..checks })
    }

    fn checked_groups(&self) -> &[Value] {
        self.output["checks"]["groups"].as_array().map_or(&[][..], Vec::as_slice)
    }

    /// A row of z-scores for each group.
    fn z_scores(&self, legend: &mut CheckLegend) -> Vec<Vec<String>> {
        let rows = self.checked_groups().iter().map(|group| {
            let [count, gross] = ["count", "gross"].map(|name| &group[name]);
            vec![
                text(&group["name"]),
                legend.z_score(&count["mean"], false),
                legend.z_score(&count["variance"], true),
                legend.z_score(&gross["mean"], false),
                legend.z_score(&gross["variance"], true),
                legend.z_score(&group["zero_probability"], false),
            ]
        });
        rows.collect()
    }

    /// A row for each figure of the groups.
    fn checks_of_groups(&self, legend: &mut CheckLegend) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        for group in self.checked_groups() {
            let name = text(&group["name"]);
            let [of_mean, of_variance] = match self.unit {
                "" => [String::new(), String::new()],
                unit => [format!(", {unit}"), format!(", {unit}²")],
            };
            for (figures, words, units) in [
                ("count", "occurrences", ["", ""]),
                ("gross", "annual loss", [of_mean.as_str(), of_variance.as_str()]),
            ] {
                for (moment, unit) in ["mean", "variance"].into_iter().zip(units) {
                    let check = &group[figures][moment];
                    if check.is_object() {
                        let label = format!("{name}: {moment} of the {words}{unit}");
                        rows.push(legend.row(label, check, moment == "variance"));
                    }
                }
            }
            let label = format!("{name}: probability of no loss");
            rows.push(legend.row(label, &group["zero_probability"], false));
        }
        rows
    }

    /// Adds a row for each amount that the largest loss of a year may exceed: of all groups, and of
    /// each one where several have losses by occurrence. Returns a sentence for those of which the
    /// model has no figure.
    fn add_checks_of_largest(&self, rows: &mut Vec<Vec<String>>, legend: &mut CheckLegend) -> Vec<String> {
        let largest = self.output["checks"]["largest_occurrence"].as_array();
        let largest = largest.filter(|_| self.has_occurrences).map_or(&[][..], Vec::as_slice);
        let of_group = |at: usize| largest.iter().map(move |check| &check["groups"][at]);
        let groups = (0..self.checked_groups().len()).filter(|&at| of_group(at).any(Value::is_object));
        let groups: Vec<_> = groups.collect();
        let mut subjects = vec![("a year".to_owned(), String::new(), largest.iter().collect::<Vec<_>>())];
        for at in groups.iter().copied().filter(|_| groups.len() > 1) {
            let name = text(&self.checked_groups()[at]["name"]);
            subjects.push((name.clone(), format!("{name}: "), of_group(at).collect()));
        }
        let mut unknown: Vec<(&str, Vec<String>)> = Vec::new();
        for (name, prefix, checks) in subjects {
            let (known, others): (Vec<_>, Vec<_>) =
                checks.into_iter().partition(|check| check["probability"]["expected"].is_number());
            rows.extend(known.iter().map(|check| {
                let label =
                    format!("probability that the largest loss exceeds {}", self.amount_with_unit(check));
                let label = if prefix.is_empty() { capitalise(&label) } else { format!("{prefix}{label}") };
                legend.row(label, &check["probability"], false)
            }));
            let reason = others.first().and_then(|check| check["probability"]["no_z_reason"].as_str());
            if let Some(reason) = reason.filter(|_| known.is_empty()) {
                match unknown.iter_mut().find(|(other, _)| *other == reason) {
                    Some((_, names)) => names.push(name),
                    None => unknown.push((reason, vec![name])),
                }
            }
        }
        let sentence = |(reason, names): (&str, Vec<String>)| {
            let meaning =
                CHECK_WORDS.iter().find(|(word, _)| *word == reason).map_or(reason, |entry| entry.1);
            format!("The largest loss of {} {meaning}.", names.join(" and of "))
        };
        unknown.into_iter().map(sentence).collect()
    }

    fn amount_with_unit(&self, check: &Value) -> String {
        format!("{} {}", amount(&check["amount"]), self.unit).trim_end().to_owned()
    }
}

/// A figure of any size: a probability, a number or an amount.
fn figure(value: &Value) -> String {
    let text = |x: f64| match x.abs() < 1000.0 {
        true => format!("{x:.6}"),
        false => format_rounded(x),
    };
    value.as_f64().map_or_else(|| ABSENT.to_owned(), text)
}
