//! The allocation of the tail, as two stacked bars of the same length: the lines before treaties;
//! and what treaties take of them, with the net loss that is left.

use maud::{Markup, html};
use serde_json::Value;

use crate::number_format::format_rounded;

/// Number of colours; further parts begin again.
const COLOURS: usize = 8;

/// A part of a bar.
struct BarPart {
    name: String,
    amount: f64,
    colour: usize,
}

/// The bars of an allocation at a level, with amounts in `unit`; `None` where nothing is allocated.
pub fn allocation_bars(output: &Value, position: usize, unit: &str) -> Option<Markup> {
    let tail = &output["allocation"][position]["tail"];
    let net = tail["net"].as_f64()?;
    // Parts without a mean have no length.
    let has_null = |list: &str| tail[list].as_array().is_some_and(|parts| parts.iter().any(Value::is_null));
    if has_null("lines") || has_null("treaties") {
        return None;
    }
    let parts = |list: &str, first: usize| {
        let names = output[list].as_array().map_or(&[][..], Vec::as_slice);
        let amounts = tail[list].as_array().map_or(&[][..], Vec::as_slice);
        let part = |(at, (name, amount)): (usize, (&Value, &Value))| BarPart {
            name: name["name"].as_str().unwrap_or_default().to_owned(),
            amount: amount.as_f64().unwrap_or(0.0).max(0.0),
            colour: (first + at) % COLOURS,
        };
        names.iter().zip(amounts).enumerate().map(part).collect::<Vec<_>>()
    };
    let lines = parts("lines", 0);
    let mut others = vec![BarPart { name: "net".to_owned(), amount: net.max(0.0), colour: COLOURS }];
    others.extend(parts("treaties", lines.len()));
    let total = lines.iter().fold(0.0, |sum, part| sum + part.amount);
    (total > 0.0).then(|| {
        html! {
            (bar("Lines", unit, &lines, total))
            @if others.len() > 1 { (bar("Net and treaties", unit, &others, total)) }
        }
    })
}

fn bar(title: &str, unit: &str, parts: &[BarPart], total: f64) -> Markup {
    html! {
        p class="bar-title" { (title) @if !unit.is_empty() { ", " (unit) } }
        div class="stack" {
            @for part in parts {
                span class=(format_args!("c{}", part.colour)) style=(format_args!("width:{:.2}%", 100.0 * part.amount / total)) {}
            }
        }
        p class="legend" {
            @for part in parts {
                span { i class=(format_args!("c{}", part.colour)) {} " " (part.name) " " (format_rounded(part.amount)) }
            }
        }
    }
}
