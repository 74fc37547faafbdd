//! Writes sheets as a workbook.

use rust_xlsxwriter::{
    Chart, ChartType, DocProperties, ExcelDateTime, Format, FormatAlign, Workbook, Worksheet, XlsxError,
};

use crate::sheet::{ChartKind, NumberStyle, Sheet, SheetCell, SheetChart};

/// Row of the headings, below the title.
const HEADER_ROW: u32 = 2;
/// Least widths of the first column and of the others, in characters.
const WIDTHS: [usize; 2] = [34, 18];
/// Largest width for the texts of the first column.
const MAX_TEXT_WIDTH: usize = 60;
/// What a column is wider than its heading, which is bold.
const PADDING: usize = 3;
/// Rows between a table and what is below it.
const GAP: u32 = 2;
/// Size of a chart, in pixels.
const CHART_SIZE: (u32, u32) = (760, 400);

/// The bytes of a workbook.
///
/// # Errors
/// A text or a table exceeds what a workbook can hold.
pub fn workbook_bytes(title: &str, sheets: &[Sheet]) -> Result<Vec<u8>, XlsxError> {
    let mut workbook = Workbook::new();
    // A date of no meaning: the time would differ in every file.
    let created = ExcelDateTime::from_ymd(2000, 1, 1)?;
    workbook.set_properties(&DocProperties::new().set_title(title).set_creation_datetime(&created));
    for sheet in sheets {
        write_sheet(workbook.add_worksheet(), sheet)?;
    }
    workbook.save_to_buffer()
}

fn write_sheet(worksheet: &mut Worksheet, sheet: &Sheet) -> Result<(), XlsxError> {
    worksheet.set_name(sheet.name)?;
    // On paper, a sheet is as wide as a page.
    worksheet.set_landscape().set_print_fit_to_pages(1, 0);
    let bold = Format::new().set_bold();
    worksheet.write_string_with_format(0, 0, &sheet.title, &bold)?;
    for (column, heading) in (0..).zip(&sheet.header) {
        worksheet.set_column_width(column, column_width(sheet, column) as u32)?;
        let has_numbers =
            sheet.rows.iter().any(|row| matches!(row.get(usize::from(column)), Some(SheetCell::Number(..))));
        let format = if has_numbers { bold.clone().set_align(FormatAlign::Right) } else { bold.clone() };
        worksheet.write_string_with_format(HEADER_ROW, column, heading, &format)?;
    }
    worksheet.set_freeze_panes(HEADER_ROW + 1, 1)?;
    for (row, cells) in (HEADER_ROW + 1..).zip(&sheet.rows) {
        for (column, cell) in (0..).zip(cells) {
            write_cell(worksheet, row, column, cell)?;
        }
    }
    let mut below = HEADER_ROW + 1 + sheet.rows.len() as u32 + GAP;
    for note in &sheet.notes {
        worksheet.write_string(below, 0, note)?;
        below += 1;
    }
    if let Some(chart) = sheet.chart.as_ref().filter(|chart| chart.rows > 0) {
        worksheet.insert_chart(below, 0, &new_chart(sheet, chart))?;
    }
    Ok(())
}

/// The width of a column: that of its heading, and of the texts of the first column.
fn column_width(sheet: &Sheet, column: u16) -> usize {
    let column = usize::from(column);
    let heading = sheet.header[column].chars().count() + PADDING;
    let texts = sheet.rows.iter().filter_map(|row| match row.first() {
        Some(SheetCell::Text(text)) if column == 0 => Some(text.chars().count().min(MAX_TEXT_WIDTH)),
        _ => None,
    });
    texts.max().unwrap_or(0).max(heading).max(WIDTHS[usize::from(column > 0)])
}

fn write_cell(worksheet: &mut Worksheet, row: u32, column: u16, cell: &SheetCell) -> Result<(), XlsxError> {
    match cell {
        SheetCell::Empty => {}
        SheetCell::Text(text) => {
            worksheet.write_string(row, column, text)?;
        }
        SheetCell::Number(number, style) => {
            let format = Format::new().set_num_format(match style {
                NumberStyle::Amount => "#,##0.00",
                NumberStyle::Count => "#,##0",
                NumberStyle::Percent => "0.00%",
                NumberStyle::Plain => "General",
            });
            worksheet.write_number_with_format(row, column, *number, &format)?;
        }
    }
    Ok(())
}

fn new_chart(sheet: &Sheet, SheetChart { kind, title, columns, rows }: &SheetChart) -> Chart {
    let (first, last) = (HEADER_ROW + 1, HEADER_ROW + *rows as u32);
    let mut chart = Chart::new(match kind {
        ChartKind::Curves => ChartType::ScatterStraightWithMarkers,
        ChartKind::Columns => ChartType::Column,
    });
    for &column in columns {
        let column = column as u16;
        chart
            .add_series()
            .set_name((sheet.name, HEADER_ROW, column))
            .set_categories((sheet.name, first, 0, last, 0))
            .set_values((sheet.name, first, column, last, column));
    }
    chart.title().set_name(title);
    chart.y_axis().set_num_format("#,##0");
    if *kind == ChartKind::Curves {
        chart.x_axis().set_log_base(10);
    }
    chart.set_width(CHART_SIZE.0).set_height(CHART_SIZE.1);
    chart
}
