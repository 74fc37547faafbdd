//! Tables in columns: the first to the left, the others, which are numbers, to the right.

/// Space before a row, and between its columns.
const INDENT: &str = "  ";
const GAP: &str = "   ";

/// The rows as lines, the header first. Every row has as many cells as the header.
pub fn lines(header: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let header: Vec<String> = header.iter().map(|&cell| cell.to_owned()).collect();
    let width = |column: usize| {
        let cells = rows.iter().chain([&header]).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        format!("{INDENT}{}", cells.collect::<Vec<_>>().join(GAP)).trim_end().to_owned()
    };
    [&header].into_iter().chain(rows).map(line).collect()
}

/// Labels and values as lines, the values aligned.
pub fn facts(facts: &[(String, String)]) -> Vec<String> {
    let width = facts.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    facts.iter().map(|(label, value)| format!("{INDENT}{label:<width$}{GAP}{value}")).collect()
}

/// Labels, figures and remarks as lines, the figures aligned at their right end.
pub fn figures(figures: &[(String, String, String)]) -> Vec<String> {
    let label = figures.iter().map(|(label, ..)| label.chars().count()).max().unwrap_or(0);
    let figure = figures.iter().map(|(_, figure, _)| figure.chars().count()).max().unwrap_or(0);
    let line = |(name, value, remark): &(String, String, String)| {
        format!("{INDENT}{name:<label$}{GAP}{value:>figure$}{GAP}{remark}").trim_end().to_owned()
    };
    figures.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let table = lines(&["Level", "VaR"], &[row(["50%", "1.00"]), row(["99.5%", "1,000.00"])]);
        assert_eq!(table, ["  Level        VaR", "  50%         1.00", "  99.5%   1,000.00"]);
        let facts = facts(&[("A".to_owned(), "1".to_owned()), ("Long".to_owned(), "2".to_owned())]);
        assert_eq!(facts, ["  A      1", "  Long   2"]);
    }
}
