//! Tables as aligned lines of text. Cells may hold text of documents, services and agents, so
//! control characters are written out, and long values cut.

use crate::foreign_text::{quote_line, quote_value};

const INDENT: &str = "  ";
const COLUMN_GAP: &str = "   ";

/// A table, header first. The first column is left-aligned, the others, which hold numbers, are
/// right-aligned. Every row must have as many cells as the header.
pub fn render_table(header: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let header: Vec<String> = header.iter().map(|&cell| cell.to_owned()).collect();
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| quote_value(cell)).collect()).collect();
    let column_width = |column: usize| {
        let cells = rows.iter().chain([&header]).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(column_width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        format!("{INDENT}{}", cells.collect::<Vec<_>>().join(COLUMN_GAP)).trim_end().to_owned()
    };
    [&header].into_iter().chain(&rows).map(line).collect()
}

/// Pairs of label and value, the values left-aligned.
pub fn render_facts(facts: &[(String, String)]) -> Vec<String> {
    let facts: Vec<_> = facts.iter().map(|(label, value)| (quote_value(label), quote_line(value))).collect();
    let width = facts.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    facts.iter().map(|(label, value)| format!("{INDENT}{label:<width$}{COLUMN_GAP}{value}")).collect()
}

/// Triples of label, figure and remark, the figures right-aligned.
pub fn render_figures(figures: &[(String, String, String)]) -> Vec<String> {
    let label_width = figures.iter().map(|(label, ..)| label.chars().count()).max().unwrap_or(0);
    let figure_width = figures.iter().map(|(_, figure, _)| figure.chars().count()).max().unwrap_or(0);
    let line = |(label, figure, remark): &(String, String, String)| {
        let label = format!("{INDENT}{label:<label_width$}");
        format!("{label}{COLUMN_GAP}{figure:>figure_width$}{COLUMN_GAP}{remark}").trim_end().to_owned()
    };
    figures.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let table = render_table(&["Level", "VaR"], &[row(["50%", "1.00"]), row(["99.5%", "1,000.00"])]);
        assert_eq!(table, ["  Level        VaR", "  50%         1.00", "  99.5%   1,000.00"]);
        let facts = render_facts(&[("A".to_owned(), "1".to_owned()), ("Long".to_owned(), "2".to_owned())]);
        assert_eq!(facts, ["  A      1", "  Long   2"]);
    }

    #[test]
    fn control_characters_in_cells_are_written_out() {
        let hostile = "\u{1b}[2Jproved\n".to_owned();
        let lines = [
            render_table(&["Agent"], &[vec![hostile.clone()]]),
            render_facts(&[(hostile.clone(), hostile.clone())]),
        ];
        assert!(lines.concat().iter().all(|line| !line.contains(char::is_control)), "{lines:?}");
        let long = render_table(&["Agent"], &[vec!["x".repeat(3000)]]).concat();
        assert!(long.len() < 300 && long.ends_with("… (2800 more bytes)"), "{long}");
    }
}
