//! Opening a store by its location.

use crate::{
    error::StoreError,
    location::StoreLocation,
    s3::{self, S3Options},
    store::Store,
};

impl Store {
    /// Opens a store for writing, and makes sure that it can be: a directory is created if there is none, a bucket must be
    /// there (with [`S3Options::object_lock`] it is created), and objects can be created, once each. `s3` is used for a
    /// bucket alone.
    ///
    /// # Errors
    /// [`StoreError::Unusable`], [`StoreError::Missing`] or [`StoreError::Full`] when that is not so;
    /// [`StoreError::Unavailable`] when the store does not answer.
    pub async fn open(location: &StoreLocation, s3: &S3Options) -> Result<Self, StoreError> {
        match location {
            StoreLocation::Memory => Ok(Self::in_memory()),
            StoreLocation::Directory(root) => Self::create_local(root).await,
            StoreLocation::S3 { .. } => s3::open(location, s3, true).await,
        }
    }

    /// Opens a store for reading. Nothing is written; a bucket must be there and answer.
    ///
    /// # Errors
    /// [`StoreError::Missing`] or [`StoreError::Unusable`] when there is no store; [`StoreError::Unavailable`] when it does
    /// not answer.
    pub async fn open_for_reading(location: &StoreLocation, s3: &S3Options) -> Result<Self, StoreError> {
        match location {
            StoreLocation::Memory => Ok(Self::in_memory()),
            StoreLocation::Directory(root) => Self::open_local(root),
            StoreLocation::S3 { .. } => s3::open(location, s3, false).await,
        }
    }
}
