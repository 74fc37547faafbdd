//! `report.html`: the result as a page for people, with nothing from elsewhere and no script. Pure:
//! a function of the request and its result, so an audit can make it again.

mod exceedance_chart;

use std::fmt::Write as _;

use forge_kernel::{KERNEL, request::Request};
use serde_json::{Map, Value};

use crate::{
    histogram::{self, HistogramRow},
    job_result::JobResult,
    number_format::{format_amount, format_percent},
    result_tables::{self, ResultTable, capitalise},
};

const STYLE: &str = include_str!("report_page/report.css");

/// The page.
pub fn report_page(request: &Request, job_result: &JobResult) -> String {
    let words = request.profile().words;
    let quantity = result_tables::quantity_with_unit(words);
    let title = format!("{}: {}", capitalise(words.quantity), result_tables::profile_label(request));
    let title = escaped(&title);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<p>{}</p>\n",
        escaped(&result_tables::iterations_text(job_result, words))
    );
    let warnings = result_tables::result_warnings(request, job_result);
    if !warnings.is_empty() {
        push(&mut html, format_args!("<p class=\"warning\">{}</p>\n", escaped(&warnings.join(" "))));
    }
    moments(&mut html, &capitalise(&quantity), request, job_result);
    section(&mut html, &format!("Quantiles of the {quantity}"), &result_tables::quantile_table(job_result));
    if words.return_periods {
        let title = result_tables::exceedance_title(words);
        section(&mut html, &title, &result_tables::exceedance_table(job_result, words));
        html.push_str(&exceedance_chart::exceedance_chart(request, job_result).unwrap_or_default());
    } else {
        let rows = histogram::histogram_rows(&job_result.merged.total, request.program.units);
        distribution(&mut html, &format!("Distribution of the {quantity}"), &rows);
    }
    model(&mut html, request, job_result);
    html.push_str("</body>\n</html>\n");
    html
}

fn moments(html: &mut String, title: &str, request: &Request, job_result: &JobResult) {
    push(html, format_args!("<h2>{}</h2>\n<table class=\"facts\">\n", escaped(title)));
    for figure in result_tables::moment_values(request, job_result) {
        push(
            html,
            format_args!(
                "<tr><th>{}</th><td class=\"figure\">{}</td><td>{}</td></tr>\n",
                escaped(&figure.label),
                escaped(&figure.value),
                escaped(&figure.remark)
            ),
        );
    }
    html.push_str("</table>\n");
}

fn section(html: &mut String, title: &str, table: &ResultTable) {
    push(html, format_args!("<h2>{}</h2>\n<table>\n<tr class=\"head\">", escaped(title)));
    table.header.iter().for_each(|cell| push(html, format_args!("<th>{cell}</th>")));
    html.push_str("</tr>\n");
    for row in &table.rows {
        html.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let cell = escaped(cell);
            match column {
                0 => push(html, format_args!("<th>{cell}</th>")),
                _ => push(html, format_args!("<td class=\"figure\">{cell}</td>")),
            }
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table>\n");
}

fn distribution(html: &mut String, title: &str, rows: &[HistogramRow]) {
    let most = rows.iter().map(|row| row.share).fold(0.0, f64::max);
    push(html, format_args!("<h2>{}</h2>\n<table>\n", escaped(title)));
    for row in rows {
        let width = if most > 0.0 { 100.0 * row.share / most } else { 0.0 };
        push(
            html,
            format_args!(
                "<tr><th>{} to {}</th><td class=\"figure\">{}</td>\
                 <td class=\"bar\"><span style=\"width:{width:.2}%\"></span></td></tr>\n",
                format_amount(row.range.0),
                format_amount(row.range.1),
                escaped(&format_percent(row.share))
            ),
        );
    }
    html.push_str("</table>\n");
}

/// The args, and what names the computation.
fn model(html: &mut String, request: &Request, job_result: &JobResult) {
    let mut rows = Vec::new();
    args("", &request.envelope.args, &mut rows);
    section(html, "Model", &ResultTable { header: vec!["Arg", "Value"], rows });
    let facts = [
        ("Occurrences", result_tables::occurrences_text(request, job_result)),
        ("Seed", result_tables::seed_text(request).to_owned()),
        ("Root seed", request.root_seed.to_string()),
        ("Program", request.program_digest.to_string()),
        ("Replay key", request.replay_key.to_string()),
        ("SHA-256 of result.json", job_result.hash.to_string()),
        ("Kernel version", KERNEL.to_string()),
    ];
    html.push_str("<h2>Where it comes from</h2>\n<table class=\"facts\">\n");
    for (label, text) in facts {
        push(html, format_args!("<tr><th>{label}</th><td class=\"code\">{}</td></tr>\n", escaped(&text)));
    }
    html.push_str("</table>\n<p>The same args and seed give the same bytes on every machine: ");
    html.push_str("<code>forge replay</code> computes them again.</p>\n");
}

/// The args in rows; those inside another one with its name before theirs.
fn args(prefix: &str, args_here: &Map<String, Value>, rows: &mut Vec<Vec<String>>) {
    for (name, value) in args_here {
        match value {
            Value::Object(inner) => args(&format!("{prefix}{name}."), inner, rows),
            value => rows.push(vec![format!("{prefix}{name}"), value.to_string()]),
        }
    }
}

fn push(html: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = html.write_fmt(text);
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
