//! The loss exceedance plot in a terminal, drawn in Braille dots. AEP is a solid line and OEP a dotted one, so that they
//! can be told apart without colour.

use forge_contract::{program::Program, shard_result::ShardResult};
use forge_documents::{
    exceedance_curves::{ExceedanceCurves, LogScale},
    number_format,
};

/// Size of the picture in characters; each holds 2 by 4 dots.
const COLUMNS: usize = 64;
const ROWS: usize = 12;
const DOTS_X: usize = 2 * COLUMNS;
const DOTS_Y: usize = 4 * ROWS;
/// Of the dotted line, a dot in each so many columns of dots.
const DOTTED: usize = 4;

/// The plot as lines; `None` when there are too few iterations for one, or nothing was ever lost.
pub fn lines(result: &ShardResult, program: &Program) -> Option<Vec<String>> {
    let curves = ExceedanceCurves::new(result, &program.marks(), program.units, DOTS_X)?;
    let mut picture = Picture::new();
    picture.draw(&curves.aep, curves.scale, 1);
    picture.draw(&curves.oep, curves.scale, DOTTED);
    Some(framed(&picture.rows(), curves.scale, curves.decades))
}

/// The dot of an amount, from the bottom.
fn dot(scale: LogScale, amount: f64) -> Option<usize> {
    scale.position(amount).map(|share| (share * (DOTS_Y - 1) as f64).round() as usize)
}

/// The picture with its axes: amounts at the left, return periods below.
fn framed(rows: &[String], scale: LogScale, decades: u32) -> Vec<String> {
    let labels = labels(scale);
    let width = labels.iter().map(String::len).max().unwrap_or(0);
    let line = |(label, dots): (&String, &String)| {
        let tick = if label.is_empty() { '│' } else { '┤' };
        format!("  {label:>width$} {tick}{dots}").trim_end().to_owned()
    };
    let mut lines: Vec<_> = labels.iter().zip(rows).map(line).collect();
    let [ticks, labels] = axis(decades);
    lines.push(format!("  {:width$} └{ticks}", ""));
    lines.push(format!("  {:width$}  {labels}", ""));
    lines
}

/// What stands beside each row: powers of ten, and the highest amount.
fn labels(scale: LogScale) -> [String; ROWS] {
    let mut labels = [const { String::new() }; ROWS];
    for amount in scale.ticks() {
        if let Some(dot) = dot(scale, amount) {
            labels[ROWS - 1 - dot / 4] = number_format::format_amount(amount);
        }
    }
    labels[0] = number_format::format_amount(scale.top);
    labels
}

/// The axis of return periods: the line with its ticks, and their labels.
fn axis(decades: u32) -> [String; 2] {
    let place = |decade: u32| (COLUMNS - 1) * decade as usize / decades as usize;
    let mut ticks = vec!['─'; COLUMNS];
    let mut labels = vec![' '; COLUMNS + 8];
    for decade in 0..=decades {
        ticks[place(decade)] = '┴';
        for (offset, digit) in number_format::format_count(10u64.pow(decade)).chars().enumerate() {
            labels[place(decade) + offset] = digit;
        }
    }
    [ticks.into_iter().collect(), labels.into_iter().collect::<String>().trim_end().to_owned()]
}

/// Dots, as rows of Braille characters from the top.
struct Picture([[u8; COLUMNS]; ROWS]);

impl Picture {
    fn new() -> Self {
        Self([[0; COLUMNS]; ROWS])
    }

    /// Draws a curve from column to column; of a dotted one, a dot in each `step` columns.
    fn draw(&mut self, curve: &[f64], scale: LogScale, step: usize) {
        let mut last = None;
        for (x, now) in curve.iter().map(|&amount| dot(scale, amount)).enumerate() {
            if let Some(now) = now {
                if step == 1 {
                    // From just above the last dot, so that a steep line has no gaps.
                    (last.map_or(now, |last: usize| now.min(last + 1))..=now).for_each(|y| self.dot(x, y));
                } else if x % step == 0 {
                    self.dot(x, now);
                }
            }
            last = now;
        }
    }

    /// Sets a dot; `y` counts from the bottom.
    fn dot(&mut self, x: usize, y: usize) {
        // Bits of a Braille pattern, left column then right column, from the top.
        const BITS: [[u8; 4]; 2] = [[0, 1, 2, 6], [3, 4, 5, 7]];
        let from_top = DOTS_Y - 1 - y;
        self.0[from_top / 4][x / 2] |= 1 << BITS[x % 2][from_top % 4];
    }

    fn rows(&self) -> Vec<String> {
        let braille = |&dots: &u8| match dots {
            0 => ' ',
            dots => char::from_u32(0x2800 + u32::from(dots)).unwrap_or(' '),
        };
        self.0.iter().map(|row| row.iter().map(braille).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_where_braille_has_them() {
        let mut picture = Picture::new();
        picture.dot(0, 0);
        picture.dot(DOTS_X - 1, DOTS_Y - 1);
        let rows = picture.rows();
        assert_eq!(rows[ROWS - 1].chars().next(), Some('⡀'));
        assert_eq!(rows[0].chars().last(), Some('⠈'));
    }

    #[test]
    fn a_steep_line_has_no_gaps_and_a_dotted_one_has() {
        let scale = LogScale { bottom: 1.0, top: 1000.0 };
        let jump = [vec![1.0; DOTS_X / 2], vec![1000.0; DOTS_X / 2]].concat();
        let dots = |step| {
            let mut picture = Picture::new();
            picture.draw(&jump, scale, step);
            picture.0.iter().flatten().map(|dots| dots.count_ones() as usize).sum::<usize>()
        };
        // One a column, and the jump, whose ends are counted already.
        assert_eq!(dots(1), DOTS_X + DOTS_Y - 2);
        assert_eq!(dots(DOTTED), DOTS_X / DOTTED);
    }

    #[test]
    fn axes_are_labelled_at_decades() {
        let labels = labels(LogScale { bottom: 10.0, top: 25_000.0 });
        let labels: Vec<_> = labels.iter().filter(|label| !label.is_empty()).collect();
        assert_eq!(labels, ["25,000.00", "10,000.00", "1,000.00", "100.00", "10.00"]);
        let [ticks, labels] = axis(2);
        assert_eq!(ticks.chars().filter(|&tick| tick == '┴').count(), 3);
        assert!(labels.starts_with("1 ") && labels.ends_with("100"), "{labels}");
    }
}
