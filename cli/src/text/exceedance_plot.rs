//! The loss exceedance plot, drawn with Braille dots. The first curve is a solid line and the
//! second a dotted one, so they can be told apart without colour.

use forge_contract::shard_result::ShardResult;
use forge_documents::{
    exceedance_curves::{ExceedanceCurves, LogScale},
    number_format, result_tables,
};
use forge_kernel::request::Request;

/// Size of the plot in characters; each character holds 2 by 4 dots.
const COLUMNS: usize = 64;
const ROWS: usize = 12;
const DOT_COLUMNS: usize = 2 * COLUMNS;
const DOT_ROWS: usize = 4 * ROWS;
/// A dotted line has one dot in this many dot columns.
const DOT_SPACING: usize = 4;
/// The distance of the dots of each curve, and its name.
const LINES: [(usize, &str); 2] = [(1, "solid line"), (DOT_SPACING, "dotted")];

/// The title, and the plot with its axes; `None` if there are too few iterations for one, or every
/// loss is 0.
pub fn render_plot(request: &Request, result: &ShardResult) -> Option<(String, Vec<String>)> {
    let curves = ExceedanceCurves::new(request, result, DOT_COLUMNS, LINES.len())?;
    let mut canvas = BrailleCanvas::new();
    let mut legend = Vec::new();
    for (curve, (step, line)) in curves.curves.iter().zip(LINES) {
        canvas.draw_curve(&curve.amounts, curves.scale, step);
        legend.push(format!("{} {line}", curve.name));
    }
    let iterations = request.profile().vocabulary.iterations;
    let unit = match result_tables::unit(request) {
        "" => String::new(),
        unit => format!(", {unit}"),
    };
    let title = format!("Loss by return period in {iterations}{unit}: {}", legend.join(", "));
    Some((title, with_axes(&canvas.rows(), curves.scale, curves.decades)))
}

/// The dot row of an amount, counted from the bottom; `None` outside the scale.
fn dot_row(scale: LogScale, amount: f64) -> Option<usize> {
    scale.position(amount).map(|share| (share * (DOT_ROWS - 1) as f64).round() as usize)
}

/// Adds amounts on the left and return periods below.
fn with_axes(rows: &[String], scale: LogScale, decades: u32) -> Vec<String> {
    let labels = amount_labels(scale);
    let width = labels.iter().map(String::len).max().unwrap_or(0);
    let line = |(label, dots): (&String, &String)| {
        let tick = if label.is_empty() { '│' } else { '┤' };
        format!("  {label:>width$} {tick}{dots}").trim_end().to_owned()
    };
    let mut lines: Vec<_> = labels.iter().zip(rows).map(line).collect();
    let [ticks, labels] = return_period_axis(decades);
    lines.push(format!("  {:width$} └{ticks}", ""));
    lines.push(format!("  {:width$}  {labels}", ""));
    lines
}

/// The label of each row: powers of ten, and the top of the scale.
fn amount_labels(scale: LogScale) -> [String; ROWS] {
    let mut labels = [const { String::new() }; ROWS];
    for amount in scale.ticks() {
        if let Some(row) = dot_row(scale, amount) {
            labels[ROWS - 1 - row / 4] = number_format::format_axis_amount(amount);
        }
    }
    labels[0] = number_format::format_axis_amount(scale.top);
    labels
}

/// The axis of return periods: the line with its ticks, and the labels below it.
fn return_period_axis(decades: u32) -> [String; 2] {
    let column = |decade: u32| (COLUMNS - 1) * decade as usize / decades as usize;
    let mut ticks = vec!['─'; COLUMNS];
    let mut labels = vec![' '; COLUMNS];
    for decade in 0..=decades {
        ticks[column(decade)] = '┴';
        let label = number_format::format_count(10u64.pow(decade));
        // The last label ends at its tick, so that no line is longer than the plot.
        let start = column(decade).min(COLUMNS - label.len());
        labels[start..start + label.len()].copy_from_slice(&label.chars().collect::<Vec<_>>());
    }
    [ticks.into_iter().collect(), labels.into_iter().collect::<String>().trim_end().to_owned()]
}

/// A grid of dots, stored as the bits of Braille characters, row by row from the top.
struct BrailleCanvas([[u8; COLUMNS]; ROWS]);

impl BrailleCanvas {
    fn new() -> Self {
        Self([[0; COLUMNS]; ROWS])
    }

    /// Draws a curve that has an amount for every dot column: a solid line if `step` is 1,
    /// otherwise one dot in every `step` columns.
    fn draw_curve(&mut self, curve: &[f64], scale: LogScale, step: usize) {
        let mut previous = None;
        for (x, current) in curve.iter().map(|&amount| dot_row(scale, amount)).enumerate() {
            if let Some(y) = current {
                if step == 1 {
                    // Start just above the previous dot, so that a steep line has no gaps.
                    let start = previous.map_or(y, |previous: usize| y.min(previous + 1));
                    (start..=y).for_each(|y| self.set_dot(x, y));
                } else if x % step == 0 {
                    self.set_dot(x, y);
                }
            }
            previous = current;
        }
    }

    /// Sets a dot; `y` counts from the bottom.
    fn set_dot(&mut self, x: usize, y: usize) {
        // Bit numbers of a Braille pattern: left column, then right column, each from the top.
        const BITS: [[u8; 4]; 2] = [[0, 1, 2, 6], [3, 4, 5, 7]];
        let from_top = DOT_ROWS - 1 - y;
        self.0[from_top / 4][x / 2] |= 1 << BITS[x % 2][from_top % 4];
    }

    fn rows(&self) -> Vec<String> {
        let character = |&dots: &u8| match dots {
            0 => ' ',
            dots => char::from_u32(0x2800 + u32::from(dots)).unwrap_or(' '),
        };
        self.0.iter().map(|row| row.iter().map(character).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_map_to_the_right_braille_characters() {
        let mut canvas = BrailleCanvas::new();
        canvas.set_dot(0, 0);
        canvas.set_dot(DOT_COLUMNS - 1, DOT_ROWS - 1);
        let rows = canvas.rows();
        assert_eq!(rows[ROWS - 1].chars().next(), Some('⡀'));
        assert_eq!(rows[0].chars().last(), Some('⠈'));
    }

    #[test]
    fn solid_line_has_no_gaps_and_dotted_line_is_spaced() {
        let scale = LogScale { bottom: 1.0, top: 1000.0 };
        let jump = [vec![1.0; DOT_COLUMNS / 2], vec![1000.0; DOT_COLUMNS / 2]].concat();
        let dot_count = |step| {
            let mut canvas = BrailleCanvas::new();
            canvas.draw_curve(&jump, scale, step);
            canvas.0.iter().flatten().map(|dots| dots.count_ones() as usize).sum::<usize>()
        };
        // One dot per column plus the vertical jump, whose two ends are already counted.
        assert_eq!(dot_count(1), DOT_COLUMNS + DOT_ROWS - 2);
        assert_eq!(dot_count(DOT_SPACING), DOT_COLUMNS / DOT_SPACING);
    }

    #[test]
    fn axes_are_labelled_at_decades() {
        let labels = amount_labels(LogScale { bottom: 10.0, top: 25_000.0 });
        let labels: Vec<_> = labels.iter().filter(|label| !label.is_empty()).collect();
        assert_eq!(labels, ["25,000", "10,000", "1,000", "100", "10"]);
        let [ticks, labels] = return_period_axis(2);
        assert_eq!(ticks.chars().filter(|&tick| tick == '┴').count(), 3);
        assert!(labels.starts_with("1 ") && labels.ends_with("100"), "{labels}");
        let widest = with_axes(&vec![String::new(); ROWS], LogScale { bottom: 1.0, top: 9.99e14 }, 4);
        assert!(widest.iter().all(|line| line.chars().count() <= 80), "{widest:?}");
    }
}
