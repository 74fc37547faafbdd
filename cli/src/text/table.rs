//! Tables as aligned lines of text. Cells may hold text of documents, services and agents, so
//! control characters are written out, and long values cut.

use crate::foreign_text::{quote_line, quote_value};

const INDENT: &str = "  ";
const COLUMN_GAP: &str = "   ";
/// Gap between columns of text, which are cut to the width of the terminal.
const TEXT_COLUMN_GAP: &str = "  ";
/// Width of lines where standard output is no terminal.
const DEFAULT_WIDTH: usize = 100;
/// Columns of text are cut no shorter than this, or than their heading.
const MIN_COLUMN_WIDTH: usize = 4;

/// A table, header first. The first column is left-aligned, the others, which hold numbers, are
/// right-aligned. Every row must have as many cells as the header.
pub fn render_table(header: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let rows = with_header(header, rows);
    let widths = column_widths(&rows);
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        format!("{INDENT}{}", cells.collect::<Vec<_>>().join(COLUMN_GAP)).trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A table of texts, header first, all columns left-aligned. If it is wider than `max_width`, the
/// widest cells are cut. Every row must have as many cells as the header.
pub fn render_text_table(header: &[&str], rows: &[Vec<String>], max_width: usize) -> Vec<String> {
    let rows = with_header(header, rows);
    let mut widths = column_widths(&rows);
    let fixed = INDENT.len() + TEXT_COLUMN_GAP.len() * widths.len().saturating_sub(1);
    let minimum = |column: usize| header[column].chars().count().max(MIN_COLUMN_WIDTH);
    while fixed + widths.iter().sum::<usize>() > max_width {
        let columns = (0..widths.len()).filter(|&column| widths[column] > minimum(column));
        let Some(widest) = columns.max_by_key(|&column| widths[column]) else { break };
        widths[widest] -= 1;
    }
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{:<width$}", cut(cell, width)));
        format!("{INDENT}{}", cells.collect::<Vec<_>>().join(TEXT_COLUMN_GAP)).trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Width of standard output: of the terminal, or 100 columns elsewhere.
pub fn output_width() -> usize {
    let size = terminal_size::terminal_size_of(std::io::stdout());
    size.map_or(DEFAULT_WIDTH, |(width, _)| usize::from(width.0))
}

/// The header and the rows, with cells that are safe to print.
fn with_header(header: &[&str], rows: &[Vec<String>]) -> Vec<Vec<String>> {
    let header = header.iter().map(|&cell| cell.to_owned()).collect();
    let rows = rows.iter().map(|row| row.iter().map(|cell| quote_value(cell)).collect());
    [header].into_iter().chain(rows).collect()
}

fn column_widths(rows: &[Vec<String>]) -> Vec<usize> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    (0..rows[0].len()).map(width).collect()
}

/// The text, or its first characters and an ellipsis if it has more than `width`.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
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
    fn tables_of_text_are_cut_to_the_width() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["a", "NVIDIA H200, driver 570", "8"]), row(["longer", "cpu", "16"])];
        let header = ["Id", "Adapter", "Slots"];
        let fits = render_text_table(&header, &rows, 40);
        assert_eq!(fits[1], "  a       NVIDIA H200, driver 570  8");
        let cut = render_text_table(&header, &rows, 30);
        assert_eq!(cut[1..], ["  a       NVIDIA H200,…  8", "  longer  cpu            16"]);
        assert!(cut.iter().all(|line| line.chars().count() <= 30), "{cut:?}");
        // No column becomes narrower than its heading.
        assert_eq!(render_text_table(&header, &rows, 1)[1], "  a     NVIDIA…  8");
    }

    #[test]
    fn control_characters_in_cells_are_written_out() {
        let hostile = "\u{1b}[2Jproved\n".to_owned();
        let lines = [
            render_table(&["Agent"], &[vec![hostile.clone()]]),
            render_text_table(&["Agent"], &[vec![hostile.clone()]], 100),
            render_facts(&[(hostile.clone(), hostile.clone())]),
        ];
        assert!(lines.concat().iter().all(|line| !line.contains(char::is_control)), "{lines:?}");
        let long = render_table(&["Agent"], &[vec!["x".repeat(3000)]]).concat();
        assert!(long.len() < 300 && long.ends_with("… (2800 more bytes)"), "{long}");
    }
}
