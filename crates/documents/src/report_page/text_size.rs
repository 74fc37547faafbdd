//! Heights of the text in drawings, which the style sheet and the layout of the drawings share.

/// Height of text in units of a drawing.
pub const TEXT_HEIGHT: u32 = 12;
/// The same in the chart of exceedance curves.
pub const CHART_TEXT_HEIGHT: u32 = 14;
/// The same on narrow pages, where the chart is drawn smaller.
pub const NARROW_CHART_TEXT_HEIGHT: u32 = 22;
/// Mean width of a letter of the Latin alphabet in bold, as a fraction of its height.
pub const LETTER_WIDTH: f64 = 0.63;

/// The style sheet of the page.
pub fn style() -> String {
    [
        ("NARROW_CHART_TEXT_HEIGHT", NARROW_CHART_TEXT_HEIGHT),
        ("CHART_TEXT_HEIGHT", CHART_TEXT_HEIGHT),
        ("TEXT_HEIGHT", TEXT_HEIGHT),
    ]
    .into_iter()
    .fold(include_str!("report.css").to_owned(), |style, (name, height)| {
        style.replace(name, &height.to_string())
    })
}
