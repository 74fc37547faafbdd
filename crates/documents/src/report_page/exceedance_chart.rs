//! The loss exceedance curves as inline SVG. Coordinates are rounded to a tenth, from correctly
//! rounded operations only.

use forge_kernel::request::Request;

use super::push;
use crate::{exceedance_curves::ExceedanceCurves, job_result::JobResult, number_format};

/// Size of the picture, and of the area of the curves in it.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 110.0;
const RIGHT: f64 = 740.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 320.0;
/// Points of a curve.
const POINTS: usize = 253;

/// The picture; `None` when there are too few iterations for one, or nothing was lost.
pub fn exceedance_chart(request: &Request, job_result: &JobResult) -> Option<String> {
    let program = &request.program;
    let curves = ExceedanceCurves::new(&job_result.merged, &program.marks(), program.units, POINTS)?;
    let words = request.profile().words;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n\
         <title>Amounts exceeded once in a return period: AEP solid, OEP dashed</title>\n"
    );
    grid(&mut svg, &curves);
    for (class, curve) in [("aep", &curves.aep), ("oep", &curves.oep)] {
        push(&mut svg, format_args!("<polyline class=\"{class}\" points=\"{}\"/>\n", points(&curves, curve)));
    }
    for (class, name, x) in [("aep", "AEP", LEFT + 15.0), ("oep", "OEP", LEFT + 105.0)] {
        let (end, text) = (x + 30.0, x + 36.0);
        push(&mut svg, format_args!("<line class=\"{class}\" x1=\"{x}\" y1=\"15\" x2=\"{end}\" y2=\"15\"/>"));
        push(&mut svg, format_args!("<text x=\"{text}\" y=\"19\">{name}</text>\n"));
    }
    push(
        &mut svg,
        format_args!(
            "<text x=\"{RIGHT}\" y=\"{}\" text-anchor=\"end\">return period, {}</text>\n</svg>\n",
            BOTTOM + 36.0,
            words.iterations
        ),
    );
    Some(svg)
}

/// Lines and labels at powers of ten.
fn grid(svg: &mut String, curves: &ExceedanceCurves) {
    let top = curves.scale.top;
    for amount in curves.scale.ticks().chain([top]) {
        let Some(y) = y(curves, amount) else { continue };
        // The highest amount is no power of ten: leave out a label that would touch it.
        let label = amount == top || y > TOP + 12.0;
        push(
            svg,
            format_args!("<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\"/>"),
        );
        if label {
            let (x, y) = (LEFT - 8.0, y + 4.0);
            let amount = number_format::format_amount(amount);
            push(svg, format_args!("<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{amount}</text>"));
        }
        svg.push('\n');
    }
    for decade in 0..=curves.decades {
        let x = LEFT + (RIGHT - LEFT) * f64::from(decade) / f64::from(curves.decades);
        let (y, years) = (BOTTOM + 18.0, number_format::format_count(10u64.pow(decade)));
        push(
            svg,
            format_args!("<line class=\"grid\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{BOTTOM}\"/>"),
        );
        push(svg, format_args!("<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{years}</text>\n"));
    }
}

fn y(curves: &ExceedanceCurves, amount: f64) -> Option<f64> {
    curves.scale.position(amount).map(|share| BOTTOM - (BOTTOM - TOP) * share)
}

fn points(curves: &ExceedanceCurves, curve: &[f64]) -> String {
    let x = |index: usize| LEFT + (RIGHT - LEFT) * index as f64 / (curve.len() - 1) as f64;
    let point = |(index, &amount): (usize, &f64)| Some(format!("{:.1},{:.1}", x(index), y(curves, amount)?));
    curve.iter().enumerate().filter_map(point).collect::<Vec<_>>().join(" ")
}
