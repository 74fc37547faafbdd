//! The exceedance curves as inline SVG. Coordinates are rounded to a tenth and computed with
//! correctly rounded operations only, so that the bytes are the same on every machine.

use forge_kernel::request::Request;
use maud::{Markup, html};

use crate::{exceedance_curves::ExceedanceCurves, job_result::JobResult, number_format};

/// Size of the drawing.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 360.0;
/// Edges of the plot area within the drawing.
const LEFT: f64 = 110.0;
const RIGHT: f64 = 740.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 320.0;
/// Points per curve.
const POINTS: usize = 253;

/// Draws both curves; `None` if [`ExceedanceCurves::new`] has none to draw.
pub fn exceedance_chart(request: &Request, job_result: &JobResult) -> Option<Markup> {
    let program = &request.program;
    let curves = ExceedanceCurves::new(&job_result.merged, &program.marks(), program.units, POINTS)?;
    let iterations = request.profile().vocabulary.iterations;
    Some(html! {
        svg viewBox=(format_args!("0 0 {WIDTH} {HEIGHT}")) role="img" {
            title { "Amounts exceeded once in a return period: AEP solid, OEP dashed" }
            (amount_grid(&curves))
            (return_period_grid(&curves))
            polyline class="aep" points=(polyline_points(&curves, &curves.aep)) {}
            polyline class="oep" points=(polyline_points(&curves, &curves.oep)) {}
            (legend_entry("aep", "AEP", LEFT + 15.0))
            (legend_entry("oep", "OEP", LEFT + 105.0))
            text x=(RIGHT) y=(BOTTOM + 36.0) text-anchor="end" { "return period, " (iterations) }
        }
    })
}

fn legend_entry(class: &str, name: &str, x: f64) -> Markup {
    html! {
        line class=(class) x1=(x) y1="15" x2=(x + 30.0) y2="15" {}
        text x=(x + 36.0) y="19" { (name) }
    }
}

/// Horizontal lines with their labels: at the powers of ten, and at the largest amount.
fn amount_grid(curves: &ExceedanceCurves) -> Markup {
    let top = curves.scale.top;
    // The largest amount is rarely a power of ten: omit the label of a power of ten that would
    // overlap its label.
    let has_label = |amount: f64, y: f64| amount == top || y > TOP + 12.0;
    let amounts = curves.scale.ticks().chain([top]);
    html! {
        @for (amount, y) in amounts.filter_map(|amount| Some((amount, y_coordinate(curves, amount)?))) {
            line class="grid" x1=(LEFT) y1=(tenths(y)) x2=(RIGHT) y2=(tenths(y)) {}
            @if has_label(amount, y) {
                text x=(LEFT - 8.0) y=(tenths(y + 4.0)) text-anchor="end" {
                    (number_format::format_amount(amount))
                }
            }
        }
    }
}

/// Vertical lines with their labels, at the powers of ten of the return period.
fn return_period_grid(curves: &ExceedanceCurves) -> Markup {
    let x = |decade: u32| LEFT + (RIGHT - LEFT) * f64::from(decade) / f64::from(curves.decades);
    html! {
        @for (decade, x) in (0..=curves.decades).map(|decade| (decade, tenths(x(decade)))) {
            line class="grid" x1=(x) y1=(TOP) x2=(x) y2=(BOTTOM) {}
            text x=(x) y=(BOTTOM + 18.0) text-anchor="middle" {
                (number_format::format_count(10u64.pow(decade)))
            }
        }
    }
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
