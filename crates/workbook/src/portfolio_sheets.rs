//! The sheets that results of portfolios have: lines, treaties, allocation and checks.

use forge_documents::{number_format::format_level, result_tables::compared_position};
use serde_json::Value;

use crate::sheet::{ChartKind, NumberStyle, Sheet, SheetCell, headings, list};

/// The sheets of a portfolio; without rows for other profiles.
pub fn portfolio_sheets(output: &Value) -> Vec<Sheet> {
    vec![lines(output), treaties(output), allocation(output), checks(output)]
}

/// Headings of [`figures`].
fn figure_headings(output: &Value) -> Vec<String> {
    let mut header = headings(&["Mean", "Std. dev.", "Std. error", "Smallest", "Largest"]);
    for quantile in list(&output["net"]["quantiles"]) {
        let level = quantile["level"].as_f64().map_or_else(String::new, format_level);
        header.extend([format!("VaR {level}"), format!("TVaR {level}")]);
    }
    header
}

/// Moments, extremes and quantiles of an amount.
fn figures(amount: &Value) -> impl Iterator<Item = SheetCell> + '_ {
    let moments = ["mean", "std_dev", "std_error", "min", "max"];
    let quantiles = list(&amount["quantiles"]).iter();
    let tails = quantiles.flat_map(|row| [SheetCell::amount(&row["var"]), SheetCell::amount(&row["tvar"])]);
    moments.into_iter().map(|name| SheetCell::amount(&amount[name])).chain(tails)
}

fn lines(output: &Value) -> Sheet {
    let header = [vec!["Annual loss".to_owned()], figure_headings(output)].concat();
    let mut sheet = Sheet::new("Lines", "Lines before treaties, and all lines after each step", header);
    let row = |name: String, amount: &Value| {
        [SheetCell::Text(name)].into_iter().chain(figures(amount)).collect::<Vec<_>>()
    };
    let names = list(&output["lines"]);
    sheet.rows.extend(names.iter().map(|line| row(text(&line["name"]), &line["gross"])));
    let sheet_of_lines = sheet.rows.len();
    if sheet_of_lines > 0 {
        sheet.rows.push(row("all lines before treaties".to_owned(), &output["gross"]));
        let steps = list(&output["steps"]).iter();
        sheet
            .rows
            .extend(steps.map(|step| row(format!("all lines after step {}", step["step"]), &step["net"])));
    }
    let compared = compared_column(output);
    sheet.with_chart(ChartKind::Columns, "Annual loss before treaties and by step", vec![1, compared])
}

/// The column of the VaR at the compared level, of sheets with [`figure_headings`].
fn compared_column(output: &Value) -> usize {
    6 + 2 * compared_position(output)
}

fn treaties(output: &Value) -> Sheet {
    const OF_TREATY: [(&str, &str, NumberStyle); 8] = [
        ("Attachment probability", "attachment_probability", NumberStyle::Percent),
        ("Exhaustion probability", "exhaustion_probability", NumberStyle::Percent),
        ("Attaching occurrences a year", "attaching_occurrences", NumberStyle::Plain),
        ("Exhausting occurrences a year", "exhausting_occurrences", NumberStyle::Plain),
        ("Rate on line", "rate_on_line", NumberStyle::Percent),
        ("Technical premium", "technical_premium", NumberStyle::Amount),
        ("Ceded premium", "premium/ceded", NumberStyle::Amount),
        ("Reinstatement premium, mean", "reinstatement_premium/mean", NumberStyle::Amount),
    ];
    let own = OF_TREATY.iter().map(|(heading, ..)| (*heading).to_owned()).collect();
    let header = [vec!["Treaty".to_owned()], figure_headings(output), own].concat();
    let mut sheet = Sheet::new("Treaties", "What treaties pay in a year", header);
    sheet.rows.extend(list(&output["treaties"]).iter().map(|treaty| {
        let own = OF_TREATY.iter().map(|(_, path, style)| {
            let figure = treaty.pointer(&format!("/{path}")).unwrap_or(&Value::Null);
            SheetCell::number(figure, *style)
        });
        [SheetCell::Text(text(&treaty["name"]))]
            .into_iter()
            .chain(figures(&treaty["ceded"]))
            .chain(own)
            .collect()
    }));
    sheet.with_chart(
        ChartKind::Columns,
        "Mean and VaR of what treaties pay",
        vec![1, compared_column(output)],
    )
}

/// The parts of lines and treaties in the net loss beyond each level.
fn allocation(output: &Value) -> Sheet {
    let mut header = headings(&["Part", "Kind"]);
    let levels = list(&output["allocation"]);
    header.extend(levels.iter().map(|row| {
        row["level"].as_f64().map_or_else(String::new, |level| format!("Mean beyond {}", format_level(level)))
    }));
    let mut sheet = Sheet::new("Allocation", "Means beyond the quantiles of the net loss", header);
    if !levels.is_empty() {
        for (names, kind) in [("lines", "line, before treaties"), ("treaties", "treaty, what it pays")] {
            for (at, part) in list(&output[names]).iter().enumerate() {
                let mut row = vec![SheetCell::Text(text(&part["name"])), SheetCell::text(kind)];
                row.extend(levels.iter().map(|level| SheetCell::amount(&level["tail"][names][at])));
                sheet.rows.push(row);
            }
        }
        let mut net = vec![SheetCell::text("net"), SheetCell::text("lines less treaties")];
        net.extend(levels.iter().map(|level| SheetCell::amount(&level["tail"]["net"])));
        sheet.rows.push(net);
    }
    sheet.with_chart(
        ChartKind::Columns,
        "Means beyond the compared level",
        vec![2 + compared_position(output)],
    )
}

/// Figures of the run beside those of the model.
fn checks(output: &Value) -> Sheet {
    let header = headings(&["Figure", "Model", "This run", "z", "Why there is no z"]);
    let mut sheet = Sheet::new("Checks", "Figures of this run beside those of the model", header);
    add_checks(&output["checks"], "", &mut sheet.rows);
    sheet
}

/// Adds a row for every object with a figure of the model, with its path.
fn add_checks(value: &Value, path: &str, rows: &mut Vec<Vec<SheetCell>>) {
    let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}, {name}") };
    match value {
        Value::Object(check) if check.contains_key("expected") => {
            let number = |name: &str| SheetCell::number(&value[name], NumberStyle::Plain);
            let reason = value["no_z_reason"].as_str().map_or(SheetCell::Empty, SheetCell::text);
            rows.push(vec![SheetCell::text(path), number("expected"), number("found"), number("z"), reason]);
        }
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| add_checks(value, &join(&name.replace('_', " ")), rows));
        }
        Value::Array(elements) => {
            for (at, element) in elements.iter().enumerate() {
                let name = element["name"].as_str().map_or_else(|| (at + 1).to_string(), str::to_owned);
                add_checks(element, &join(&name), rows);
            }
        }
        _ => {}
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
