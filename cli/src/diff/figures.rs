//! The figures of a result with their 95% intervals, and how they differ from those of another.

use forge_kernel::statistics::two_sided_z;
use serde::Serialize;
use serde_json::{Map, Value};

use super::leaves::{Leaf, leaves};

/// Confidence of the intervals, as in `result.json`.
const CONFIDENCE: f64 = 0.95;
/// Members of the output that are not compared: the bars of a histogram depend on the largest
/// amount, and the checks compare a run with its own model.
const NOT_COMPARED: [&str; 3] = ["checks", "eta_distribution", "loss_distribution"];
/// The name of the total in rows of `exceedance`; its quantiles are those of the output itself.
const AEP: &str = "aep";
/// Levels have six decimals, so two that differ by less are the same.
const SAME_LEVEL: f64 = 1e-9;
/// Members of the output that hold parts of the whole, of which only means are shown by default.
const PARTS: [&str; 5] = ["allocation", "lines", "steps", "tail_exposure_surface", "treaties"];

/// One figure of a result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// A number, or a word such as `adequate`.
    pub value: Value,
    /// Ends of the 95% interval; null without one.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

/// A figure of two results.
#[derive(Debug, Serialize)]
pub struct FigureDifference {
    /// Name, such as `quantiles[0.995].var`.
    pub name: String,
    /// The figure of A; null if it has none.
    pub a: Option<Figure>,
    /// The figure of B; null if it has none.
    pub b: Option<Figure>,
    /// B − A.
    pub difference: Option<f64>,
    /// The difference divided by the magnitude of A; null where that is 0.
    pub relative: Option<f64>,
    /// Whether the intervals are apart, so that the difference is beyond sampling error; null where
    /// this is not known.
    pub beyond_sampling_error: Option<bool>,
    /// Whether it is a figure of a part that is not shown by default.
    #[serde(skip)]
    pub is_detail: bool,
}

impl FigureDifference {
    /// Whether the figures differ.
    pub fn differs(&self) -> bool {
        self.a.as_ref().map(|figure| &figure.value) != self.b.as_ref().map(|figure| &figure.value)
    }

    /// Whether both intervals are known and have a point in common.
    pub fn overlaps(&self) -> Option<bool> {
        let (a, b) = (self.a.as_ref()?, self.b.as_ref()?);
        Some(a.low? <= b.high? && b.low? <= a.high?)
    }
}

/// The figures of an output in document order, with their names.
pub fn figures(output: &Map<String, Value>, iterations: u64) -> Vec<(String, Figure)> {
    let is_compared = |name: &str| !NOT_COMPARED.contains(&top_member(name));
    let found = leaves(output)
        .into_iter()
        .filter(|(name, leaf)| is_compared(name) && is_figure(leaf) && !repeats_a_level(name, output));
    found.map(|(name, leaf)| (name, to_figure(&leaf, iterations))).collect()
}

/// The figures of two results side by side: those of A in order, then those that only B has.
pub fn compare(
    a: Vec<(String, Figure)>,
    mut b: Vec<(String, Figure)>,
    has_common_random_numbers: bool,
) -> Vec<FigureDifference> {
    let mut pairs = Vec::with_capacity(a.len());
    for (name, figure) in a {
        let position = b.iter().position(|(other, _)| *other == name);
        pairs.push((name, Some(figure), position.map(|position| b.remove(position).1)));
    }
    pairs.extend(b.into_iter().map(|(name, figure)| (name, None, Some(figure))));
    pairs.into_iter().map(|(name, a, b)| difference(name, a, b, has_common_random_numbers)).collect()
}

fn difference(
    name: String,
    a: Option<Figure>,
    b: Option<Figure>,
    has_common_random_numbers: bool,
) -> FigureDifference {
    let number = |figure: &Option<Figure>| figure.as_ref().and_then(|figure| figure.value.as_f64());
    let numbers = number(&a).zip(number(&b));
    let difference = numbers.map(|(a, b)| b - a);
    let relative = numbers.filter(|(a, _)| *a != 0.0).map(|(a, b)| (b - a) / a.abs());
    let is_part = name.split('.').any(|member| PARTS.contains(&top_member(member)));
    let is_detail = is_part && !name.ends_with(".mean");
    let mut row =
        FigureDifference { name, a, b, difference, relative, beyond_sampling_error: None, is_detail };
    row.beyond_sampling_error = match row.overlaps() {
        Some(true) if has_common_random_numbers && row.differs() => None,
        overlaps => overlaps.map(|overlaps| !overlaps),
    };
    row
}

/// The member of the document that a name begins with.
fn top_member(name: &str) -> &str {
    name.split(['.', '[']).next().unwrap_or(name)
}

/// Whether a leaf is a figure of its own, not the interval of another or a repetition.
fn is_figure(leaf: &Leaf<'_>) -> bool {
    let is_interval = leaf.siblings.is_some()
        && (leaf.key == "std_error" || leaf.key.ends_with("_low") || leaf.key.ends_with("_high"));
    let is_value = leaf.value.is_number() || leaf.value.is_string();
    is_value && !is_interval && !repeats_a_quantile(leaf)
}

/// Whether a figure such as `p995_loss` has its level among `quantiles`, where it has an interval.
fn repeats_a_quantile(leaf: &Leaf<'_>) -> bool {
    let digits = leaf.key.strip_prefix('p').and_then(|rest| rest.split_once('_')).map(|(digits, _)| digits);
    let level = digits.and_then(|digits| format!("0.{digits}").parse::<f64>().ok());
    let quantiles = leaf.siblings.and_then(|siblings| siblings.get("quantiles")?.as_array());
    let Some((level, quantiles)) = level.zip(quantiles) else { return false };
    quantiles.iter().any(|quantile| quantile["level"].as_f64() == Some(level))
}

/// Whether a figure such as `exceedance[200].net.var` has its return period as a level among the
/// quantiles of the same amount, such as `net.quantiles[0.995].var`.
fn repeats_a_level(name: &str, output: &Map<String, Value>) -> bool {
    let of_period = name.strip_prefix("exceedance[").and_then(|rest| rest.split_once("]."));
    let Some((period, (amount, _))) =
        of_period.and_then(|(period, rest)| Some((period.parse::<f64>().ok()?, rest.rsplit_once('.')?)))
    else {
        return false;
    };
    // Elements of lists have no names within a row of exceedance, so their numbers stand for them.
    let members = amount.split(['.', '[']).map(|member| member.trim_end_matches(']'));
    let members: Vec<_> = members.filter(|member| *member != AEP).collect();
    let quantiles = match members.split_first() {
        None => output.get("quantiles"),
        Some((first, rest)) => output.get(*first).and_then(|value| {
            value.pointer(
                &rest.iter().chain(&["quantiles"]).map(|member| format!("/{member}")).collect::<String>(),
            )
        }),
    };
    let level = 1.0 - 1.0 / period;
    let is_level =
        |row: &Value| row["level"].as_f64().is_some_and(|known| (known - level).abs() < SAME_LEVEL);
    quantiles.and_then(Value::as_array).is_some_and(|rows| rows.iter().any(is_level))
}

fn to_figure(leaf: &Leaf<'_>, iterations: u64) -> Figure {
    let interval = leaf.value.as_f64().and_then(|value| interval(leaf, value, iterations));
    let (low, high) = interval.unzip();
    Figure { value: leaf.value.clone(), low, high }
}

/// The 95% interval of a figure: the one that the result states, that of a mean from its standard
/// error, or that of a fraction of the iterations.
fn interval(leaf: &Leaf<'_>, value: f64, iterations: u64) -> Option<(f64, f64)> {
    let sibling = |key: &str| leaf.siblings?.get(key)?.as_f64();
    let stated = sibling(&format!("{}_low", leaf.key)).zip(sibling(&format!("{}_high", leaf.key)));
    let is_mean = matches!(leaf.key, "mean" | "mean_loss" | "mean_eta");
    let z = two_sided_z(CONFIDENCE);
    stated
        .or_else(|| {
            let half_width = z * sibling("std_error").filter(|_| is_mean)?;
            Some((value - half_width, value + half_width))
        })
        .or_else(|| leaf.key.ends_with("_probability").then(|| wilson_interval(value, iterations as f64, z)))
}

/// The score interval of a probability (Wilson 1927): it has a width also where the fraction is 0
/// or 1.
fn wilson_interval(fraction: f64, trials: f64, z: f64) -> (f64, f64) {
    let spread = z * z / trials;
    let centre = fraction + spread / 2.0;
    let half_width = (spread * (fraction * (1.0 - fraction) + spread / 4.0)).sqrt();
    ((centre - half_width) / (1.0 + spread), (centre + half_width) / (1.0 + spread))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn figures_of(output: &Value, iterations: u64) -> Vec<(String, Figure)> {
        figures(output.as_object().unwrap(), iterations)
    }

    #[test]
    fn figures_have_the_intervals_of_the_result() {
        let output = json!({
            "mean_loss": 10.0, "std_error": 0.5, "p995_loss": 90, "p99_loss": 80, "max_loss": 100,
            "quantiles": [{"level": 0.995, "var": 90, "var_low": 85, "var_high": null},
                          {"level": 0.5, "var": 5, "var_low": 4, "var_high": 6}],
            "zero_loss_probability": 0.0,
            "loss_distribution": {"edges": [1, 2], "counts": [3]},
        });
        let found = figures_of(&output, 100);
        let interval = |name: &str| {
            let (_, figure) = found.iter().find(|(found, _)| found == name).unwrap();
            figure.low.zip(figure.high)
        };
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "max_loss",
                "mean_loss",
                "p99_loss",
                "quantiles[0.995].var",
                "quantiles[0.5].var",
                "zero_loss_probability"
            ]
        );
        assert_eq!(interval("quantiles[0.5].var"), Some((4.0, 6.0)));
        assert_eq!((interval("quantiles[0.995].var"), interval("max_loss")), (None, None));
        let (low, high) = interval("mean_loss").unwrap();
        assert!((low - 9.020_018).abs() < 1e-5 && (high - 10.979_982).abs() < 1e-5, "{low} {high}");
        // Wilson's interval of 0 of 100: from 0 to z²/(n + z²).
        let (low, high) = interval("zero_loss_probability").unwrap();
        assert!(low.abs() < 1e-12 && (high - 0.036_993_5).abs() < 1e-6, "{low} {high}");
    }

    #[test]
    fn intervals_that_are_apart_are_beyond_sampling_error() {
        let figure = |value: f64, reach: f64| Figure {
            value: value.into(),
            low: Some(value - reach),
            high: Some(value + reach),
        };
        let row = |a: Figure, b: Figure, common| {
            let row = compare(vec![("x".to_owned(), a)], vec![("x".to_owned(), b)], common);
            let row = row.into_iter().next().unwrap();
            (row.difference, row.relative, row.beyond_sampling_error)
        };
        assert_eq!(row(figure(10.0, 1.0), figure(13.0, 1.0), false), (Some(3.0), Some(0.3), Some(true)));
        assert_eq!(row(figure(10.0, 1.0), figure(11.0, 1.0), false), (Some(1.0), Some(0.1), Some(false)));
        // Less sampling error than the intervals suggest: overlapping intervals tell nothing.
        assert_eq!(row(figure(10.0, 1.0), figure(11.0, 1.0), true).2, None);
        assert_eq!(row(figure(10.0, 1.0), figure(13.0, 1.0), true).2, Some(true));
        assert_eq!(row(figure(10.0, 1.0), figure(10.0, 1.0), true).2, Some(false));
        assert_eq!(row(figure(0.0, 1.0), figure(1.0, 1.0), false).1, None);
    }

    #[test]
    fn figures_of_one_result_alone_are_listed() {
        let a = figures_of(&json!({"mean": 1, "lines": [{"name": "x", "gross": {"mean": 2, "max": 3}}]}), 10);
        let b = figures_of(&json!({"mean": 1, "signal": "adequate"}), 10);
        let rows = compare(a, b, false);
        let shown: Vec<_> =
            rows.iter().map(|row| (row.name.as_str(), row.differs(), row.is_detail)).collect();
        assert_eq!(
            shown,
            [
                ("lines[x].gross.max", true, true),
                ("lines[x].gross.mean", true, false),
                ("mean", false, false),
                ("signal", true, false)
            ]
        );
        assert!(rows.iter().all(|row| row.name == "mean" || row.difference.is_none()));
    }

    #[test]
    fn a_return_period_that_is_a_reported_level_is_listed_once() {
        let tail = |var: u64| json!({"var": var, "var_low": var - 1, "var_high": var + 1});
        let figures = |level: f64| {
            let mut row = tail(5);
            row["level"] = json!(level);
            json!({"quantiles": [row]})
        };
        let output = json!({
            "net": figures(0.995),
            "lines": [{"name": "a", "gross": figures(0.99)}],
            "exceedance": [
                {"return_period": 200, "net": tail(5), "gross": tail(6), "lines": [{"gross": tail(7)}]},
                {"return_period": 100, "net": tail(8), "lines": [{"gross": tail(5)}]},
            ],
        });
        let rows = compare(figures_of(&output, 10), Vec::new(), false);
        let found: Vec<_> = rows.iter().map(|row| (row.name.as_str(), row.is_detail)).collect();
        let expected = [
            ("exceedance[200].gross.var", false),
            ("exceedance[200].lines[0].gross.var", true),
            ("exceedance[100].net.var", false),
            ("lines[a].gross.quantiles[0.99].var", true),
            ("net.quantiles[0.995].var", false),
        ];
        assert_eq!(found, expected);
        let insurance = json!({
            "quantiles": figures(0.995)["quantiles"],
            "exceedance": [{"return_period": 200, "aep": tail(5), "oep": tail(4)}],
        });
        let names: Vec<_> = figures_of(&insurance, 10).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["exceedance[200].oep.var", "quantiles[0.995].var"]);
    }
}
