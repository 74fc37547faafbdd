//! What can go wrong with the store, by what the caller can do about it. Every message names the place and is a
//! sentence for people.

use std::{
    error::Error,
    fmt,
    io::{self, ErrorKind},
    iter,
};

use object_store::client::{HttpError, HttpErrorKind};

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

    /// Sorts an error of the object store: by the store's answer, or by the operating system's error, where there is one
    /// inside. `path` is how people call the object.
    pub(crate) fn from_object_store(path: &str, error: &object_store::Error) -> Self {
        if let Some(refusal) = Refusal::of(error) {
            return Self::from_refusal(path, &refusal);
        }
        let path = path.to_owned();
        if let object_store::Error::NotFound { .. } = error {
            return Self::Missing { path };
        }
        for cause in causes(error) {
            if let Some(io) = cause.downcast_ref::<io::Error>() {
                return Self::from_io(&path, io);
            }
            if cause.downcast_ref::<HttpError>().is_some_and(|error| error.kind() == HttpErrorKind::Timeout) {
                return Self::Unavailable { path, reason: "the store did not answer in time".to_owned() };
            }
        }
        let text = error.to_string();
        if text.contains("Received redirect") {
            return Self::Unusable { path, reason: OTHER_REGION.to_owned() };
        }
        Self::Unavailable { path, reason: text }
    }

    /// Sorts what an S3 store answered.
    pub(crate) fn from_refusal(path: &str, refusal: &Refusal) -> Self {
        let unusable = |reason: String| Self::Unusable { path: path.to_owned(), reason };
        match (refusal.status, refusal.code.as_str()) {
            (_, "NoSuchBucket") => {
                let bucket = path.trim_start_matches("s3://").split('/').next().unwrap_or_default();
                Self::Missing { path: format!("the bucket {bucket}") }
            }
            (301 | 307, _) | (_, "AuthorizationHeaderMalformed") => unusable(OTHER_REGION.to_owned()),
            (
                _,
                code @ ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken"),
            ) => unusable(format!("access denied: the store does not accept the credentials ({code})")),
            (401 | 403, "") => unusable("access denied".to_owned()),
            (401 | 403, code) => unusable(format!("access denied ({code})")),
            (_, "InvalidBucketName") => unusable("the store does not accept the bucket's name".to_owned()),
            (404, _) => Self::Missing { path: path.to_owned() },
            (507, _) | (_, "EntityTooLarge" | "QuotaExceeded") => {
                Self::Full { path: path.to_owned(), reason: refusal.to_string() }
            }
            _ => Self::Unavailable { path: path.to_owned(), reason: format!("the store answered {refusal}") },
        }
    }
}

const OTHER_REGION: &str = "the bucket is in another region than the one that AWS_REGION names";

/// What an S3 store answered instead of doing it. Holds no more of the answer than these, because the rest repeats parts
/// of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The S3 error code, as `AccessDenied`; empty when the answer had no body.
    pub(crate) code: String,
    /// The sentence that came with it.
    pub(crate) message: String,
}

impl Refusal {
    /// The refusal inside of an error of the object store, whose own type for it is private: only its text can be read.
    pub(crate) fn of(error: &object_store::Error) -> Option<Self> {
        if let Some(refusal) = causes(error).find_map(|cause| cause.downcast_ref::<Self>()) {
            return Some(refusal.clone());
        }
        let text = error.to_string();
        let (_, answer) = text.split_once("Server returned non-2xx status code: ")?;
        let between = |open: &str, close: &str| {
            let (_, rest) = answer.split_once(open)?;
            rest.split_once(close).map(|(inside, _)| inside.to_owned())
        };
        Some(Self {
            status: answer.get(..3)?.parse().ok()?,
            code: between("<Code>", "</Code>").unwrap_or_default(),
            message: between("<Message>", "</Message>").unwrap_or_default(),
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, self.code, self.message)
    }
}

impl Error for Refusal {}

/// An error and what caused it.
pub(crate) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |error| (**error).source())
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

    #[test]
    fn an_answer_of_the_store_is_read_from_its_text() {
        let text = "Error performing PUT http://x/y in 1ms - Server returned non-2xx status code: 403 Forbidden: \
                    <Error><Code>AccessDenied</Code><Message>No.</Message><RequestId>1</RequestId></Error>";
        let error = object_store::Error::PermissionDenied { path: "y".to_owned(), source: text.into() };
        let refusal = Refusal::of(&error).unwrap();
        assert_eq!(refusal.to_string(), "403 AccessDenied: No.");
        assert_eq!(
            StoreError::from_object_store("s3://x/y", &error).to_string(),
            "s3://x/y cannot be used to store artifacts: access denied (AccessDenied)"
        );
    }

    #[test]
    fn the_answer_decides_what_can_be_done() {
        let sorted = |status, code: &str| {
            let refusal = Refusal { status, code: code.to_owned(), message: "m".to_owned() };
            StoreError::from_refusal("s3://bucket/x", &refusal)
        };
        assert_eq!(sorted(404, "NoSuchBucket").to_string(), "the bucket bucket does not exist");
        assert_eq!(sorted(404, "NoSuchKey").to_string(), "s3://bucket/x does not exist");
        assert!(matches!(sorted(403, ""), StoreError::Unusable { .. }));
        assert!(matches!(sorted(400, "AuthorizationHeaderMalformed"), StoreError::Unusable { .. }));
        assert!(matches!(sorted(507, "XStorageFull"), StoreError::Full { .. }));
        assert!(matches!(sorted(503, "SlowDown"), StoreError::Unavailable { .. }));
    }
}
