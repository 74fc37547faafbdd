//! The layers of a portfolio as towers: one picture for each subject. Amounts are evenly spaced,
//! not to scale, so that every layer has room for its figures.

use forge_contract::{
    program::{MAX_AMOUNT, Program},
    treaty::{IndexSet, Layer, Proportion, TreatyTerms},
};
use forge_kernel::request::Request;
use maud::{Markup, html};
use serde_json::Value;

use super::text_size::{LETTER_WIDTH, TEXT_HEIGHT};
use crate::{
    number_format::{format_axis_amount, format_percent, format_rounded},
    result_tables,
};

/// Width of a picture, and edges of the layers within it.
const WIDTH: f64 = 430.0;
const LEFT: f64 = 105.0;
const LAYER_WIDTH: f64 = 70.0;
/// Height above the highest amount and below the lowest.
const MARGIN: f64 = 24.0;
/// Height of a line of text.
const LINE_HEIGHT: f64 = 16.0;
/// Least height between two amounts, and what it has beyond the text.
const MIN_STEP_HEIGHT: f64 = 58.0;
const STEP_PADDING: f64 = 10.0;
/// Left edge of the text beside a layer.
const TEXT_LEFT: f64 = LEFT + LAYER_WIDTH + 10.0;
/// Width of a line of text beside a layer, in letters of the Latin alphabet. Letters of other
/// scripts may be twice as wide.
const LINE_LETTERS: usize = ((WIDTH - TEXT_LEFT) / (LETTER_WIDTH * TEXT_HEIGHT as f64)) as usize;

/// A layer with the position of its treaty in the program.
struct TowerLayer {
    treaty: usize,
    layer: Layer,
    placed: Proportion,
}

/// Layers of the same subject that do not overlap.
struct Tower {
    subject: Subject,
    layers: Vec<TowerLayer>,
}

/// What the layers of a tower apply to.
#[derive(PartialEq, Eq, Clone, Copy)]
struct Subject {
    step: u32,
    /// Whether the amounts are those of a year, and not of an occurrence.
    of_year: bool,
    cession: u32,
    lines: IndexSet,
    groups: IndexSet,
}

/// The pictures; `None` without layers. `treaties` are those of the result's output.
pub fn tower_pictures(request: &Request, treaties: &[Value]) -> Option<Markup> {
    let towers = towers(&request.program);
    (!towers.is_empty()).then(|| {
        html! {
            div class="towers" {
                @for tower in &towers { (picture(tower, request, treaties)) }
            }
        }
    })
}

fn towers(program: &Program) -> Vec<Tower> {
    let mut towers: Vec<Tower> = Vec::new();
    for (number, treaty) in program.treaties.iter().enumerate() {
        let (of_year, cession, layer, placed) = match &treaty.terms {
            TreatyTerms::QuotaShare { .. } => continue,
            TreatyTerms::OccurrenceXl(terms) => (false, terms.cession.0, terms.layer, terms.placed),
            TreatyTerms::AggregateXl { layer, placed } => (true, Proportion::ONE.0, *layer, *placed),
        };
        let (lines, groups) = (treaty.lines, treaty.groups);
        let subject = Subject { step: treaty.step, of_year, cession, lines, groups };
        let fits = |tower: &&mut Tower| {
            tower.subject == subject && tower.layers.iter().all(|other| !other.layer.overlaps(layer))
        };
        let layer = TowerLayer { treaty: number, layer, placed };
        match towers.iter_mut().find(fits) {
            Some(tower) => tower.layers.push(layer),
            None => towers.push(Tower { subject, layers: vec![layer] }),
        }
    }
    towers
}

fn top(layer: Layer) -> u64 {
    layer.top().min(MAX_AMOUNT)
}

fn picture(tower: &Tower, request: &Request, treaties: &[Value]) -> Markup {
    let (units, unit) = (f64::from(request.program.units), result_tables::unit(request));
    let mut amounts: Vec<u64> = vec![0];
    amounts.extend(tower.layers.iter().flat_map(|layer| [layer.layer.attachment, top(layer.layer)]));
    amounts.sort_unstable();
    amounts.dedup();
    let texts: Vec<_> =
        tower.layers.iter().map(|layer| LayerText::new(layer, &treaties[layer.treaty])).collect();
    let most_lines = texts.iter().map(|text| text.name.len() + text.figures.len()).max().unwrap_or(0);
    let step = MIN_STEP_HEIGHT.max(LINE_HEIGHT * most_lines as f64 + STEP_PADDING);
    let height = MARGIN * 2.0 + step * (amounts.len() - 1) as f64;
    let y = |amount: u64| {
        let position = amounts.iter().position(|&other| other == amount).unwrap_or(0);
        height - MARGIN - step * position as f64
    };
    let label = |amount: u64| match amount {
        MAX_AMOUNT => "no limit".to_owned(),
        amount => fitting_amount(amount as f64 / units),
    };
    let subject = if tower.subject.of_year { "a year's loss" } else { "a loss" };
    html! {
        svg class="tower" viewBox=(format_args!("0 0 {WIDTH} {height}")) role="img" {
            title { "Layers of step " (tower.subject.step) ", on " (subject) }
            text x=(LEFT) y="14" {
                "Step " (tower.subject.step) ", on " (subject) @if !unit.is_empty() { ", " (unit) }
            }
            @for &amount in &amounts {
                line class="grid" x1=(LEFT) y1=(y(amount)) x2=(LEFT + LAYER_WIDTH) y2=(y(amount)) {}
                text x=(LEFT - 8.0) y=(y(amount) + 4.0) text-anchor="end" { (label(amount)) }
            }
            @for (layer, text) in tower.layers.iter().zip(&texts) {
                (layer_figures(layer, y(layer.layer.attachment), y(top(layer.layer)), text))
            }
        }
    }
}

/// An amount in full where it fits beside a layer, and else rounded.
fn fitting_amount(amount: f64) -> String {
    let full = format_rounded(amount);
    if full.len() <= "1,000,000,000".len() { full } else { format_axis_amount(amount) }
}

/// The lines of text beside a layer.
struct LayerText {
    /// The treaty's name.
    name: Vec<String>,
    /// Its figures.
    figures: Vec<String>,
}

impl LayerText {
    fn new(layer: &TowerLayer, treaty: &Value) -> Self {
        let placed = placed_fraction(layer);
        let mut figures = Vec::new();
        if placed < 1.0 {
            figures.push(format!("placed {}", format_percent(placed)));
        }
        if let Some(pays) = treaty["attachment_probability"].as_f64() {
            figures.push(format!("pays in {} of years", format_percent(pays)));
        }
        let frequency = |name: &str| treaty[name].as_f64().map(|frequency| format!("{frequency:.4} a year"));
        let attaching = frequency("attaching_occurrences").map(|text| format!("attaches {text}"));
        let exhausting = match (&attaching, treaty["exhaustion_probability"].as_f64()) {
            (Some(_), _) => frequency("exhausting_occurrences").map(|text| format!("exhausted {text}")),
            (None, used_up) => {
                used_up.map(|used_up| format!("exhausted in {} of years", format_percent(used_up)))
            }
        };
        figures.extend(attaching.into_iter().chain(exhausting));
        Self { name: wrap(treaty["name"].as_str().unwrap_or_default()), figures }
    }
}

/// Text as lines of [`LINE_LETTERS`], broken at spaces where there are some.
fn wrap(text: &str) -> Vec<String> {
    let width = |text: &str| text.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum::<usize>();
    let mut lines = vec![String::new()];
    for word in text.split_inclusive(' ') {
        if width(lines.last().map_or("", String::as_str)) + width(word.trim_end()) > LINE_LETTERS {
            lines.push(String::new());
        }
        for c in word.chars() {
            let line = lines.last_mut().expect("there is always a line");
            if width(line) >= LINE_LETTERS {
                lines.push(c.to_string());
            } else {
                line.push(c);
            }
        }
    }
    lines.retain(|line| !line.trim().is_empty());
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

fn placed_fraction(layer: &TowerLayer) -> f64 {
    f64::from(layer.placed.0) / f64::from(Proportion::ONE.0)
}

/// A layer as a box, filled as far as it is placed, and its text beside it.
fn layer_figures(layer: &TowerLayer, bottom: f64, top: f64, text: &LayerText) -> Markup {
    let lines = text.name.len() + text.figures.len();
    // The base of a line is below its middle.
    let first = (bottom + top) / 2.0 - LINE_HEIGHT * (lines as f64 / 2.0 - 0.75);
    let lines = text.name.iter().map(|line| ("name", line)).chain(text.figures.iter().map(|line| ("", line)));
    let width = LAYER_WIDTH * placed_fraction(layer);
    html! {
        rect class="layer" x=(LEFT) y=(top) width=(LAYER_WIDTH) height=(bottom - top) {}
        rect class="placed" x=(LEFT) y=(top) width=(format_args!("{width:.1}")) height=(bottom - top) {}
        @for (number, (class, line)) in lines.enumerate() {
            text class=(class) x=(TEXT_LEFT) y=(format_args!("{:.1}", first + LINE_HEIGHT * number as f64)) { (line) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn names_are_broken_at_spaces_and_never_cut() {
        assert_eq!(wrap("first layer"), ["first layer"]);
        assert_eq!(
            wrap("Property catastrophe, second layer above the first"),
            ["Property catastrophe, second", "layer above the first"]
        );
        assert_eq!(wrap(&"x".repeat(64)), ["x".repeat(32), "x".repeat(32)]);
        assert_eq!(wrap(&"保".repeat(20)), ["保".repeat(16), "保".repeat(4)]);
        assert_eq!(wrap(""), Vec::<String>::new());
    }
}
