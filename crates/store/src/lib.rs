//! Artifacts in an object store: named by their SHA-256, written once, the manifest last.
//!
//! Layout: `artifacts/sha256/<hash>/<name>` holds every object; `jobs/<job_id>/manifest.json` names those of a completed
//! job; `jobs/<job_id>/error.json` stands in its place while the last attempt has failed; `jobs/<job_id>/index.html` is
//! for people who browse. The only crate that uses `object_store`. It knows what documents are called and where they
//! lie, and nothing of how their figures come about.
//!
//! Reading order: [`store`] → [`jobs`] → [`error`] → [`location`] → [`s3`] → [`shards_file`].

pub mod error;
#[cfg(test)]
mod faulty;
mod index;
pub mod jobs;
mod local;
pub mod location;
mod open;
mod probe;
pub mod s3;
pub mod shards_file;
pub mod store;

pub use self::{
    error::StoreError,
    jobs::Completion,
    location::StoreLocation,
    s3::{AmbientCredentials, ObjectLock, RetentionMode, S3Credentials, S3Options},
    store::{Artifact, Store},
};
