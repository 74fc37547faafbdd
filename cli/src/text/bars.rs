//! A histogram as horizontal bars, for quantities without return periods.

use forge_documents::{histogram::HistogramRow, number_format};

/// Width of the longest bar.
const WIDTH: usize = 40;
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// The rows as lines: the range of amounts, its share of the iterations, and a bar.
pub fn lines(rows: &[HistogramRow]) -> Vec<String> {
    let most = rows.iter().map(|row| row.share).fold(0.0, f64::max);
    let width = rows.last().map_or(0, |row| number_format::format_amount(row.range.1).len());
    let line = |row: &HistogramRow| {
        let (low, high) =
            (number_format::format_amount(row.range.0), number_format::format_amount(row.range.1));
        let (share, bar) = (number_format::format_percent(row.share), bar(row.share, most));
        format!("  {low:>width$} to {high:>width$} {share:>10} {bar}").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A bar of eighths of a character; whatever is not 0 is seen.
fn bar(share: f64, most: f64) -> String {
    let eighths = if most > 0.0 { (share / most * (WIDTH * 8) as f64).round() as usize } else { 0 };
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
            lines(&[row(0.0, 10.0), row(150.0, 160.0)])[0],
            "    0.00 to  10.00     50.00% ████████████████████████████████████████"
        );
    }

    #[test]
    fn the_longest_bar_is_full_and_a_rare_one_is_seen() {
        assert_eq!(bar(0.5, 0.5).chars().count(), WIDTH);
        assert_eq!(bar(1e-9, 1.0), "▏");
        assert_eq!(bar(0.0, 1.0), "");
    }
}
