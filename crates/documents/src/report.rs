//! `report.html`: the result as a page for people, with nothing from elsewhere and no script. Pure: a function of the
//! request and its result, so an audit can make it again.

mod picture;

use std::fmt::Write as _;

use forge_kernel::{KERNEL, request::Request};
use serde_json::{Map, Value};

use crate::{
    figures::Figures,
    histogram::{self, Row},
    number::{amount, percent},
    tables::{self, Table, capitalised},
};

const STYLE: &str = include_str!("report.css");

/// The page.
pub fn page(request: &Request, figures: &Figures) -> String {
    let words = request.profile().words;
    let quantity = tables::with_unit(words);
    let title = format!("{}: {}", capitalised(words.quantity), tables::profile(request));
    let title = escaped(&title);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<p>{}</p>\n",
        escaped(&tables::iterations(figures, words))
    );
    let warnings = tables::warnings(request, figures);
    if !warnings.is_empty() {
        push(&mut html, format_args!("<p class=\"warning\">{}</p>\n", escaped(&warnings.join(" "))));
    }
    moments(&mut html, &capitalised(&quantity), request, figures);
    section(&mut html, &format!("Quantiles of the {quantity}"), &tables::quantiles(figures));
    if words.return_periods {
        let title = tables::exceedance_title(words);
        section(&mut html, &title, &tables::exceedance(figures, words));
        html.push_str(&picture::exceedance(request, figures).unwrap_or_default());
    } else {
        let rows = histogram::rows(&figures.merged.total, request.program.units);
        distribution(&mut html, &format!("Distribution of the {quantity}"), &rows);
    }
    model(&mut html, request, figures);
    html.push_str("</body>\n</html>\n");
    html
}

fn moments(html: &mut String, title: &str, request: &Request, figures: &Figures) {
    push(html, format_args!("<h2>{}</h2>\n<table class=\"facts\">\n", escaped(title)));
    for figure in tables::moments(request, figures) {
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

fn section(html: &mut String, title: &str, table: &Table) {
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

fn distribution(html: &mut String, title: &str, rows: &[Row]) {
    let most = rows.iter().map(|row| row.share).fold(0.0, f64::max);
    push(html, format_args!("<h2>{}</h2>\n<table>\n", escaped(title)));
    for row in rows {
        let width = if most > 0.0 { 100.0 * row.share / most } else { 0.0 };
        push(
            html,
            format_args!(
                "<tr><th>{} to {}</th><td class=\"figure\">{}</td>\
                 <td class=\"bar\"><span style=\"width:{width:.2}%\"></span></td></tr>\n",
                amount(row.range.0),
                amount(row.range.1),
                escaped(&percent(row.share))
            ),
        );
    }
    html.push_str("</table>\n");
}

/// The args, and what names the computation.
fn model(html: &mut String, request: &Request, figures: &Figures) {
    let mut rows = Vec::new();
    args("", &request.envelope.args, &mut rows);
    section(html, "Model", &Table { header: vec!["Arg", "Value"], rows });
    let facts = [
        ("Occurrences", tables::occurrences(request, figures)),
        ("Seed", tables::seed(request).to_owned()),
        ("Root seed", request.root_seed.to_string()),
        ("Program", request.program_digest.to_string()),
        ("Replay key", request.replay_key.to_string()),
        ("SHA-256 of result.json", figures.hash.to_string()),
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
