//! The layers of a portfolio as towers: one picture for each subject. Amounts are evenly spaced,
//! not to scale, so that every layer has room for its figures.

use forge_contract::{
    program::{MAX_AMOUNT, Program},
    treaty::{IndexSet, Layer, Proportion, TreatyTerms},
};
use maud::{Markup, html};
use serde_json::Value;

use crate::number_format::{format_percent, format_rounded};

/// Width of a picture, and edges of the layers within it.
const WIDTH: f64 = 430.0;
const LEFT: f64 = 105.0;
const LAYER_WIDTH: f64 = 70.0;
/// Height between two amounts, and above the highest.
const STEP_HEIGHT: f64 = 58.0;
const MARGIN: f64 = 24.0;

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
pub fn tower_pictures(program: &Program, treaties: &[Value]) -> Option<Markup> {
    let towers = towers(program);
    (!towers.is_empty()).then(|| {
        html! {
            div class="towers" {
                @for tower in &towers { (picture(tower, f64::from(program.units), treaties)) }
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

fn picture(tower: &Tower, unit: f64, treaties: &[Value]) -> Markup {
    let mut amounts: Vec<u64> = vec![0];
    amounts.extend(tower.layers.iter().flat_map(|layer| [layer.layer.attachment, top(layer.layer)]));
    amounts.sort_unstable();
    amounts.dedup();
    let height = MARGIN * 2.0 + STEP_HEIGHT * (amounts.len() - 1) as f64;
    let y = |amount: u64| {
        let position = amounts.iter().position(|&other| other == amount).unwrap_or(0);
        height - MARGIN - STEP_HEIGHT * position as f64
    };
    let label = |amount: u64| match amount {
        MAX_AMOUNT => "no limit".to_owned(),
        amount => format_rounded(amount as f64 / unit),
    };
    let subject = if tower.subject.of_year { "a year's loss" } else { "a loss" };
    html! {
        svg class="tower" viewBox=(format_args!("0 0 {WIDTH} {height}")) role="img" {
            title { "Layers of step " (tower.subject.step) ", on " (subject) }
            text x=(LEFT) y="14" { "Step " (tower.subject.step) ", on " (subject) }
            @for &amount in &amounts {
                line class="grid" x1=(LEFT) y1=(y(amount)) x2=(LEFT + LAYER_WIDTH) y2=(y(amount)) {}
                text x=(LEFT - 8.0) y=(y(amount) + 4.0) text-anchor="end" { (label(amount)) }
            }
            @for layer in &tower.layers {
                (layer_figures(layer, y(layer.layer.attachment), y(top(layer.layer)), &treaties[layer.treaty]))
            }
        }
    }
}

/// A layer as a box, filled as far as it is placed, and its figures beside it.
fn layer_figures(layer: &TowerLayer, bottom: f64, top: f64, treaty: &Value) -> Markup {
    let placed = f64::from(layer.placed.0) / f64::from(Proportion::ONE.0);
    let text_x = LEFT + LAYER_WIDTH + 10.0;
    let middle = (bottom + top) / 2.0;
    let frequency = |name: &str| treaty[name].as_f64().map(|frequency| format!("{frequency:.4}"));
    let attaching = frequency("attaching_occurrences").map(|text| format!("attaches {text}"));
    let exhausting = frequency("exhausting_occurrences").map(|text| format!(", exhausted {text}"));
    let reached = match (attaching, exhausting) {
        (Some(attaching), exhausting) => format!("{attaching}{} a year", exhausting.unwrap_or_default()),
        (None, _) => {
            let used_up = treaty["exhaustion_probability"].as_f64();
            used_up.map_or_else(String::new, |used_up| {
                format!("exhausted in {} of years", format_percent(used_up))
            })
        }
    };
    let pays = treaty["attachment_probability"].as_f64().map_or_else(String::new, format_percent);
    let placed_text =
        if placed < 1.0 { format!(", placed {}", format_percent(placed)) } else { String::new() };
    html! {
        rect class="layer" x=(LEFT) y=(top) width=(LAYER_WIDTH) height=(bottom - top) {}
        rect class="placed" x=(LEFT) y=(top) width=(format_args!("{:.1}", LAYER_WIDTH * placed)) height=(bottom - top) {}
        text class="name" x=(text_x) y=(middle - 10.0) { (treaty["name"].as_str().unwrap_or_default()) (placed_text) }
        text x=(text_x) y=(middle + 6.0) { "pays in " (pays) " of years" }
        text x=(text_x) y=(middle + 22.0) { (reached) }
    }
}
