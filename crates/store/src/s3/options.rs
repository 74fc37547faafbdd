//! How a bucket is accessed: endpoint, credentials, timeouts and retention. Values are checked
//! here, because `object_store` panics on some that cannot be part of a request.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use object_store::aws::AmazonS3ConfigKey;
use reqwest::Url;

use crate::error::StoreError;

/// Rate in bytes per second at which an object is sent at least. A slower store counts as one that
/// does not respond.
const MIN_UPLOAD_RATE: u64 = 64 << 10;

/// How a bucket is accessed.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// `http://` or `https://` and a host; AWS if absent. `http://` allows unencrypted connections.
    pub endpoint: Option<String>,
    /// Region; `us-east-1` if absent. Many stores ignore it.
    pub region: Option<String>,
    /// Access key. If absent, ambient credentials are used (a Kubernetes service account, an
    /// instance profile).
    pub credentials: Option<S3Credentials>,
    /// The profile that holds the access key, for error texts; `None` if it is from elsewhere.
    pub credentials_profile: Option<String>,
    /// The variable that names a proxy for requests to the store, for error texts.
    pub proxy_variable: Option<&'static str>,
    /// PEM file with CA certificates to trust for the store, in addition to the system's.
    pub ca_bundle: Option<PathBuf>,
    /// Retention that protects artifacts and manifests from deletion and replacement.
    pub object_lock: Option<ObjectLock>,
    /// Whether every artifact is read back after it is written. Its SHA-256 is sent with the write
    /// in any case, and stores that check it (AWS, SeaweedFS) reject a mismatch; reading back does
    /// not rely on that.
    pub read_back: bool,
    /// Time limit for establishing a connection.
    pub connect_timeout: Duration,
    /// Time limit of one request without its body, and for each part of a response to arrive. A
    /// request with a body gets the time that sending it takes at 64 KiB per second in addition.
    pub request_timeout: Duration,
    /// Maximum number of retries of a request that failed with a connection or server error.
    pub max_retries: usize,
    /// Time since the first attempt after which a request is not retried.
    pub retry_timeout: Duration,
    /// Source of ambient credentials, for use without an access key.
    pub ambient_credentials: AmbientCredentials,
}

/// Source of the credentials that the platform provides to a process: paths and names from the
/// environment, found by [`S3Options::from_env`]. Without any, the instance metadata service is
/// queried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AmbientCredentials {
    pub(crate) settings: Vec<(AmazonS3ConfigKey, String)>,
    /// The variable that names the source.
    pub(crate) source: Option<&'static str>,
    /// Whether the instance metadata service may not be queried.
    pub(crate) skips_metadata_service: bool,
    /// The result of the search in the files of the AWS tools, for error texts.
    pub(crate) searched_files: String,
}

/// An access key. `Debug` hides all of it.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Credentials {
    /// Id of the key.
    pub access_key_id: String,
    /// Secret of the key.
    pub secret_access_key: String,
    /// Session token of a temporary key.
    pub session_token: Option<String>,
}

/// Retention: no version of an object can be deleted for a number of days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectLock {
    /// Whether authorised users may lift the retention early.
    pub mode: RetentionMode,
    /// Duration in days from the time of writing.
    pub days: u32,
}

/// Whether a retention can be lifted early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetentionMode {
    /// Users with the bypass permission can lift it.
    Governance,
    /// No user can lift it.
    Compliance,
}

impl Default for S3Options {
    /// AWS with ambient credentials. An unreachable store is reported within about 10 s.
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            credentials: None,
            credentials_profile: None,
            proxy_variable: None,
            ca_bundle: None,
            object_lock: None,
            read_back: true,
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(60),
            max_retries: 4,
            retry_timeout: Duration::from_secs(6),
            ambient_credentials: AmbientCredentials::default(),
        }
    }
}

impl S3Options {
    /// Time limit until the response to a request with a body of this length.
    pub(crate) fn time_limit(&self, body_bytes: usize) -> Duration {
        self.request_timeout + Duration::from_millis(body_bytes as u64 * 1000 / MIN_UPLOAD_RATE)
    }

    /// The CA bundle, unless the endpoint uses plain HTTP: many environments set one for all
    /// programs.
    pub(crate) fn ca_bundle_path(&self) -> Option<&Path> {
        let is_plain = self.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        self.ca_bundle.as_deref().filter(|_| !is_plain)
    }

    /// The region, or the default region.
    pub(crate) fn region(&self) -> &str {
        self.region.as_deref().unwrap_or("us-east-1")
    }

    /// The endpoint without a trailing slash.
    pub(crate) fn checked_endpoint(&self) -> Result<Option<&str>, StoreError> {
        let Some(endpoint) = &self.endpoint else { return Ok(None) };
        let reject = |reason: &str| {
            Err(StoreError::Unusable { path: "the S3 endpoint".to_owned(), reason: reason.to_owned() })
        };
        match Url::parse(endpoint) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") || !endpoint.contains("://") => {
                reject("it must be http:// or https:// and a host")
            }
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                reject("it contains credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead")
            }
            Ok(url) if url.query().is_some() || url.fragment().is_some() => {
                reject("it must be http:// or https://, a host and possibly a path")
            }
            Ok(_) => Ok(Some(endpoint.trim_end_matches('/'))),
            Err(error) => reject(&format!("it is not a valid URL: {error}")),
        }
    }

    /// Checks the values that become part of a request or an address.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] names the variable of a value that cannot.
    pub(crate) fn check_values(&self) -> Result<(), StoreError> {
        let unusable = |path: &str, reason: &str| {
            Err(StoreError::Unusable { path: path.to_owned(), reason: reason.to_owned() })
        };
        self.checked_endpoint()?;
        let is_region = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !self.region().bytes().all(is_region) {
            return unusable("AWS_REGION", "it is not the name of a region, such as eu-central-1");
        }
        if let Some(key) = &self.credentials {
            let parts = [
                ("AWS_ACCESS_KEY_ID", key.access_key_id.as_str()),
                ("AWS_SECRET_ACCESS_KEY", key.secret_access_key.as_str()),
                ("AWS_SESSION_TOKEN", key.session_token.as_deref().unwrap_or_default()),
            ];
            for (name, value) in parts {
                if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return unusable(name, "it holds white space or a character that is not printable ASCII");
                }
            }
        }
        for (key, value) in &self.ambient_credentials.settings {
            let (name, is_valid) = match key {
                AmazonS3ConfigKey::ContainerCredentialsRelativeUri => (
                    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                    value.starts_with('/') && value.bytes().all(|byte| byte.is_ascii_graphic()),
                ),
                AmazonS3ConfigKey::ContainerCredentialsFullUri => {
                    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", Url::parse(value).is_ok())
                }
                // `object_store` would refuse every request: the token is sent in the clear.
                AmazonS3ConfigKey::StsEndpoint if value.starts_with("http://") => {
                    return unusable("AWS_ENDPOINT_URL_STS", "it must be https://");
                }
                AmazonS3ConfigKey::StsEndpoint => ("AWS_ENDPOINT_URL_STS", Url::parse(value).is_ok()),
                _ => continue,
            };
            if !is_valid {
                return unusable(name, "it is not a valid URL");
            }
        }
        Ok(())
    }
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("S3Credentials(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_for_a_request_grows_with_its_body() {
        let options = S3Options::default();
        assert_eq!(options.time_limit(0), Duration::from_secs(60));
        assert!(options.time_limit(64 << 20) > Duration::from_secs(1000));
    }

    #[test]
    fn an_invalid_endpoint_is_reported() {
        let wrong = [
            "localhost:9000",
            "ftp://x",
            "http://",
            "http://key:hunter2@host",
            "http://127.0.0.1:99999",
            "http://my host:9",
            "http://h:9/?x=hunter2",
            "x",
        ];
        for endpoint in wrong {
            let options = S3Options { endpoint: Some(endpoint.to_owned()), ..S3Options::default() };
            let error = options.check_values().unwrap_err().to_string();
            assert!(
                error.starts_with("the S3 endpoint cannot be used") && !error.contains("hunter2"),
                "{error}"
            );
        }
        for endpoint in ["http://127.0.0.1:9000/", "https://h/path", "http://[::1]:1"] {
            let options = S3Options { endpoint: Some(endpoint.to_owned()), ..S3Options::default() };
            assert_eq!(options.checked_endpoint().unwrap(), Some(endpoint.trim_end_matches('/')));
        }
    }

    #[test]
    fn values_that_cannot_be_part_of_a_request_are_refused_by_name_and_hidden() {
        let key = |id: &str, secret: &str, token: &str| S3Options {
            credentials: Some(S3Credentials {
                access_key_id: id.to_owned(),
                secret_access_key: secret.to_owned(),
                session_token: Some(token.to_owned()),
            }),
            ..S3Options::default()
        };
        let ambient = |key, value: &str| S3Options {
            ambient_credentials: AmbientCredentials {
                settings: vec![(key, value.to_owned())],
                ..AmbientCredentials::default()
            },
            ..S3Options::default()
        };
        let region = |region: &str| S3Options { region: Some(region.to_owned()), ..S3Options::default() };
        let cases = [
            (key("a\nhush", "s", "t"), "AWS_ACCESS_KEY_ID"),
            (key("a", "s\u{7f}hush", "t"), "AWS_SECRET_ACCESS_KEY"),
            (key("a", "s", "hush é"), "AWS_SESSION_TOKEN"),
            (region("eu central 1"), "AWS_REGION"),
            (region("a/b"), "AWS_REGION"),
            (
                ambient(AmazonS3ConfigKey::ContainerCredentialsRelativeUri, "x"),
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            ),
            (
                ambient(AmazonS3ConfigKey::ContainerCredentialsFullUri, "x"),
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            ),
            (ambient(AmazonS3ConfigKey::StsEndpoint, "https://h:99999"), "AWS_ENDPOINT_URL_STS"),
            (ambient(AmazonS3ConfigKey::StsEndpoint, "http://sts.hush"), "AWS_ENDPOINT_URL_STS"),
        ];
        for (options, name) in cases {
            let error = options.check_values().unwrap_err().to_string();
            assert!(error.starts_with(name) && !error.contains("hush"), "{error}");
        }
        assert!(
            key("AKIA", "a/b+c=", "IQoJ").check_values().is_ok() && region("auto").check_values().is_ok()
        );
    }
}
