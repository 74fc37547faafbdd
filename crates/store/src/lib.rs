//! Stores job artifacts in an object store: content-addressed, created once, and with the manifest
//! written last.
//!
//! | key | content |
//! |---|---|
//! | `artifacts/sha256/<hash>/<name>` | an artifact, named by the SHA-256 of its content |
//! | `jobs/<job_id>/manifest.json` | names the artifacts of a completed job |
//! | `jobs/<job_id>/error.json` | the error of the last failed attempt; removed when the job completes |
//! | `jobs/<job_id>/index.html` | a page that lists the artifacts |
//! | `log/<number>.json` | an entry of the log: which manifest was stored, and the entry before |
//!
//! No other crate uses `object_store`. This crate knows the names and locations of documents but
//! does not compute their content.
//!
//! Reading order: [`store`] → [`reader`] → [`jobs`] → [`log`] → [`error`] → [`location`] → [`s3`] →
//! [`shards_file`].
//!
//! # Example
//!
//! ```
//! use forge_store::{Artifact, Store, StoreError};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let store = Store::in_memory();
//! let artifact = Artifact {
//!     name: "note.txt".to_owned(),
//!     media_type: "text/plain".to_owned(),
//!     bytes: b"hello".to_vec(),
//! };
//! let reference = store.put_artifact(artifact).await?;
//! assert_eq!(store.get_artifact(&reference).await?, b"hello");
//! # Ok::<(), StoreError>(())
//! # }).unwrap();
//! ```

pub mod error;
#[cfg(test)]
mod fault_injection;
mod index;
pub mod jobs;
mod local;
mod local_files;
pub mod location;
pub mod log;
mod open;
mod probe;
pub mod reader;
pub mod s3;
pub mod shards_file;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;

pub use self::{
    error::StoreError,
    index::{IndexContent, IndexTable},
    jobs::{Completion, StoredManifest},
    location::StoreLocation,
    log::LogListing,
    reader::ArtifactReader,
    s3::{AmbientCredentials, ObjectLock, RetentionMode, S3Credentials, S3Options},
    store::{Artifact, Store},
};
