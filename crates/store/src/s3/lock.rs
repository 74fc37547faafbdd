//! Object Lock: immutable objects are created with a retention, in a bucket with Object Lock
//! enabled.
//!
//! A decorator of the plain store. Create-only writes go through the AWS SDK, with the same
//! condition that the object does not exist. All other operations, including writes of the index
//! page and of error documents, go to the plain store. A bucket with Object Lock keeps versions: an
//! overwrite adds a version, and a deletion only hides the existing ones.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_credential_types::provider::{error::CredentialsError, future};
use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Config, Credentials, ProvideCredentials, Region, RequestChecksumCalculation,
        ResponseChecksumValidation, SharedHttpClient, retry::RetryConfig, timeout::TimeoutConfig,
    },
    error::{ProvideErrorMetadata, SdkError},
    primitives::{ByteStream, DateTime},
    types::{
        BucketLocationConstraint, ChecksumAlgorithm, CreateBucketConfiguration, ObjectLockEnabled,
        ObjectLockMode,
    },
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use futures_util::stream::BoxStream;
use object_store::{
    Attribute, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    aws::AwsCredentialProvider,
    client::{HttpError, HttpErrorKind},
    path::Path as Key,
};

use super::{
    client::{is_virtual_hosted, read_ca_bundle},
    options::{ObjectLock, RetentionMode, S3Options},
};
use crate::error::{S3ErrorResponse, StoreError, causes};

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// A store in a bucket with Object Lock. It retains objects that are written in create-only mode.
#[derive(Debug)]
pub(crate) struct ObjectLockStore {
    /// The same bucket without retention.
    plain: Arc<dyn ObjectStore>,
    client: Client,
    bucket: String,
    region: String,
    on_aws: bool,
    retention: ObjectLock,
    options: S3Options,
}

impl ObjectLockStore {
    /// Wraps the plain store of this bucket and uses its credentials.
    pub(crate) fn new(
        plain: Arc<dyn ObjectStore>,
        bucket: &str,
        options: &S3Options,
        credentials: AwsCredentialProvider,
        retention: ObjectLock,
    ) -> std::result::Result<Self, StoreError> {
        let endpoint = options.checked_endpoint()?;
        let attempts = u32::try_from(options.max_retries).unwrap_or(u32::MAX).saturating_add(1);
        let retry =
            RetryConfig::standard().with_max_attempts(attempts).with_max_backoff(Duration::from_secs(2));
        let mut config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(options.region().to_owned()))
            .http_client(build_http_client(options)?)
            .credentials_provider(CredentialsAdapter(credentials))
            .force_path_style(!is_virtual_hosted(bucket, endpoint))
            // Artifacts carry their SHA-256. Other checksums use a request framing that some stores
            // do not support.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .timeout_config(timeouts(options, 0))
            .retry_config(retry);
        if let Some(endpoint) = endpoint {
            config = config.endpoint_url(endpoint);
        }
        Ok(Self {
            plain,
            client: Client::from_conf(config.build()),
            bucket: bucket.to_owned(),
            region: options.region().to_owned(),
            on_aws: endpoint.is_none(),
            retention,
            options: options.clone(),
        })
    }

    /// Creates the bucket with Object Lock unless it `exists`; otherwise checks that Object Lock is
    /// enabled.
    pub(crate) async fn prepare_bucket(
        &self,
        exists: bool,
        display_name: &str,
    ) -> std::result::Result<(), StoreError> {
        if !exists {
            let mut request =
                self.client.create_bucket().bucket(&self.bucket).object_lock_enabled_for_bucket(true);
            if self.on_aws && self.region != "us-east-1" {
                let region = BucketLocationConstraint::from(self.region.as_str());
                let place = CreateBucketConfiguration::builder().location_constraint(region).build();
                request = request.create_bucket_configuration(place);
            }
            match request.send().await {
                Ok(_) => return Ok(()),
                // Another process created the bucket first.
                Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => {}
                Err(error) => {
                    return Err(StoreError::from_object_store(
                        display_name,
                        &to_object_store_error(display_name, &error),
                    ));
                }
            }
        }
        let answer = self.client.get_object_lock_configuration().bucket(&self.bucket).send().await;
        let enabled = match answer {
            Ok(answer) => answer
                .object_lock_configuration
                .is_some_and(|lock| lock.object_lock_enabled == Some(ObjectLockEnabled::Enabled)),
            Err(error) if error.code() == Some("ObjectLockConfigurationNotFoundError") => false,
            Err(error) => {
                return Err(StoreError::from_object_store(
                    display_name,
                    &to_object_store_error(display_name, &error),
                ));
            }
        };
        if enabled {
            return Ok(());
        }
        Err(StoreError::Unusable {
            path: display_name.to_owned(),
            reason: "the bucket was created without Object Lock, which was requested; use a bucket with Object Lock, \
                     or one that does not exist yet"
                .to_owned(),
        })
    }

    /// Deletes all versions below a prefix that are not under retention.
    pub(crate) async fn delete_versions(
        &self,
        prefix: &str,
        display_name: &str,
    ) -> std::result::Result<(), StoreError> {
        let answer = self.client.list_object_versions().bucket(&self.bucket).prefix(prefix).send().await;
        let answer = answer.map_err(|error| {
            StoreError::from_object_store(display_name, &to_object_store_error(display_name, &error))
        })?;
        let versions = answer.versions().iter().map(|version| (version.key(), version.version_id()));
        let markers = answer.delete_markers().iter().map(|marker| (marker.key(), marker.version_id()));
        for (key, version) in versions.chain(markers) {
            let (Some(key), Some(version)) = (key, version) else { continue };
            let deletion = self.client.delete_object().bucket(&self.bucket).key(key).version_id(version);
            // Another process may already have deleted its own probe, and a remaining probe is
            // harmless.
            let _ = deletion.send().await;
        }
        Ok(())
    }

    /// The end of a retention that starts now.
    #[expect(clippy::disallowed_methods, reason = "S3 compares it with its own clock")]
    fn retention_end(&self) -> DateTime {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let end = now + u64::from(self.retention.days) * DAY_SECONDS;
        DateTime::from_secs(i64::try_from(end).unwrap_or(i64::MAX))
    }

    async fn create(&self, key: &Key, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let mode = match self.retention.mode {
            RetentionMode::Governance => ObjectLockMode::Governance,
            RetentionMode::Compliance => ObjectLockMode::Compliance,
        };
        let media_type = options.attributes.get(&Attribute::ContentType);
        let size = payload.content_length();
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key.as_ref())
            .if_none_match("*")
            .set_content_type(media_type.map(|media_type| media_type.to_string()))
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .object_lock_mode(mode)
            .object_lock_retain_until_date(self.retention_end())
            .body(ByteStream::from(bytes::Bytes::from(payload)));
        let limits = Config::builder().timeout_config(timeouts(&self.options, size));
        match request.customize().config_override(limits).send().await {
            Ok(answer) => Ok(PutResult {
                e_tag: answer.e_tag,
                version: answer.version_id,
                extensions: Default::default(),
            }),
            Err(error) => Err(to_object_store_error(key.as_ref(), &error)),
        }
    }
}

/// The time limits of a request with a body of this length.
fn timeouts(options: &S3Options, body_bytes: usize) -> TimeoutConfig {
    let limit = options.time_limit(body_bytes);
    TimeoutConfig::builder()
        .connect_timeout(options.connect_timeout)
        .operation_attempt_timeout(limit)
        .operation_timeout(limit + options.retry_timeout)
        .build()
}

/// HTTP client of the SDK, with the same TLS library and the same trusted CAs as the plain store.
fn build_http_client(options: &S3Options) -> std::result::Result<SharedHttpClient, StoreError> {
    let mut trusted = TrustStore::default();
    if let Some(pem) = read_ca_bundle(options)? {
        trusted.add_pem_certificate(pem);
    }
    let context =
        TlsContext::builder().with_trust_store(trusted).build().expect("certificates are parsed later");
    Ok(Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(context).build_https())
}

/// Converts an error of the SDK into the corresponding error of `object_store`.
fn to_object_store_error<E>(path: &str, error: &SdkError<E>) -> Error
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    let Some(response) = error.raw_response() else {
        let kind = match error {
            SdkError::TimeoutError(_) => HttpErrorKind::Timeout,
            SdkError::DispatchFailure(failure) if failure.is_timeout() => HttpErrorKind::Timeout,
            SdkError::DispatchFailure(failure) if failure.is_io() => HttpErrorKind::Connect,
            _ => HttpErrorKind::Unknown,
        };
        let text = causes(error).last().map_or_else(|| error.to_string(), ToString::to_string);
        return Error::Generic { store: "S3", source: HttpError::new_boxed(kind, text.into()).into() };
    };
    let response_error = S3ErrorResponse {
        status: response.status().as_u16(),
        code: error.code().unwrap_or_default().to_owned(),
        message: error.message().unwrap_or_default().to_owned(),
    };
    let path = path.to_owned();
    match response_error.status {
        404 => Error::NotFound { path, source: response_error.into() },
        412 => Error::AlreadyExists { path, source: response_error.into() },
        403 => Error::PermissionDenied { path, source: response_error.into() },
        _ => Error::Generic { store: "S3", source: response_error.into() },
    }
}

/// Provides the credentials of the plain store to the SDK. The plain store obtains and renews them.
struct CredentialsAdapter(AwsCredentialProvider);

impl fmt::Debug for CredentialsAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialsAdapter(hidden)")
    }
}

impl ProvideCredentials for CredentialsAdapter {
    #[expect(clippy::disallowed_methods, reason = "the AWS SDK compares it with the system's clock")]
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let key = self.0.get_credential().await.map_err(CredentialsError::provider_error)?;
            // The plain store caches credentials until shortly before they expire; the SDK must not
            // cache them beyond that.
            let end = SystemTime::now() + Duration::from_secs(60);
            Ok(Credentials::new(&key.key_id, &key.secret_key, key.token.clone(), Some(end), "forge-store"))
        })
    }
}

impl fmt::Display for ObjectLockStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectLockStore({})", self.plain)
    }
}

#[async_trait::async_trait]
impl ObjectStore for ObjectLockStore {
    async fn put_opts(&self, key: &Key, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match options.mode {
            PutMode::Create => self.create(key, payload, options).await,
            _ => self.plain.put_opts(key, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        key: &Key,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.plain.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        self.plain.get_opts(key, options).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Key>>) -> BoxStream<'static, Result<Key>> {
        self.plain.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.plain.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Key>, after: &Key) -> BoxStream<'static, Result<ObjectMeta>> {
        self.plain.list_with_offset(prefix, after)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.plain.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.plain.copy_opts(from, to, options).await
    }
}
