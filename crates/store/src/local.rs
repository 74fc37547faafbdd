//! Stores in a local directory: opening one, and finding out before a long run that it can be written.
//!
//! Durability: files and the directories that name them are synced before a write is reported as done, artifacts before
//! the manifest. So a manifest that survives a power failure names objects that survived it too. An object is written
//! under a staging name (`<name>#<n>`) and linked to its own name when it is whole; a killed process may leave a staging
//! file behind, which nothing reads and which may be deleted.

use std::{fs, path::Path, sync::Arc};

use object_store::local::LocalFileSystem;

use crate::{
    error::StoreError,
    probe::probe,
    store::{Kind, Store},
};

/// What a probe's key begins with: no directory, which would stay.
const PROBE: &str = ".forge-probe-";

impl Store {
    /// Opens a directory that holds a store, for reading.
    ///
    /// # Errors
    /// [`StoreError::Missing`] or [`StoreError::Unusable`] when there is no such directory.
    pub fn open_local(root: &Path) -> Result<Self, StoreError> {
        let shown = root.display().to_string();
        let metadata = fs::metadata(root).map_err(|error| StoreError::from_io(&shown, &error))?;
        if !metadata.is_dir() {
            return Err(StoreError::Unusable { path: shown, reason: "it is not a directory".to_owned() });
        }
        Ok(Self::at(Arc::new(file_system(root, &shown)?.with_fsync(true)), &shown, Kind::Local))
    }

    /// Opens a directory for writing: creates it if there is none, and makes sure that objects can be created in it, once
    /// each.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] or [`StoreError::Full`] when that is not so.
    pub async fn create_local(root: &Path) -> Result<Self, StoreError> {
        let shown = root.display().to_string();
        fs::create_dir_all(root).map_err(|error| StoreError::from_io(&shown, &error))?;
        probe(&file_system(root, &shown)?, PROBE, &shown).await?;
        Self::open_local(root)
    }
}

fn file_system(root: &Path, shown: &str) -> Result<LocalFileSystem, StoreError> {
    LocalFileSystem::new_with_prefix(root).map_err(|error| StoreError::from_object_store(shown, &error))
}
