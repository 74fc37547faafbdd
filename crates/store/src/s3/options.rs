//! How a bucket is reached: endpoint, credentials, patience, retention. Read from the usual variables once, by the caller's
//! wish; nothing else here looks at the environment.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use object_store::aws::AmazonS3ConfigKey;

use crate::error::StoreError;

/// The variables by which a platform lends credentials to a process.
const LENT: [(&str, AmazonS3ConfigKey); 7] = [
    ("AWS_WEB_IDENTITY_TOKEN_FILE", AmazonS3ConfigKey::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
    ("AWS_ENDPOINT_URL_STS", AmazonS3ConfigKey::StsEndpoint),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", AmazonS3ConfigKey::ContainerCredentialsRelativeUri),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", AmazonS3ConfigKey::ContainerCredentialsFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", AmazonS3ConfigKey::ContainerAuthorizationTokenFile),
];

/// How a bucket is reached.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// `http://` or `https://` and a host; AWS itself if not given. Plain HTTP is allowed if it says so.
    pub endpoint: Option<String>,
    /// The region, which many stores ignore; `us-east-1` if not given.
    pub region: Option<String>,
    /// An access key. Without one, what the platform lends is used (a Kubernetes service account, an instance profile).
    pub credentials: Option<S3Credentials>,
    /// A PEM file with certificates of authorities that may vouch for the store, beside those of the system.
    pub authority: Option<PathBuf>,
    /// Keep artifacts and manifests from being deleted or replaced.
    pub object_lock: Option<ObjectLock>,
    /// Read every artifact again after writing it. Their SHA-256 is sent along in any case, and stores that check it (AWS,
    /// SeaweedFS) refuse what differs; this asks nobody's word.
    pub read_back: bool,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long one request may take, body included.
    pub request_timeout: Duration,
    /// How often a request that failed for want of a connection or with a server error is made again.
    pub max_retries: usize,
    /// No request is made again when this much time has passed since the first attempt.
    pub retry_timeout: Duration,
    /// Where the platform lends credentials, if they are not given.
    pub lent: AmbientCredentials,
}

/// Where a platform lends credentials to a process: the paths and names that [`S3Options::from_env`] found. Without any,
/// the instance's metadata service is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AmbientCredentials(pub(crate) Vec<(AmazonS3ConfigKey, String)>);

/// An access key. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Credentials {
    /// The key's id.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
    /// The token of a temporary key.
    pub session_token: Option<String>,
}

/// Retention of what must not change: for so many days, no version of an object can be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectLock {
    /// Who may lift it.
    pub mode: RetentionMode,
    /// How long it lasts, from the time of writing.
    pub days: u32,
}

/// Who may lift a retention before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetentionMode {
    /// Those with the permission to bypass it.
    Governance,
    /// Nobody.
    Compliance,
}

impl Default for S3Options {
    /// AWS, with credentials that the platform lends. A store that is not there is reported within some 10 s.
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            credentials: None,
            authority: None,
            object_lock: None,
            read_back: true,
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(60),
            max_retries: 4,
            retry_timeout: Duration::from_secs(6),
            lent: AmbientCredentials::default(),
        }
    }
}

impl S3Options {
    /// The authority's file, where there is something to vouch for: many environments name one for all programs.
    pub(crate) fn authority(&self) -> Option<&Path> {
        let is_plain = self.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        self.authority.as_deref().filter(|_| !is_plain)
    }

    /// From `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, `AWS_REGION` or `AWS_DEFAULT_REGION`, `AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_CA_BUNDLE`, and the variables by which platforms lend credentials.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when they contradict each other.
    pub fn from_env() -> Result<Self, StoreError> {
        Self::from_variables(|name| env::var(name).ok())
    }

    /// [`S3Options::from_env`] with variables from elsewhere. An empty one counts as absent.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when they contradict each other.
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
            authority: variable("AWS_CA_BUNDLE").map(PathBuf::from),
            lent: AmbientCredentials(
                LENT.into_iter().filter_map(|(name, key)| Some((key, variable(name)?))).collect(),
            ),
            ..Self::default()
        })
    }

    /// The region, named or not.
    pub(crate) fn region(&self) -> &str {
        self.region.as_deref().unwrap_or("us-east-1")
    }

    /// The endpoint, without a slash at its end.
    pub(crate) fn checked_endpoint(&self) -> Result<Option<&str>, StoreError> {
        let Some(endpoint) = &self.endpoint else { return Ok(None) };
        let refused = |reason: &str| {
            Err(StoreError::Unusable { path: "the S3 endpoint".to_owned(), reason: reason.to_owned() })
        };
        match endpoint.split_once("://") {
            Some(("http" | "https", host)) if host.contains('@') => {
                refused("it holds credentials, which belong into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
            }
            Some(("http" | "https", host)) if !host.trim_matches('/').is_empty() => {
                Ok(Some(endpoint.trim_end_matches('/')))
            }
            _ => refused("it is not http:// or https:// and a host"),
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
    fn the_more_special_variable_wins_and_secrets_are_hidden() {
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
        assert_eq!(options.lent.0, [(AmazonS3ConfigKey::RoleArn, "arn:x".to_owned())]);
        let shown = format!("{options:?}");
        assert!(["an-id", "hunter2", "a-token"].iter().all(|secret| !shown.contains(secret)), "{shown}");
    }

    #[test]
    fn half_a_key_and_a_wrong_endpoint_are_named() {
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
