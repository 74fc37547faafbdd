//! How a bucket is accessed: endpoint, credentials, timeouts and retention. Only
//! [`S3Options::from_env`] reads the environment.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use object_store::aws::AmazonS3ConfigKey;

use crate::error::StoreError;

/// Environment variables that describe ambient credentials.
const AMBIENT_CREDENTIAL_VARIABLES: [(&str, AmazonS3ConfigKey); 7] = [
    ("AWS_WEB_IDENTITY_TOKEN_FILE", AmazonS3ConfigKey::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
    ("AWS_ENDPOINT_URL_STS", AmazonS3ConfigKey::StsEndpoint),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", AmazonS3ConfigKey::ContainerCredentialsRelativeUri),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", AmazonS3ConfigKey::ContainerCredentialsFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", AmazonS3ConfigKey::ContainerAuthorizationTokenFile),
];

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
    /// Time limit of one request, including its body.
    pub request_timeout: Duration,
    /// Maximum number of retries of a request that failed with a connection or server error.
    pub max_retries: usize,
    /// Time since the first attempt after which a request is not retried.
    pub retry_timeout: Duration,
    /// Source of ambient credentials, for use without an access key.
    pub ambient_credentials: AmbientCredentials,
}

/// Source of the credentials that the platform provides to a process: paths and names from the
/// environment, found by [`S3Options::from_env`]. If empty, the instance metadata service is
/// queried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AmbientCredentials(pub(crate) Vec<(AmazonS3ConfigKey, String)>);

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
    /// The CA bundle, unless the endpoint uses plain HTTP: many environments set one for all
    /// programs.
    pub(crate) fn ca_bundle_path(&self) -> Option<&Path> {
        let is_plain = self.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        self.ca_bundle.as_deref().filter(|_| !is_plain)
    }

    /// Reads `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, `AWS_REGION` or `AWS_DEFAULT_REGION`,
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_CA_BUNDLE`, and the
    /// variables that describe ambient credentials.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when only one half of an access key is set.
    pub fn from_env() -> Result<Self, StoreError> {
        Self::from_variables(|name| env::var(name).ok())
    }

    /// Like [`S3Options::from_env`], but looks variables up with `variable`. An empty value counts
    /// as absent.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when only one half of an access key is set.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, StoreError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let incomplete = |path: &str, reason: &str| {
            Err(StoreError::Unusable { path: path.to_owned(), reason: reason.to_owned() })
        };
        let credentials = match (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
            (Some(access_key_id), Some(secret_access_key)) => {
                let session_token = variable("AWS_SESSION_TOKEN");
                Some(S3Credentials { access_key_id, secret_access_key, session_token })
            }
            (None, None) => None,
            (Some(_), None) => {
                return incomplete("the key in AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY is not set");
            }
            (None, Some(_)) => {
                return incomplete("the key in AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID is not set");
            }
        };
        Ok(Self {
            endpoint: variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL")),
            region: variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")),
            credentials,
            ca_bundle: variable("AWS_CA_BUNDLE").map(PathBuf::from),
            ambient_credentials: AmbientCredentials(
                AMBIENT_CREDENTIAL_VARIABLES
                    .into_iter()
                    .filter_map(|(name, key)| Some((key, variable(name)?)))
                    .collect(),
            ),
            ..Self::default()
        })
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
        match endpoint.split_once("://") {
            Some(("http" | "https", host)) if host.contains('@') => {
                reject("it contains credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead")
            }
            Some(("http" | "https", host)) if !host.trim_matches('/').is_empty() => {
                Ok(Some(endpoint.trim_end_matches('/')))
            }
            _ => reject("it must be http:// or https:// and a host"),
        }
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

    fn options(variables: &[(&str, &str)]) -> Result<S3Options, StoreError> {
        S3Options::from_variables(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_more_specific_variable_wins_and_secrets_are_hidden() {
        let options = options(&[
            ("AWS_ENDPOINT_URL", "http://general"),
            ("AWS_ENDPOINT_URL_S3", "http://special/"),
            ("AWS_REGION", ""),
            ("AWS_DEFAULT_REGION", "eu-north-1"),
            ("AWS_ACCESS_KEY_ID", "an-id"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
            ("AWS_SESSION_TOKEN", "a-token"),
            ("AWS_ROLE_ARN", "arn:x"),
        ])
        .unwrap();
        assert_eq!(options.checked_endpoint().unwrap(), Some("http://special"));
        assert_eq!(options.region(), "eu-north-1");
        assert_eq!(options.credentials.as_ref().unwrap().secret_access_key, "hunter2");
        assert_eq!(options.ambient_credentials.0, [(AmazonS3ConfigKey::RoleArn, "arn:x".to_owned())]);
        let display_name = format!("{options:?}");
        assert!(
            ["an-id", "hunter2", "a-token"].iter().all(|secret| !display_name.contains(secret)),
            "{display_name}"
        );
    }

    #[test]
    fn an_incomplete_key_and_an_invalid_endpoint_are_reported() {
        let error = options(&[("AWS_ACCESS_KEY_ID", "an-id")]).unwrap_err().to_string();
        assert!(error.contains("AWS_SECRET_ACCESS_KEY is not set") && !error.contains("an-id"), "{error}");
        for wrong in ["localhost:9000", "ftp://x", "http://", "http://key:hunter2@host"] {
            let options = options(&[("AWS_ENDPOINT_URL", wrong)]).unwrap();
            let error = options.checked_endpoint().unwrap_err().to_string();
            assert!(
                error.starts_with("the S3 endpoint cannot be used") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }
}
