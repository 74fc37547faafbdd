//! Stores in a local directory: opens one, and checks before a long run that it is writable.
//!
//! Durability: a write returns after the file and the directories that name it are synced, and
//! artifacts are written before the manifest. If a manifest survives a power failure, every object
//! that it names therefore survives too. An object is written under a staging name (`<name>#<n>`)
//! and linked to its own name once complete. A killed process may leave a staging file behind; it
//! is never read and may be deleted.

use std::{fs, path::Path, sync::Arc};

use object_store::local::LocalFileSystem;

use crate::{
    error::StoreError,
    probe::check_conditional_create,
    store::{Store, StoreKind},
};

/// Prefix of a probe's key. It is not a directory, because an empty directory would remain.
const PROBE_PREFIX: &str = ".forge-probe-";

impl Store {
    /// Opens an existing directory for reading.
    ///
    /// # Errors
    /// [`StoreError::Missing`] or [`StoreError::Unusable`] when there is no such directory.
    pub fn open_local(root: &Path) -> Result<Self, StoreError> {
        let display_name = root.display().to_string();
        let metadata = fs::metadata(root).map_err(|error| StoreError::from_io(&display_name, &error))?;
        if !metadata.is_dir() {
            return Err(StoreError::Unusable {
                path: display_name,
                reason: "it is not a directory".to_owned(),
            });
        }
        // The root itself may be a link; nothing below it may.
        let resolved = fs::canonicalize(root).map_err(|error| StoreError::from_io(&display_name, &error))?;
        let objects = Arc::new(open_file_system(root, &display_name)?.with_fsync(true));
        let mut store = Self::new(objects, &display_name, StoreKind::Local);
        store.root = Some(resolved.into());
        Ok(store)
    }

    /// Opens a directory for writing: creates it if necessary, and checks that creating an object
    /// succeeds exactly once.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] or [`StoreError::Full`] when the check fails.
    pub async fn create_local(root: &Path) -> Result<Self, StoreError> {
        let display_name = root.display().to_string();
        fs::create_dir_all(root).map_err(|error| StoreError::from_io(&display_name, &error))?;
        check_conditional_create(&open_file_system(root, &display_name)?, PROBE_PREFIX, &display_name)
            .await?;
        Self::open_local(root)
    }
}

fn open_file_system(root: &Path, display_name: &str) -> Result<LocalFileSystem, StoreError> {
    // `object_store` panics on other paths.
    let absolute = fs::canonicalize(root).map_err(|error| StoreError::from_io(display_name, &error))?;
    if absolute.to_str().is_none() {
        let reason = "the path of the directory is not valid UTF-8".to_owned();
        return Err(StoreError::Unusable { path: display_name.to_owned(), reason });
    }
    LocalFileSystem::new_with_prefix(root)
        .map_err(|error| StoreError::from_object_store(display_name, &error))
}
