//! The file of contexts, in the user's configuration directory.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::settings::{ContextName, ContextSettings};
use crate::{error::CommandError, output};

const SCHEMA: &str = "forge.contexts.v1";

/// The contexts of a user.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextFile {
    schema: String,
    /// The context that is used where nothing names another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<ContextName>,
    /// The settings of each context.
    pub contexts: BTreeMap<ContextName, ContextSettings>,
}

impl ContextFile {
    /// Reads the file; there are no contexts if it does not exist.
    ///
    /// # Errors
    /// [`CommandError::Input`] if the file cannot be read, or is no file of contexts.
    pub fn read() -> Result<Self, CommandError> {
        let empty = || Self { schema: SCHEMA.to_owned(), current: None, contexts: BTreeMap::new() };
        let Some(path) = path() else { return Ok(empty()) };
        let refused = |reason: String| CommandError::Input(format!("{}: {reason}", path.display()));
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(empty()),
            text => text.map_err(|error| refused(format!("cannot read the contexts: {error}")))?,
        };
        let file: Self = serde_json::from_str(&text)
            .map_err(|error| refused(format!("is no file of contexts: {error}")))?;
        if file.schema != SCHEMA {
            return Err(refused(format!("has the schema {:?}, but {SCHEMA} is known", file.schema)));
        }
        Ok(file)
    }

    /// The settings of a context.
    ///
    /// # Errors
    /// [`CommandError::Input`] if there is no such context.
    pub fn context(&self, name: &ContextName) -> Result<&ContextSettings, CommandError> {
        self.contexts.get(name).ok_or_else(|| {
            let names: Vec<_> = self.contexts.keys().map(ContextName::as_str).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            CommandError::Input(format!("there is no context {name}; contexts: {known}"))
        })
    }

    /// Writes the file in place of the one before, readable only by the user.
    ///
    /// # Errors
    /// There is no configuration directory, or the file cannot be written.
    pub fn write(&self) -> Result<(), CommandError> {
        let path = path().ok_or_else(|| {
            CommandError::Input("neither XDG_CONFIG_HOME nor HOME names a directory for contexts".to_owned())
        })?;
        let failed = || format!("cannot write {}", path.display());
        let directory = path.parent().unwrap_or(Path::new("/"));
        create_directory(directory).with_context(failed)?;
        let partial = path.with_extension(format!("{}.partial", std::process::id()));
        let written = create_file(&partial)
            .and_then(|mut file| file.write_all(output::to_json_document(self).as_bytes()))
            .and_then(|()| fs::rename(&partial, &path));
        if written.is_err() {
            // The error that matters is the first one.
            let _ = fs::remove_file(&partial);
        }
        Ok(written.with_context(failed)?)
    }
}

/// Path of the file, by the rules of the XDG Base Directory Specification: a relative path is
/// ignored. `None` without a configuration directory.
fn path() -> Option<PathBuf> {
    let directory =
        |variable: &str| env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let configuration = directory("XDG_CONFIG_HOME").or_else(|| Some(directory("HOME")?.join(".config")))?;
    Some(configuration.join("forge").join("contexts.json"))
}

fn create_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn create_file(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}
