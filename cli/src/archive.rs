//! The archive of a job for its auditors: a tar file (POSIX ustar) with a store below `store/` that
//! holds the job and nothing else. The same job gives the same bytes.
//!
//! Only regular files with plain names are written and read. There is no compression, so an archive
//! never takes more space when it is read than it has itself.
//!
//! Reading order: [`header`] → [`writer`] → [`extracted`].

mod extracted;
mod header;
mod writer;

pub use self::{
    extracted::ExtractedArchive,
    writer::{ArchiveSummary, ArchiveWriter},
};

/// Name of the folder that holds the store.
pub const STORE_FOLDER: &str = "store";
