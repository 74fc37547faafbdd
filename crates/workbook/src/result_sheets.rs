//! The sheets that results of all profiles have: summary, exceedance and model.

use forge_documents::{
    JobResult,
    number_format::{format_count, format_level},
    result_tables::{self, capitalise},
    tail_value_intervals::{beyond_level, beyond_return_period, few_beyond_notes, mark_if_few},
};
use forge_kernel::{KERNEL, request::Request, summary::MIN_BEYOND_FOR_TAIL_VALUES, workload::arg_meanings};
use serde_json::Value;

use crate::sheet::{ChartKind, NumberStyle, Sheet, SheetCell, headings, list};

/// Which job it is, its moments and its quantiles.
pub fn summary(request: &Request, job_result: &JobResult, document: &Value) -> Sheet {
    let words = request.profile().vocabulary;
    let title = result_tables::title(request).unwrap_or(request.profile().name);
    let mut sheet = Sheet::new("Summary", title, headings(&["Figure", "Value", "95% CI low", "95% CI high"]));
    let text = |label: &str, text: String| vec![SheetCell::text(label), SheetCell::Text(text)];
    let row = |label: String, cell: SheetCell| vec![SheetCell::Text(label), cell];
    sheet.rows.extend([
        text("Model", result_tables::profile_label(request)),
        text("Quantity", result_tables::quantity_with_unit(request)),
        text("Iterations", result_tables::iterations_text(job_result, words)),
    ]);
    let summary = &job_result.summary;
    let amount = |figure: Option<f64>| {
        figure.map_or(SheetCell::Empty, |figure| SheetCell::Number(figure, NumberStyle::Amount))
    };
    sheet.rows.extend([
        row("Mean".to_owned(), amount(summary.mean)),
        row("Standard error of the mean".to_owned(), amount(summary.std_error)),
        row("Standard deviation".to_owned(), amount(summary.std_dev)),
        row("Smallest".to_owned(), amount(Some(summary.min))),
        row("Largest".to_owned(), amount(Some(summary.max))),
        row(
            format!("{} without {}", capitalise(words.iterations), words.quantity),
            SheetCell::Number(summary.zero_probability, NumberStyle::Percent),
        ),
    ]);
    let interval = |label: String, figures: [Option<f64>; 3]| {
        [SheetCell::Text(label)].into_iter().chain(figures.map(amount)).collect::<Vec<_>>()
    };
    let mut tail_labels = Vec::new();
    for quantile in &summary.quantiles {
        let (level, tail) = (format_level(quantile.level), &quantile.tail);
        let beyond = beyond_level(job_result, quantile.level);
        let tail_label = mark_if_few(format!("TVaR at {level}"), beyond, tail.tvar_low.is_some());
        sheet.rows.push(interval(format!("VaR at {level}"), [Some(tail.var), tail.var_low, tail.var_high]));
        sheet.rows.push(interval(tail_label.clone(), [tail.tvar, tail.tvar_low, tail.tvar_high]));
        tail_labels.push(vec![tail_label]);
    }
    let capital = &document["output"]["capital_adequacy_signal"];
    if capital.is_object() {
        let ratio = ["ratio", "ratio_low", "ratio_high"]
            .map(|name| SheetCell::number(&capital[name], NumberStyle::Percent));
        sheet.rows.push(row("SCR".to_owned(), SheetCell::amount(&capital["scr"])));
        sheet.rows.push([SheetCell::text("Solvency ratio")].into_iter().chain(ratio).collect());
    }
    sheet.rows.extend([
        text("Result hash", job_result.hash.to_string()),
        text("Replay key", request.replay_key.to_string()),
        text("Kernel version", KERNEL.to_string()),
    ]);
    sheet.notes = few_beyond_notes(&tail_labels, words);
    sheet.notes.extend(result_tables::result_warnings(request, job_result));
    sheet.notes.push(
        "Cells hold the numbers of result.json, which are 64-bit floats. Spreadsheets show 15 digits of them."
            .to_owned(),
    );
    sheet
}

/// Losses by return period; without rows for profiles that have none.
pub fn exceedance(request: &Request, job_result: &JobResult, output: &Value) -> Sheet {
    let is_portfolio = output["exceedance"][0]["net"].is_object();
    let measures: &[(&str, &str)] = match is_portfolio {
        true => &[
            ("net", "Net AEP"),
            ("gross", "Gross AEP"),
            ("net_largest_occurrence", "Net OEP"),
            ("largest_occurrence", "Gross OEP"),
        ],
        false => &[("aep", "AEP"), ("oep", "OEP")],
    };
    let figures = [
        ("var", ""),
        ("var_low", " low"),
        ("var_high", " high"),
        ("tvar", " TVaR"),
        ("tvar_low", " TVaR low"),
        ("tvar_high", " TVaR high"),
    ];
    let mut header = vec!["Return period".to_owned()];
    for (_, name) in measures {
        header.extend(figures.iter().map(|(_, suffix)| format!("{name}{suffix}")));
    }
    let mut sheet = Sheet::new("Exceedance", "Losses by return period, low and high: 95% CI", header);
    let words = request.profile().vocabulary;
    if !words.return_periods {
        return sheet;
    }
    for row in list(&output["exceedance"]) {
        let mut cells = vec![SheetCell::number(&row["return_period"], NumberStyle::Count)];
        for (measure, _) in measures {
            cells.extend(figures.iter().map(|(figure, _)| SheetCell::amount(&row[*measure][*figure])));
        }
        sheet.rows.push(cells);
    }
    let has_interval = |row: &&Value| measures.iter().any(|(name, _)| row[*name]["tvar_low"].is_number());
    let periods = list(&output["exceedance"]).iter().filter(has_interval);
    let periods = periods.filter_map(|row| row["return_period"].as_u64());
    let few = periods.filter(|&period| beyond_return_period(job_result, period) < MIN_BEYOND_FOR_TAIL_VALUES);
    sheet.notes.extend(few.min().map(|period| {
        let (noun, period) = (words.iterations, format_count(period));
        format!(
            "Fewer than {MIN_BEYOND_FOR_TAIL_VALUES} {noun} lie beyond a return period of {period} {noun} or more: \
             there the interval of TVaR may be too narrow."
        )
    }));
    let columns = (0..measures.len()).map(|at| 1 + at * figures.len()).collect();
    sheet.with_chart(ChartKind::Curves, "Loss by return period, years", columns)
}

/// The args, each with its meaning.
pub fn model(request: &Request) -> Sheet {
    let title = format!("Args of {}", result_tables::profile_label(request));
    let mut sheet = Sheet::new("Model", title, headings(&["Arg", "Value", "Meaning"]));
    let meanings = arg_meanings(request.profile());
    for (name, value) in &request.envelope.args {
        let meaning = meanings.get(name).map_or("", String::as_str);
        let first = sheet.rows.len();
        add_values(name, value, &mut sheet.rows);
        if let Some(row) = sheet.rows.get_mut(first) {
            row.push(SheetCell::text(meaning));
        }
    }
    sheet
}

/// Adds a row for every value, with its path.
fn add_values(path: &str, value: &Value, rows: &mut Vec<Vec<SheetCell>>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| add_values(&format!("{path}.{name}"), value, rows));
        }
        Value::Array(elements) => {
            let elements = elements.iter().enumerate();
            elements.for_each(|(at, value)| add_values(&format!("{path}[{at}]"), value, rows));
        }
        Value::Number(_) => {
            rows.push(vec![SheetCell::text(path), SheetCell::number(value, NumberStyle::Plain)]);
        }
        Value::String(text) => rows.push(vec![SheetCell::text(path), SheetCell::text(text)]),
        Value::Null | Value::Bool(_) => {
            rows.push(vec![SheetCell::text(path), SheetCell::Text(value.to_string())]);
        }
    }
}
