//! The tables of a portfolio's result: its lines and its treaties. Results of other profiles have
//! none.

use serde_json::Value;

use crate::{
    job_result::JobResult,
    number_format::{format_amount, format_level, format_percent},
    result_tables::ResultTable,
};

/// Level at which lines are compared, or the highest one below it that the report has.
const COMPARED_LEVEL: f64 = 0.995;

/// The tables with their titles; empty for profiles without lines and treaties.
pub fn portfolio_tables(job_result: &JobResult) -> Vec<(String, ResultTable)> {
    let output = &job_result.document.output;
    let mut tables = Vec::new();
    if let Some(lines) = output["lines"].as_array().filter(|lines| !lines.is_empty()) {
        tables.push(line_table(output, lines));
    }
    if let Some(treaties) = output["treaties"].as_array().filter(|treaties| !treaties.is_empty()) {
        tables.push(("Treaties, by year".to_owned(), treaty_table(treaties)));
    }
    tables
}

fn line_table(output: &Value, lines: &[Value]) -> (String, ResultTable) {
    let levels = output["net"]["quantiles"].as_array().map_or(&[][..], Vec::as_slice);
    let position = levels.iter().rposition(|row| row["level"].as_f64() <= Some(COMPARED_LEVEL)).unwrap_or(0);
    let level = levels.get(position).and_then(|row| row["level"].as_f64()).unwrap_or(COMPARED_LEVEL);
    let allocated = &output["allocation"][position]["tail"]["lines"];
    let rows = lines.iter().enumerate().map(|(number, line)| {
        let (gross, tail) = (&line["gross"], &line["gross"]["quantiles"][position]);
        vec![
            line["name"].as_str().unwrap_or_default().to_owned(),
            amount(&gross["mean"]),
            amount(&gross["std_dev"]),
            amount(&tail["var"]),
            amount(&tail["tvar"]),
            amount(&allocated[number]),
        ]
    });
    let title = format!(
        "Lines before treaties, at {} (in the tail: mean in the worst net years)",
        format_level(level)
    );
    let header = vec!["Line", "Mean", "Std. dev.", "VaR", "TVaR", "In the tail"];
    (title, ResultTable { header, rows: rows.collect() })
}

fn treaty_table(treaties: &[Value]) -> ResultTable {
    let rows = treaties.iter().map(|treaty| {
        vec![
            treaty["name"].as_str().unwrap_or_default().to_owned(),
            amount(&treaty["ceded"]["mean"]),
            amount(&treaty["ceded"]["std_dev"]),
            percent(&treaty["payment_probability"]),
            percent(&treaty["used_up_probability"]),
            amount(&treaty["technical_premium"]),
        ]
    });
    let header = vec!["Treaty", "Mean ceded", "Std. dev.", "Pays in", "Used up in", "Technical premium"];
    ResultTable { header, rows: rows.collect() }
}

fn amount(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), format_amount)
}

fn percent(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), format_percent)
}
