//! The parser of arguments that name a file or directory of this machine.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};

/// Accepts any path, and refuses URLs: a directory called `s3:` is never meant.
pub fn local_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|text| match text.to_str().and_then(|text| text.split_once("://")) {
        Some((scheme, _)) => Err(format!("{scheme}:// is not supported here: give a path on this machine")),
        None if text.is_empty() => Err("the path is empty".to_owned()),
        None => Ok(PathBuf::from(text)),
    })
}
