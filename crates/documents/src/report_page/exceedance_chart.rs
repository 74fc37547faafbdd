//! The exceedance curves as inline SVG. Coordinates are rounded to a tenth and computed with
//! correctly rounded operations only, so that the bytes are the same on every machine.

use forge_kernel::{request::Request, workload::PROFILES};
use maud::{Markup, html};
use serde_json::Value;

use super::text_size::NARROW_CHART_TEXT_HEIGHT;
use crate::{
    exceedance_curves::{ExceedanceCurve, ExceedanceCurves},
    job_result::JobResult,
    number_format, result_tables,
};

/// Size of the drawing.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 455.0;
/// Edges of the plot area within the drawing. They leave room for labels of the height that narrow
/// pages use.
const LEFT: f64 = 120.0;
const RIGHT: f64 = 705.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 365.0;
/// Points per curve.
const POINTS: usize = 253;

/// Classes of the curves, in order.
const CLASSES: [&str; 3] = ["first", "second", "third"];
/// Distance of the entries of the legend.
const LEGEND_WIDTH: f64 = 200.0;
/// Least distance of the labels of two amounts.
const LABEL_HEIGHT: f64 = NARROW_CHART_TEXT_HEIGHT as f64 + 2.0;
/// Of more powers of ten, every second one has a label.
const MAX_LABELLED_DECADES: u32 = 6;

/// Draws the curves with their confidence bands; `None` if [`ExceedanceCurves::new`] has none to
/// draw.
pub fn exceedance_chart(request: &Request, job_result: &JobResult) -> Option<Markup> {
    let curves = ExceedanceCurves::new(request, &job_result.merged, POINTS, CLASSES.len())?;
    Some(draw(&curves, request.profile().vocabulary.iterations, result_tables::unit(request)))
}

/// Draws the curves through the return periods that a stored `result.json` states; `None` if its
/// profile has none, or if [`ExceedanceCurves::of_output`] has none to draw.
pub fn stored_exceedance_chart(result: &Value) -> Option<Markup> {
    let profile = result["op"]["profile"].as_str()?;
    let profile = PROFILES.into_iter().find(|known| known.name == profile)?;
    let curves = ExceedanceCurves::of_output(&result["output"], POINTS, CLASSES.len())?;
    Some(draw(&curves, profile.vocabulary.iterations, profile.vocabulary.unit))
}

/// Draws the curves, with amounts in `unit`, which may be empty.
fn draw(curves: &ExceedanceCurves, iterations: &str, unit: &str) -> Markup {
    let names: Vec<_> = curves.curves.iter().map(|curve| curve.name).collect();
    let legend = (0..).map(|at| LEFT + 15.0 + LEGEND_WIDTH * f64::from(at));
    html! {
        svg class="chart" viewBox=(format_args!("0 0 {WIDTH} {HEIGHT}")) role="img" {
            title { "Amounts exceeded once in a return period: " (names.join(", ")) ", with 95% confidence bands" }
            (amount_grid(curves))
            (return_period_grid(curves))
            @for (curve, class) in curves.curves.iter().zip(CLASSES) {
                polygon class=(format_args!("band {class}")) points=(band_points(curves, curve)) {}
            }
            @for (curve, class) in curves.curves.iter().zip(CLASSES) {
                polyline class=(class) points=(polyline_points(curves, &curve.amounts)) {}
            }
            @for ((name, class), x) in names.iter().zip(CLASSES).zip(legend) {
                (legend_entry(class, name, x))
            }
            text x=(RIGHT) y=(BOTTOM + 52.0) text-anchor="end" { "return period, " (iterations) }
            text x=(LEFT) y=(BOTTOM + 78.0) { "shaded: 95% confidence" @if !unit.is_empty() { "; amounts in " (unit) } }
        }
    }
}

fn legend_entry(class: &str, name: &str, x: f64) -> Markup {
    html! {
        line class=(class) x1=(x) y1="15" x2=(x + 30.0) y2="15" {}
        text x=(x + 36.0) y="20" { (name) }
    }
}

/// The outline of a band: its lower ends from left to right, then its upper ends back.
fn band_points(curves: &ExceedanceCurves, curve: &ExceedanceCurve) -> String {
    let x = |index: usize| LEFT + (RIGHT - LEFT) * index as f64 / (curve.intervals.len() - 1) as f64;
    let ends = |(index, interval): (usize, &Option<(f64, f64)>)| {
        let (low, high) = (*interval)?;
        let high = y_coordinate(curves, high.min(curves.scale.top))?;
        Some((tenths(x(index)), y_coordinate(curves, low).unwrap_or(BOTTOM), high))
    };
    let ends: Vec<_> = curve.intervals.iter().enumerate().filter_map(ends).collect();
    let lower = ends.iter().map(|(x, low, _)| format!("{x},{}", tenths(*low)));
    let upper = ends.iter().rev().map(|(x, _, high)| format!("{x},{}", tenths(*high)));
    lower.chain(upper).collect::<Vec<_>>().join(" ")
}

/// Horizontal lines with their labels: at the largest amount, and at the powers of ten. A label
/// that would overlap the one above it is left out.
fn amount_grid(curves: &ExceedanceCurves) -> Markup {
    let mut amounts: Vec<_> = curves.scale.ticks().collect();
    amounts.reverse();
    let amounts = [curves.scale.top].into_iter().chain(amounts);
    let mut free = f64::NEG_INFINITY;
    let lines = amounts.filter_map(|amount| {
        let y = y_coordinate(curves, amount)?;
        let label = (y >= free).then(|| number_format::format_axis_amount(amount));
        if label.is_some() {
            free = y + LABEL_HEIGHT;
        }
        Some((y, label))
    });
    html! {
        @for (y, label) in lines {
            line class="grid" x1=(LEFT) y1=(tenths(y)) x2=(RIGHT) y2=(tenths(y)) {}
            @if let Some(label) = label {
                text x=(LEFT - 8.0) y=(tenths(y + 5.0)) text-anchor="end" { (label) }
            }
        }
    }
}

/// Vertical lines with their labels, at the powers of ten of the return period.
fn return_period_grid(curves: &ExceedanceCurves) -> Markup {
    let x = |decade: u32| LEFT + (RIGHT - LEFT) * f64::from(decade) / f64::from(curves.decades);
    let label_step = if curves.decades > MAX_LABELLED_DECADES { 2 } else { 1 };
    html! {
        @for (decade, x) in (0..=curves.decades).map(|decade| (decade, tenths(x(decade)))) {
            line class="grid" x1=(x) y1=(TOP) x2=(x) y2=(BOTTOM) {}
            @if decade % label_step == 0 {
                text x=(x) y=(BOTTOM + 24.0) text-anchor="middle" { (decade_label(decade)) }
            }
        }
    }
}

/// A power of ten in full, or from a million on in millions.
fn decade_label(decade: u32) -> String {
    number_format::format_axis_amount(10u64.pow(decade) as f64)
}

fn polyline_points(curves: &ExceedanceCurves, curve: &[f64]) -> String {
    let x = |index: usize| LEFT + (RIGHT - LEFT) * index as f64 / (curve.len() - 1) as f64;
    let point = |(index, &amount): (usize, &f64)| {
        Some(format!("{},{}", tenths(x(index)), tenths(y_coordinate(curves, amount)?)))
    };
    curve.iter().enumerate().filter_map(point).collect::<Vec<_>>().join(" ")
}

/// `None` if the amount lies below the plot area.
fn y_coordinate(curves: &ExceedanceCurves, amount: f64) -> Option<f64> {
    curves.scale.position(amount).map(|position| BOTTOM - (BOTTOM - TOP) * position)
}

fn tenths(coordinate: f64) -> String {
    format!("{coordinate:.1}")
}
