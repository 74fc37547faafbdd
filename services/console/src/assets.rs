//! The files that are embedded in the program: style, script and icon.

use std::sync::LazyLock;

use forge_documents::{CHART_TEXT_HEIGHT, NARROW_CHART_TEXT_HEIGHT};

/// An embedded file.
#[derive(Debug, PartialEq, Eq)]
pub struct ConsoleAsset {
    /// File name.
    pub name: &'static str,
    /// Media type.
    pub media_type: &'static str,
    /// Content.
    pub text: String,
}

static ASSETS: LazyLock<[ConsoleAsset; 3]> = LazyLock::new(|| {
    // The layout of charts depends on the height of their text.
    let style = include_str!("../assets/console.css")
        .replace("NARROW_CHART_TEXT_HEIGHT", &NARROW_CHART_TEXT_HEIGHT.to_string())
        .replace("CHART_TEXT_HEIGHT", &CHART_TEXT_HEIGHT.to_string());
    let asset = |name, media_type, text: &str| ConsoleAsset { name, media_type, text: text.to_owned() };
    [
        asset("console.css", "text/css; charset=utf-8", &style),
        asset("console.js", "text/javascript; charset=utf-8", include_str!("../assets/console.js")),
        asset("icon.svg", "image/svg+xml", include_str!("../assets/icon.svg")),
    ]
});

/// The file of this name.
pub fn find(name: &str) -> Option<&'static ConsoleAsset> {
    ASSETS.iter().find(|asset| asset.name == name)
}
