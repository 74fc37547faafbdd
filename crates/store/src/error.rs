//! What can go wrong with the store, by what the caller can do about it. Every message names the place and is a
//! sentence for people.

use std::{
    error::Error,
    io::{self, ErrorKind},
};

/// Why the store did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The place cannot hold a store: choose another, or change its permissions.
    #[error("{path} cannot be used to store artifacts: {reason}")]
    Unusable {
        /// The directory or object.
        path: String,
        /// What is in the way.
        reason: String,
    },
    /// There is no room: free some and try again.
    #[error("{path} could not be written: {reason}")]
    Full {
        /// The object that did not fit.
        path: String,
        /// Which limit was hit.
        reason: String,
    },
    /// There is no such object: it was deleted, or never written here.
    #[error("{path} does not exist")]
    Missing {
        /// The object.
        path: String,
    },
    /// An object's bytes are not those it is named after. Restore it from a copy, or remove it and run the job again.
    #[error("{path} is corrupted: {reason}")]
    Corrupt {
        /// The object.
        path: String,
        /// How it differs from what it should be.
        reason: String,
    },
    /// A document is not what its name promises: it is damaged, or of another version of Forge.
    #[error("{path} cannot be read: {reason}")]
    Malformed {
        /// The object.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store did not answer as it should. Trying again may help.
    #[error("{path}: {reason}")]
    Unavailable {
        /// The object.
        path: String,
        /// What the store said.
        reason: String,
    },
}

impl StoreError {
    /// Sorts an error of the operating system by what can be done about it.
    pub(crate) fn from_io(path: &str, error: &io::Error) -> Self {
        let path = path.to_owned();
        let unusable = |path, reason: &str| Self::Unusable { path, reason: reason.to_owned() };
        match error.kind() {
            ErrorKind::PermissionDenied => unusable(path, "permission denied"),
            ErrorKind::ReadOnlyFilesystem => unusable(path, "the file system is read-only"),
            ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
                unusable(path, "a file is where a directory should be")
            }
            ErrorKind::StorageFull => Self::Full { path, reason: "the disk is full".to_owned() },
            ErrorKind::QuotaExceeded => Self::Full { path, reason: "the disk quota is used up".to_owned() },
            ErrorKind::FileTooLarge => {
                Self::Full { path, reason: "the file is larger than the system allows".to_owned() }
            }
            ErrorKind::NotFound => Self::Missing { path },
            _ => Self::Unavailable { path, reason: error.to_string() },
        }
    }

    /// Sorts an error of the object store: by the operating system's error where there is one inside.
    pub(crate) fn from_object_store(path: &str, error: &object_store::Error) -> Self {
        if let object_store::Error::NotFound { .. } = error {
            return Self::Missing { path: path.to_owned() };
        }
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(current) = cause {
            if let Some(io) = current.downcast_ref::<io::Error>() {
                return Self::from_io(path, io);
            }
            cause = current.source();
        }
        Self::Unavailable { path: path.to_owned(), reason: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_decides_what_can_be_done() {
        let wrapped = |kind: ErrorKind| object_store::Error::Generic {
            store: "test",
            source: Box::new(io::Error::new(kind, "x")),
        };
        let sorted = |kind| StoreError::from_object_store("jobs/x", &wrapped(kind));
        assert!(matches!(sorted(ErrorKind::StorageFull), StoreError::Full { .. }));
        assert!(matches!(sorted(ErrorKind::FileTooLarge), StoreError::Full { .. }));
        assert!(matches!(sorted(ErrorKind::ReadOnlyFilesystem), StoreError::Unusable { .. }));
        assert!(matches!(sorted(ErrorKind::TimedOut), StoreError::Unavailable { .. }));
        assert_eq!(
            sorted(ErrorKind::StorageFull).to_string(),
            "jobs/x could not be written: the disk is full"
        );
    }
}
