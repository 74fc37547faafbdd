//! Store errors, grouped by the caller's remedy. Each message is a sentence for users that names
//! the object or the store. This module retries nothing.

use std::{
    error::Error,
    fmt,
    io::{self, ErrorKind},
    iter,
};

use forge_contract::error::ErrorClass;
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
    /// What a caller that has no better knowledge should do.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Full { .. } | Self::Missing { .. } | Self::Unavailable { .. } => ErrorClass::Transient,
            Self::Unusable { .. } => ErrorClass::Permanent,
            Self::Corrupt { .. } | Self::Malformed { .. } => ErrorClass::Fault,
        }
    }

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

    /// Classifies an error of `object_store` by the S3 response, the operating system's error or
    /// the transport error that caused it; else by its variant. `path` is the object's name in
    /// messages.
    pub(crate) fn from_object_store(path: &str, error: &object_store::Error) -> Self {
        use object_store::Error as Object;

        for cause in causes(error) {
            if let Some(response) = cause.downcast_ref::<S3ErrorResponse>() {
                return Self::from_s3_response(path, response);
            }
            if let Some(io) = cause.downcast_ref::<io::Error>() {
                return Self::from_io(path, io);
            }
            if cause.downcast_ref::<HttpError>().is_some_and(|error| error.kind() == HttpErrorKind::Timeout) {
                let reason = "the store did not answer in time".to_owned();
                return Self::Unavailable { path: path.to_owned(), reason };
            }
        }
        let path = path.to_owned();
        match error {
            Object::NotFound { .. } => Self::Missing { path },
            Object::PermissionDenied { .. } | Object::Unauthenticated { .. } => {
                Self::Unusable { path, reason: "access denied".to_owned() }
            }
            Object::InvalidPath { .. }
            | Object::NotSupported { .. }
            | Object::NotImplemented { .. }
            | Object::UnknownConfigurationKey { .. } => Self::Unusable { path, reason: error.to_string() },
            _ => Self::Unavailable { path, reason: error.to_string() },
        }
    }

    /// Classifies an error response of an S3 store.
    pub(crate) fn from_s3_response(path: &str, response: &S3ErrorResponse) -> Self {
        let unusable = |reason: String| Self::Unusable { path: path.to_owned(), reason };
        match (response.status, response.code.as_str()) {
            (_, "NoSuchBucket") => {
                let bucket = path.trim_start_matches("s3://").split('/').next().unwrap_or_default();
                Self::Missing { path: format!("the bucket {bucket}") }
            }
            (301 | 307, _) | (_, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
                unusable(WRONG_REGION.to_owned())
            }
            // Clocks are set right while services run.
            (_, "RequestTimeTooSkewed") => Self::Unavailable {
                path: path.to_owned(),
                reason: "the clock of this machine differs too much from that of the store".to_owned(),
            },
            (
                _,
                code @ ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken"),
            ) => unusable(format!("access denied: the store does not accept the credentials ({code})")),
            (401 | 403, "") => unusable("access denied".to_owned()),
            (401 | 403, code) => unusable(format!("access denied ({code})")),
            (_, "InvalidBucketName") => unusable("the store does not accept the bucket name".to_owned()),
            (501, _) => unusable("the store does not support an operation that is needed".to_owned()),
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
    /// The response that caused an error of `object_store`, if any did.
    pub(crate) fn of(error: &object_store::Error) -> Option<&Self> {
        causes(error).find_map(|cause| cause.downcast_ref())
    }
}

impl fmt::Display for S3ErrorResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code.as_str() {
            "" => write!(f, "{}", self.status),
            code => write!(f, "{} {code}: {}", self.status, self.message),
        }
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
    fn errors_without_a_known_cause_are_classified_by_variant() {
        let classify = |error: &object_store::Error| StoreError::from_object_store("jobs/x", error);
        let (path, source) = (|| "x".to_owned(), || "a test".into());
        let missing = object_store::Error::NotFound { path: path(), source: source() };
        assert!(matches!(classify(&missing), StoreError::Missing { .. }));
        for error in [
            object_store::Error::PermissionDenied { path: path(), source: source() },
            object_store::Error::Unauthenticated { path: path(), source: source() },
            object_store::Error::NotSupported { source: source() },
        ] {
            assert!(matches!(classify(&error), StoreError::Unusable { .. }), "{error:?}");
        }
        // A text decides nothing, whatever it says.
        let text =
            "Server returned non-2xx status code: 403 Forbidden: <Error><Code>AccessDenied</Code></Error>";
        let other = object_store::Error::Generic { store: "S3", source: text.into() };
        assert!(matches!(classify(&other), StoreError::Unavailable { .. }));
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
        let region = sorted(400, "IllegalLocationConstraintException");
        assert!(region.to_string().ends_with(WRONG_REGION), "{region}");
        let skewed = sorted(403, "RequestTimeTooSkewed");
        assert!(
            matches!(&skewed, StoreError::Unavailable { reason, .. } if reason.contains("clock")),
            "{skewed}"
        );
        assert!(matches!(sorted(507, "XStorageFull"), StoreError::Full { .. }));
        assert!(matches!(sorted(503, "SlowDown"), StoreError::Unavailable { .. }));
    }
}
