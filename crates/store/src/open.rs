//! Opens a store by its location. Delegates to `local` and `s3`, which implement each kind of
//! store.

use crate::{
    error::StoreError,
    location::StoreLocation,
    s3::{self, S3Options},
    store::Store,
};

impl Store {
    /// Opens a store for writing and checks that it is usable. A missing directory is created; a
    /// bucket must exist, or is created if [`S3Options::object_lock`] is set. Checks that the store
    /// creates an object exactly once. `s3` applies to buckets only.
    ///
    /// # Errors
    /// [`StoreError::Unusable`], [`StoreError::Missing`] or [`StoreError::Full`] when the store
    /// fails these checks; [`StoreError::Unavailable`] when it does not respond.
    pub async fn open(location: &StoreLocation, s3: &S3Options) -> Result<Self, StoreError> {
        match location {
            StoreLocation::Memory => Ok(Self::in_memory()),
            StoreLocation::Directory(root) => Self::create_local(root).await,
            StoreLocation::S3 { .. } => s3::open(location, s3, true).await,
        }
    }

    /// Opens a store for reading, without writing anything. A bucket must exist and respond.
    ///
    /// # Errors
    /// [`StoreError::Missing`] or [`StoreError::Unusable`] when no store exists there;
    /// [`StoreError::Unavailable`] when it does not respond.
    pub async fn open_for_reading(location: &StoreLocation, s3: &S3Options) -> Result<Self, StoreError> {
        match location {
            StoreLocation::Memory => Ok(Self::in_memory()),
            StoreLocation::Directory(root) => Self::open_local(root),
            StoreLocation::S3 { .. } => s3::open(location, s3, false).await,
        }
    }
}
