//! Stores in a local directory: opening one, and finding out before a long run that it can be written.
//!
//! Durability: files and the directories that name them are synced before a write is reported as done, artifacts before
//! the manifest. So a manifest that survives a power failure names objects that survived it too. An object is written
//! under a staging name (`<name>#<n>`) and linked to its own name when it is whole; a killed process may leave a staging
//! file behind, which nothing reads and which may be deleted.

use std::{
    fs,
    path::Path,
    process,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use object_store::{ObjectStore, ObjectStoreExt, PutMode, local::LocalFileSystem, path::Path as Key};

use crate::{error::StoreError, store::Store};

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
        Ok(Self::at(Arc::new(file_system(root, &shown)?.with_fsync(true)), &shown))
    }

    /// Opens a directory for writing: creates it if there is none, and makes sure that objects can be created in it, once
    /// each.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] or [`StoreError::Full`] when that is not so.
    pub async fn create_local(root: &Path) -> Result<Self, StoreError> {
        let shown = root.display().to_string();
        fs::create_dir_all(root).map_err(|error| StoreError::from_io(&shown, &error))?;
        probe(&file_system(root, &shown)?, &shown).await?;
        Self::open_local(root)
    }
}

fn file_system(root: &Path, shown: &str) -> Result<LocalFileSystem, StoreError> {
    LocalFileSystem::new_with_prefix(root).map_err(|error| StoreError::from_object_store(shown, &error))
}

/// Creates an object, which must work once and not twice, and deletes it.
async fn probe(objects: &dyn ObjectStore, shown: &str) -> Result<(), StoreError> {
    let failed = |error: &object_store::Error| StoreError::from_object_store(shown, error);
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let key = Key::from(format!(".forge-probe-{}-{}", process::id(), since_epoch.as_nanos()));
    let create = || objects.put_opts(&key, "probe".into(), PutMode::Create.into());
    create().await.map_err(|error| failed(&error))?;
    let again = create().await;
    objects.delete(&key).await.map_err(|error| failed(&error))?;
    match again {
        Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(failed(&error)),
        Ok(_) => Err(StoreError::Unusable {
            path: shown.to_owned(),
            reason: "it lets an object be written twice, so artifacts would not be immutable".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn the_probe_leaves_nothing_behind() {
        let objects = InMemory::new();
        probe(&objects, "memory").await.unwrap();
        assert!(objects.list_with_delimiter(None).await.unwrap().objects.is_empty());
    }
}
