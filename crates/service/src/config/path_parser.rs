//! The parser of options that name a file.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};

/// Accepts any path, including the empty one, which stands for none: Compose and Helm set an unused
/// variable to the empty string, which clap's own parser rejects.
pub(super) fn path_parser() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}
