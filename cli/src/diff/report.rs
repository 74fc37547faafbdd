//! The comparison of two results as text and as JSON.

use forge_documents::number_format::{
    format_amount, format_count, format_percent, format_ratio, format_rounded,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    compared_result::ComparedResult,
    figures::{Figure, FigureDifference, compare, figures},
    leaves::{leaves, text_of},
};
use crate::{
    error::CommandError,
    foreign_text::quote_value,
    output::{TextStyle, to_json_document},
    text::table,
};

/// Rows of the table of args that are shown without `--all`: a list of amounts may have thousands.
const MAX_ARGS: usize = 50;
/// Below this, one decimal of a percentage is not enough.
const SMALL_RATIO: f64 = 0.01;
/// From this on amounts are shown in whole units.
const MANY_DIGITS: f64 = 1e6;
const COMMON_RANDOM_NUMBERS: &str = "\
common random numbers: the differences have less sampling error than the intervals suggest, so
intervals that overlap tell nothing (-)";

/// The comparison of two results.
pub struct DiffReport<'a> {
    a: &'a ComparedResult,
    b: &'a ComparedResult,
    /// Whether both have the same result hash.
    pub is_same_result: bool,
    has_common_random_numbers: bool,
    args: Vec<ArgDifference>,
    figures: Vec<FigureDifference>,
}

/// An arg of both results; null where it is absent.
#[derive(Serialize)]
struct ArgDifference {
    name: String,
    a: Option<Value>,
    b: Option<Value>,
}

impl<'a> DiffReport<'a> {
    /// Compares two results of the same profile.
    ///
    /// # Errors
    /// The profiles differ, or the args of a result are not those of a model.
    pub fn new(a: &'a ComparedResult, b: &'a ComparedResult) -> Result<Self, CommandError> {
        let profile = |result: &ComparedResult| result.fields.op.profile.clone();
        if a.fields.op != b.fields.op {
            return Err(CommandError::Input(format!(
                "{} is of profile {}, and {} of {}: their figures cannot be compared",
                a.source,
                profile(a),
                b.source,
                profile(b)
            )));
        }
        let is_same_result = a.hash == b.hash;
        let has_common_random_numbers = is_same_result || a.has_common_random_numbers(b)?;
        let figures_of =
            |result: &ComparedResult| figures(&result.fields.output, result.fields.iterations.performed);
        Ok(Self {
            a,
            b,
            is_same_result,
            has_common_random_numbers,
            args: compare_args(a, b),
            figures: compare(figures_of(a), figures_of(b), has_common_random_numbers),
        })
    }

    /// One JSON object; docs/guides/scripting.md describes its fields.
    pub fn to_json(&self, all: bool) -> String {
        let result = |result: &ComparedResult| {
            json!({
                "source": result.source,
                "result": result.hash,
                "op": result.fields.op,
                "root_seed": result.fields.seed.root_seed,
                "iterations": result.fields.iterations.performed,
            })
        };
        let args: Vec<_> = self.args.iter().filter(|arg| all || arg.a != arg.b).collect();
        let document = json!({
            "schema": "forge.diff.v1",
            "same_result": self.is_same_result,
            "common_random_numbers": self.has_common_random_numbers,
            "a": result(self.a),
            "b": result(self.b),
            "args": args,
            "figures": self.figures,
        });
        to_json_document(&document)
    }

    /// The results, their args and their figures.
    pub fn render(&self, all: bool, style: TextStyle) -> String {
        let mut text =
            format!("{}\n", table::render_text_table(&["", "A", "B"], &self.facts(), usize::MAX).join("\n"));
        if self.is_same_result {
            text += &format!("\n{}\n", style.heading("the same result"));
            if !all {
                return text;
            }
        }
        text += &self.render_args(all, style);
        text += &self.render_figures(all, style);
        if !self.is_same_result {
            text += &format!("\n{}\n", self.conclusion(all));
        }
        text
    }

    /// What identifies the results.
    fn facts(&self) -> Vec<Vec<String>> {
        let row = |label: &str, text: &dyn Fn(&ComparedResult) -> String| {
            vec![label.to_owned(), text(self.a), text(self.b)]
        };
        vec![
            row("Result of", &|result| result.source.clone()),
            row("SHA-256", &|result| short(&result.hash.to_hex())),
            row("Profile", &|result| result.fields.op.profile.clone()),
            row("Root seed", &|result| short(&result.fields.seed.root_seed.to_hex())),
            row("Iterations", &|result| format_count(result.fields.iterations.performed)),
        ]
    }

    fn render_args(&self, all: bool, style: TextStyle) -> String {
        let shown: Vec<_> = self.args.iter().filter(|arg| all || arg.a != arg.b).collect();
        let title = style.heading(if all { "Args" } else { "Args that differ" });
        if shown.is_empty() {
            return format!("\n{title}\n  none\n");
        }
        let max = if all { usize::MAX } else { MAX_ARGS };
        let text = |value: &Option<Value>| value.as_ref().map_or_else(|| "-".to_owned(), text_of);
        let row = |arg: &&ArgDifference| vec![arg.name.clone(), text(&arg.a), text(&arg.b)];
        let rows: Vec<_> = shown.iter().take(max).map(row).collect();
        let lines = table::render_text_table(&["Arg", "A", "B"], &rows, table::output_width());
        let more = match shown.len() - rows.len() {
            0 => String::new(),
            count => format!("  … and {}: --all shows them\n", format_count(count as u64)),
        };
        format!("\n{title}\n{}\n{more}", lines.join("\n"))
    }

    fn render_figures(&self, all: bool, style: TextStyle) -> String {
        let shown: Vec<_> = self.shown_figures(all).collect();
        let title = style.heading(if all { "Figures" } else { "Figures that differ" });
        if shown.is_empty() {
            return format!("\n{title}\n  none\n");
        }
        let header = ["Figure", "A", "B", "Difference", "Relative", "95% CIs"];
        let rows: Vec<_> = shown.iter().map(|row| figure_cells(row)).collect();
        let lines = table::render_table(&header, &rows);
        let is_hidden = |row: &&FigureDifference| row.differs() && row.is_detail;
        let hidden = if all { 0 } else { self.figures.iter().filter(is_hidden).count() };
        let more = match hidden {
            0 => String::new(),
            count => format!("  … and {} of parts: --all shows them\n", format_count(count as u64)),
        };
        format!("\n{title}\n{}\n{more}", lines.join("\n"))
    }

    fn shown_figures(&self, all: bool) -> impl Iterator<Item = &FigureDifference> {
        self.figures.iter().filter(move |row| all || row.differs() && !row.is_detail)
    }

    /// How the differences that are shown compare with the sampling error.
    fn conclusion(&self, all: bool) -> String {
        let compared = self.shown_figures(all).filter_map(FigureDifference::overlaps);
        let (overlapping, apart): (Vec<_>, Vec<_>) = compared.partition(|overlaps| *overlaps);
        let counts = format!(
            "beyond sampling error (intervals apart): {} of the {} figures above that have intervals",
            format_count(apart.len() as u64),
            format_count((apart.len() + overlapping.len()) as u64)
        );
        if self.has_common_random_numbers { format!("{counts}\n{COMMON_RANDOM_NUMBERS}") } else { counts }
    }
}

/// The args of both results: those of A in order, then those that only B has.
fn compare_args(a: &ComparedResult, b: &ComparedResult) -> Vec<ArgDifference> {
    let (of_a, mut of_b) = (leaves(&a.fields.args), leaves(&b.fields.args));
    let mut args = Vec::with_capacity(of_a.len());
    for (name, leaf) in of_a {
        let position = of_b.iter().position(|(other, _)| *other == name);
        let other = position.map(|position| of_b.remove(position).1.value.clone());
        args.push(ArgDifference { name, a: Some(leaf.value.clone()), b: other });
    }
    args.extend(of_b.into_iter().map(|(name, leaf)| ArgDifference {
        name,
        a: None,
        b: Some(leaf.value.clone()),
    }));
    args
}

fn figure_cells(row: &FigureDifference) -> Vec<String> {
    let is_probability = row.name.ends_with("_probability");
    let number = |value: f64| match value.abs() {
        _ if is_probability => format_percent(value),
        magnitude if magnitude >= MANY_DIGITS => format_rounded(value),
        _ => format_amount(value),
    };
    let figure = |figure: &Option<Figure>| match figure.as_ref().map(|figure| &figure.value) {
        None => "-".to_owned(),
        Some(value) => value.as_f64().map_or_else(|| text_of(value), number),
    };
    let signed = |value: f64, text: String| match value {
        0.0 => text,
        _ if value < 0.0 => format!("-{text}"),
        _ => format!("+{text}"),
    };
    let difference = row.difference.map(|value| signed(value, number(value.abs())));
    let relative = row.relative.map(|value| signed(value, format_relative(value.abs())));
    let intervals = row.beyond_sampling_error.map(|beyond| if beyond { "apart" } else { "overlap" });
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        quote_value(&row.name),
        figure(&row.a),
        figure(&row.b),
        or_none(difference),
        or_none(relative),
        or_none(intervals.map(str::to_owned)),
    ]
}

/// A relative difference, with enough decimals to distinguish it from 0%.
fn format_relative(magnitude: f64) -> String {
    if magnitude < SMALL_RATIO { format_percent(magnitude) } else { format_ratio(magnitude) }
}

/// The beginning of a hash, which tells hashes apart.
fn short(hash: &str) -> String {
    format!("{}…", &hash[..16])
}
