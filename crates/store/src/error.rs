//! Store errors, grouped by the caller's remedy. Each message is a sentence for users that names
//! the object or the store. This module retries nothing.

use std::{
    error::Error,
    fmt,
    io::{self, ErrorKind},
    iter,
};

use object_store::client::{HttpError, HttpErrorKind};

/// Error of a store operation.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The location cannot hold a store. Choose another, or change its permissions.
    #[error("{path} cannot be used to store artifacts: {reason}")]
    Unusable {
        /// The directory or object.
        path: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// The store has no space left. Free some space and retry.
    #[error("{path} could not be written: {reason}")]
    Full {
        /// The object that could not be written.
        path: String,
        /// The limit that was reached.
        reason: String,
    },
    /// The object does not exist: it was deleted, or never written.
    #[error("{path} does not exist")]
    Missing {
        /// The object.
        path: String,
    },
    /// The content of an object does not match its hash. Restore the object from a copy, or delete
    /// it and run the job again.
    #[error("{path} is corrupted: {reason}")]
    Corrupt {
        /// The object.
        path: String,
        /// How the content differs.
        reason: String,
    },
    /// A document cannot be read: it is damaged, or was written by another version of Forge.
    #[error("{path} cannot be read: {reason}")]
    Malformed {
        /// The object.
        path: String,
        /// The problem with the document.
        reason: String,
    },
    /// The store did not respond as expected. A retry may succeed.
    #[error("{path}: {reason}")]
    Unavailable {
        /// The object.
        path: String,
        /// The store's error message.
        reason: String,
    },
}

impl StoreError {
    /// Classifies an error of the operating system.
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
            ErrorKind::QuotaExceeded => Self::Full { path, reason: "the disk quota is exhausted".to_owned() },
            ErrorKind::FileTooLarge => {
                Self::Full { path, reason: "the file is larger than the system allows".to_owned() }
            }
            ErrorKind::NotFound => Self::Missing { path },
            _ => Self::Unavailable { path, reason: error.to_string() },
        }
    }

    /// Classifies an error of `object_store` by the S3 response or the operating system's error
    /// that it contains, if any. `path` is the object's name in messages.
    pub(crate) fn from_object_store(path: &str, error: &object_store::Error) -> Self {
        if let Some(response) = S3ErrorResponse::of(error) {
            return Self::from_s3_response(path, &response);
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
            return Self::Unusable { path, reason: WRONG_REGION.to_owned() };
        }
        Self::Unavailable { path, reason: text }
    }

    /// Classifies an error response of an S3 store.
    pub(crate) fn from_s3_response(path: &str, response: &S3ErrorResponse) -> Self {
        let unusable = |reason: String| Self::Unusable { path: path.to_owned(), reason };
        match (response.status, response.code.as_str()) {
            (_, "NoSuchBucket") => {
                let bucket = path.trim_start_matches("s3://").split('/').next().unwrap_or_default();
                Self::Missing { path: format!("the bucket {bucket}") }
            }
            (301 | 307, _) | (_, "AuthorizationHeaderMalformed") => unusable(WRONG_REGION.to_owned()),
            (
                _,
                code @ ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken"),
            ) => unusable(format!("access denied: the store does not accept the credentials ({code})")),
            (401 | 403, "") => unusable("access denied".to_owned()),
            (401 | 403, code) => unusable(format!("access denied ({code})")),
            (_, "InvalidBucketName") => unusable("the store does not accept the bucket name".to_owned()),
            (404, _) => Self::Missing { path: path.to_owned() },
            (507, _) | (_, "EntityTooLarge" | "QuotaExceeded") => {
                Self::Full { path: path.to_owned(), reason: response.to_string() }
            }
            _ => {
                Self::Unavailable { path: path.to_owned(), reason: format!("the store answered {response}") }
            }
        }
    }
}

const WRONG_REGION: &str = "the bucket is not in the region that AWS_REGION names";

/// The error response of an S3 store. Only these parts are kept, because the rest of the response
/// repeats parts of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct S3ErrorResponse {
    /// HTTP status.
    pub(crate) status: u16,
    /// S3 error code, such as `AccessDenied`; empty if the response had no body.
    pub(crate) code: String,
    /// Message that accompanies the code.
    pub(crate) message: String,
}

impl S3ErrorResponse {
    /// Extracts the response from an error of `object_store`. That crate keeps the response in a
    /// private type, so it is parsed from the error's text.
    pub(crate) fn of(error: &object_store::Error) -> Option<Self> {
        if let Some(response) = causes(error).find_map(|cause| cause.downcast_ref::<Self>()) {
            return Some(response.clone());
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

impl fmt::Display for S3ErrorResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, self.code, self.message)
    }
}

impl Error for S3ErrorResponse {}

/// An error and its chain of causes.
pub(crate) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |error| (**error).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operating_system_errors_are_classified_by_kind() {
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
    fn the_response_is_parsed_from_the_error_text() {
        let text = "Error performing PUT http://x/y in 1ms - Server returned non-2xx status code: 403 Forbidden: \
                    <Error><Code>AccessDenied</Code><Message>No.</Message><RequestId>1</RequestId></Error>";
        let error = object_store::Error::PermissionDenied { path: "y".to_owned(), source: text.into() };
        let response = S3ErrorResponse::of(&error).unwrap();
        assert_eq!(response.to_string(), "403 AccessDenied: No.");
        assert_eq!(
            StoreError::from_object_store("s3://x/y", &error).to_string(),
            "s3://x/y cannot be used to store artifacts: access denied (AccessDenied)"
        );
    }

    #[test]
    fn responses_are_classified_by_status_and_code() {
        let sorted = |status, code: &str| {
            let response = S3ErrorResponse { status, code: code.to_owned(), message: "m".to_owned() };
            StoreError::from_s3_response("s3://bucket/x", &response)
        };
        assert_eq!(sorted(404, "NoSuchBucket").to_string(), "the bucket bucket does not exist");
        assert_eq!(sorted(404, "NoSuchKey").to_string(), "s3://bucket/x does not exist");
        assert!(matches!(sorted(403, ""), StoreError::Unusable { .. }));
        assert!(matches!(sorted(400, "AuthorizationHeaderMalformed"), StoreError::Unusable { .. }));
        assert!(matches!(sorted(507, "XStorageFull"), StoreError::Full { .. }));
        assert!(matches!(sorted(503, "SlowDown"), StoreError::Unavailable { .. }));
    }
}
