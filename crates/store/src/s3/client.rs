//! The S3 client: TLS, timeouts, retries and credentials from [`S3Options`]. Opens no store.

use std::{path::Path, time::Duration};

use object_store::{
    BackoffConfig, Certificate, ClientOptions, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, Checksum},
    client::ReqwestConnector,
    list::{PaginatedListOptions, PaginatedListStore},
};

use super::{
    error_responses::ErrorResponseConnector,
    options::{AmbientCredentials, S3Options},
};
use crate::error::StoreError;

/// Time limit for obtaining ambient credentials when a store is opened.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether the bucket exists. Any successful response also means that the credentials are accepted.
pub(super) async fn bucket_exists(
    s3: &AmazonS3,
    prefix: &str,
    display_name: &str,
) -> Result<bool, StoreError> {
    let one = PaginatedListOptions { max_keys: Some(1), ..PaginatedListOptions::default() };
    let prefix = (!prefix.is_empty()).then(|| format!("{prefix}/"));
    match s3.list_paginated(prefix.as_deref(), one).await {
        Ok(_) => Ok(true),
        Err(error) => match StoreError::from_object_store(display_name, &error) {
            StoreError::Missing { .. } => Ok(false),
            other => Err(other),
        },
    }
}

/// Obtains the ambient credentials, so that their absence is not taken for a failure of the store.
///
/// # Errors
/// [`StoreError::Unusable`] if nothing provides credentials; [`StoreError::Unavailable`] if their
/// source does not respond.
pub(super) async fn check_ambient_credentials(
    s3: &AmazonS3,
    source: &AmbientCredentials,
    display_name: &str,
) -> Result<(), StoreError> {
    check_authorization_token(source)?;
    let AmbientCredentials { source, skips_metadata_service, searched_files, .. } = source;
    let path = display_name.to_owned();
    let missing = |metadata: &str| StoreError::Unusable {
        path: path.clone(),
        reason: format!("no credentials: AWS_ACCESS_KEY_ID is not set, {searched_files}, and {metadata}"),
    };
    if source.is_none() && *skips_metadata_service {
        return Err(missing("AWS_EC2_METADATA_DISABLED forbids asking the instance metadata service"));
    }
    let obtained = tokio::time::timeout(CREDENTIALS_TIMEOUT, s3.credentials().get_credential()).await;
    match (obtained, source) {
        (Ok(Ok(_)), _) => Ok(()),
        (_, None) => Err(missing("the instance metadata service (169.254.169.254) provides none")),
        (Ok(Err(error)), Some(name)) => {
            Err(StoreError::Unavailable { path, reason: format!("no credentials through {name}: {error}") })
        }
        (Err(_), Some(name)) => {
            Err(StoreError::Unavailable { path, reason: format!("no credentials through {name}: no answer") })
        }
    }
}

/// Checks the token with which a container obtains credentials: `object_store` panics on one that
/// cannot be part of a header.
fn check_authorization_token(source: &AmbientCredentials) -> Result<(), StoreError> {
    let unusable = |reason: String| StoreError::Unusable {
        path: "the file in AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE".to_owned(),
        reason,
    };
    let is_file = |key: &AmazonS3ConfigKey| matches!(key, AmazonS3ConfigKey::ContainerAuthorizationTokenFile);
    let Some((_, path)) = source.settings.iter().find(|(key, _)| is_file(key)) else { return Ok(()) };
    let token = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    if token.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Ok(());
    }
    Err(unusable("it holds a line break or a character that is not printable ASCII".to_owned()))
}

/// Builds the client of a bucket.
pub(super) fn build_client(
    bucket: &str,
    options: &S3Options,
    display_name: &str,
) -> Result<AmazonS3, StoreError> {
    // The first call sets the provider for the whole process; all callers in this workspace install
    // ring.
    let _ = rustls::crypto::ring::default_provider().install_default();
    options.check_values()?;
    let endpoint = options.checked_endpoint()?;
    let mut client = ClientOptions::new()
        .with_connect_timeout(options.connect_timeout)
        // The connector limits the time of requests, by their size.
        .with_timeout_disabled()
        .with_allow_http(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")));
    for certificate in ca_certificates(options)? {
        client = client.with_root_certificate(certificate);
    }
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(2),
        base: 2.0,
    };
    let retry =
        RetryConfig { backoff, max_retries: options.max_retries, retry_timeout: options.retry_timeout };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(options.region())
        .with_client_options(client)
        .with_retry(retry)
        .with_http_connector(ErrorResponseConnector {
            inner: ReqwestConnector::default(),
            options: options.clone(),
        })
        .with_checksum_algorithm(Checksum::SHA256)
        // Not every store supports it, and objects are deleted one at a time.
        .with_disable_bulk_delete(true)
        .with_virtual_hosted_style_request(is_virtual_hosted(bucket, endpoint));
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(credentials) = &options.credentials {
        builder = builder
            .with_access_key_id(&credentials.access_key_id)
            .with_secret_access_key(&credentials.secret_access_key);
        if let Some(token) = &credentials.session_token {
            builder = builder.with_token(token);
        }
    } else {
        for (key, value) in &options.ambient_credentials.settings {
            builder = builder.with_config(*key, value);
        }
    }
    builder.build().map_err(|error| StoreError::from_object_store(display_name, &error))
}

/// Content of the PEM file with CA certificates to trust in addition to the system's.
pub(super) fn read_ca_bundle(options: &S3Options) -> Result<Option<Vec<u8>>, StoreError> {
    let read =
        |path: &Path| std::fs::read(path).map_err(|error| unusable_ca_bundle(path, &format!(": {error}")));
    options.ca_bundle_path().map(read).transpose()
}

/// Parses the certificates of the PEM file.
fn ca_certificates(options: &S3Options) -> Result<Vec<Certificate>, StoreError> {
    let (Some(path), Some(pem)) = (options.ca_bundle_path(), read_ca_bundle(options)?) else {
        return Ok(Vec::new());
    };
    let certificates = Certificate::from_pem_bundle(&pem);
    let certificates = certificates.map_err(|error| unusable_ca_bundle(path, &format!(": {error}")))?;
    if certificates.is_empty() {
        return Err(unusable_ca_bundle(path, " holds no certificate"));
    }
    Ok(certificates)
}

fn unusable_ca_bundle(path: &Path, reason: &str) -> StoreError {
    let reason = format!("the file in AWS_CA_BUNDLE{reason}");
    StoreError::Unusable { path: path.display().to_string(), reason }
}

/// Whether the bucket name is part of the host name: on AWS, unless dots in it would not match the
/// certificate.
pub(super) fn is_virtual_hosted(bucket: &str, endpoint: Option<&str>) -> bool {
    endpoint.is_none() && !bucket.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_cannot_be_part_of_a_header_is_refused_and_hidden() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let check = || {
            let key = AmazonS3ConfigKey::ContainerAuthorizationTokenFile;
            let settings = vec![(key, path.display().to_string())];
            check_authorization_token(&AmbientCredentials { settings, ..AmbientCredentials::default() })
        };
        let refused = || check().unwrap_err().to_string();
        assert!(refused().starts_with("the file in AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"), "{}", refused());
        std::fs::write(&path, "Bearer hush").unwrap();
        check().unwrap();
        for wrong in ["hush\n", "hu\rsh", "hush\u{e9}"] {
            std::fs::write(&path, wrong).unwrap();
            assert!(refused().contains("line break") && !refused().contains("hush"), "{}", refused());
        }
        check_authorization_token(&AmbientCredentials::default()).unwrap();
    }
}
