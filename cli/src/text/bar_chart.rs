//! A histogram as horizontal bars, for profiles without return periods.

use forge_documents::{histogram::HistogramRow, number_format};

/// Length of the longest bar, in characters.
const MAX_BAR_WIDTH: usize = 40;
/// Partial blocks, by eighths of a character.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// One line per row: the range of amounts, its share of the iterations, and a bar.
pub fn render_bars(rows: &[HistogramRow]) -> Vec<String> {
    let largest_share = rows.iter().map(|row| row.share).fold(0.0, f64::max);
    let width = rows.last().map_or(0, |row| number_format::format_amount(row.range.1).len());
    let line = |row: &HistogramRow| {
        let (low, high) =
            (number_format::format_amount(row.range.0), number_format::format_amount(row.range.1));
        let (share, bar) = (number_format::format_percent(row.share), bar(row.share, largest_share));
        format!("  {low:>width$} to {high:>width$} {share:>10} {bar}").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A bar with a resolution of an eighth of a character. Any share above 0 is visible.
fn bar(share: f64, largest_share: f64) -> String {
    let eighths = if largest_share > 0.0 {
        (share / largest_share * (MAX_BAR_WIDTH * 8) as f64).round() as usize
    } else {
        0
    };
    let eighths = eighths.max(usize::from(share > 0.0));
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_aligned() {
        let row = |low, high| HistogramRow { range: (low, high), share: 0.5 };
        assert_eq!(
            render_bars(&[row(0.0, 10.0), row(150.0, 160.0)])[0],
            "    0.00 to  10.00     50.00% ████████████████████████████████████████"
        );
    }

    #[test]
    fn largest_share_fills_the_width_and_a_tiny_share_is_visible() {
        assert_eq!(bar(0.5, 0.5).chars().count(), MAX_BAR_WIDTH);
        assert_eq!(bar(1e-9, 1.0), "▏");
        assert_eq!(bar(0.0, 1.0), "");
    }
}
