//! Object Lock: objects that must not change are created with a retention, in a bucket that was created for it.
//!
//! A decorator of the plain store: what may only be created goes through the AWS SDK, still on condition that it is not
//! there yet; everything else, the index page and error records included, goes to the store below. Such a bucket keeps
//! versions, so an overwrite adds one and a deletion hides them.

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
    aws::AwsCredentialProvider, path::Path as Key,
};

use super::{ObjectLock, RetentionMode, S3Options, authorities_pem, virtual_hosted};
use crate::error::{Refusal, StoreError, causes};

const DAY: u64 = 24 * 60 * 60;

/// A bucket where what is created is retained.
#[derive(Debug)]
pub(crate) struct Locked {
    /// The same bucket without.
    plain: Arc<dyn ObjectStore>,
    client: Client,
    bucket: String,
    region: String,
    on_aws: bool,
    retention: ObjectLock,
}

impl Locked {
    /// Over the store of this bucket, with its credentials.
    pub(crate) fn new(
        plain: Arc<dyn ObjectStore>,
        bucket: &str,
        options: &S3Options,
        credentials: AwsCredentialProvider,
        retention: ObjectLock,
    ) -> std::result::Result<Self, StoreError> {
        let endpoint = options.checked_endpoint()?;
        let attempts = u32::try_from(options.max_retries).unwrap_or(u32::MAX).saturating_add(1);
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(options.connect_timeout)
            .operation_attempt_timeout(options.request_timeout)
            .operation_timeout(options.request_timeout + options.retry_timeout)
            .build();
        let retry =
            RetryConfig::standard().with_max_attempts(attempts).with_max_backoff(Duration::from_secs(2));
        let mut config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(options.region().to_owned()))
            .http_client(http_client(options)?)
            .credentials_provider(Shared(credentials))
            .force_path_style(!virtual_hosted(bucket, endpoint))
            // Artifacts carry their SHA-256. Other checksums travel in a framing that some stores do not know.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .timeout_config(timeouts)
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
        })
    }

    /// Creates the bucket with Object Lock if it is not `there`, and makes sure that it has it otherwise.
    pub(crate) async fn prepare_bucket(
        &self,
        there: bool,
        shown: &str,
    ) -> std::result::Result<(), StoreError> {
        if !there {
            let mut request =
                self.client.create_bucket().bucket(&self.bucket).object_lock_enabled_for_bucket(true);
            if self.on_aws && self.region != "us-east-1" {
                let region = BucketLocationConstraint::from(self.region.as_str());
                let place = CreateBucketConfiguration::builder().location_constraint(region).build();
                request = request.create_bucket_configuration(place);
            }
            match request.send().await {
                Ok(_) => return Ok(()),
                // Another process was quicker.
                Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => {}
                Err(error) => return Err(StoreError::from_object_store(shown, &translated(shown, &error))),
            }
        }
        let answer = self.client.get_object_lock_configuration().bucket(&self.bucket).send().await;
        let enabled = match answer {
            Ok(answer) => answer
                .object_lock_configuration
                .is_some_and(|lock| lock.object_lock_enabled == Some(ObjectLockEnabled::Enabled)),
            Err(error) if error.code() == Some("ObjectLockConfigurationNotFoundError") => false,
            Err(error) => return Err(StoreError::from_object_store(shown, &translated(shown, &error))),
        };
        if enabled {
            return Ok(());
        }
        Err(StoreError::Unusable {
            path: shown.to_owned(),
            reason: "the bucket was created without Object Lock, which is asked for; name a bucket that has it, or one \
                     that does not exist yet"
                .to_owned(),
        })
    }

    /// Deletes all versions of what lies below a prefix and is not retained.
    pub(crate) async fn purge(&self, prefix: &str, shown: &str) -> std::result::Result<(), StoreError> {
        let answer = self.client.list_object_versions().bucket(&self.bucket).prefix(prefix).send().await;
        let answer =
            answer.map_err(|error| StoreError::from_object_store(shown, &translated(shown, &error)))?;
        let versions = answer.versions().iter().map(|version| (version.key(), version.version_id()));
        let markers = answer.delete_markers().iter().map(|marker| (marker.key(), marker.version_id()));
        for (key, version) in versions.chain(markers) {
            let (Some(key), Some(version)) = (key, version) else { continue };
            let deletion = self.client.delete_object().bucket(&self.bucket).key(key).version_id(version);
            // A probe of another process may be gone already, and one that stays does no harm.
            let _ = deletion.send().await;
        }
        Ok(())
    }

    /// The end of a retention that begins now.
    fn until(&self) -> DateTime {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let end = now + u64::from(self.retention.days) * DAY;
        DateTime::from_secs(i64::try_from(end).unwrap_or(i64::MAX))
    }

    async fn create(&self, key: &Key, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let mode = match self.retention.mode {
            RetentionMode::Governance => ObjectLockMode::Governance,
            RetentionMode::Compliance => ObjectLockMode::Compliance,
        };
        let media_type = options.attributes.get(&Attribute::ContentType);
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key.as_ref())
            .if_none_match("*")
            .set_content_type(media_type.map(|media_type| media_type.to_string()))
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .object_lock_mode(mode)
            .object_lock_retain_until_date(self.until())
            .body(ByteStream::from(bytes::Bytes::from(payload)));
        match request.send().await {
            Ok(answer) => Ok(PutResult {
                e_tag: answer.e_tag,
                version: answer.version_id,
                extensions: Default::default(),
            }),
            Err(error) => Err(translated(key.as_ref(), &error)),
        }
    }
}

/// HTTP for the SDK: TLS by the library, and trust in the authorities, that the plain store has.
fn http_client(options: &S3Options) -> std::result::Result<SharedHttpClient, StoreError> {
    let mut trusted = TrustStore::default();
    if let Some(pem) = authorities_pem(options)? {
        trusted.add_pem_certificate(pem);
    }
    let context =
        TlsContext::builder().with_trust_store(trusted).build().expect("certificates are read later");
    Ok(Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(context).build_https())
}

/// An error of the SDK as `object_store` would have said it.
fn translated<E>(path: &str, error: &SdkError<E>) -> Error
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    let Some(response) = error.raw_response() else {
        let text = causes(error).last().map_or_else(|| error.to_string(), ToString::to_string);
        return Error::Generic { store: "S3", source: text.into() };
    };
    let refusal = Refusal {
        status: response.status().as_u16(),
        code: error.code().unwrap_or_default().to_owned(),
        message: error.message().unwrap_or_default().to_owned(),
    };
    let path = path.to_owned();
    match refusal.status {
        404 => Error::NotFound { path, source: refusal.into() },
        409 | 412 => Error::AlreadyExists { path, source: refusal.into() },
        403 => Error::PermissionDenied { path, source: refusal.into() },
        _ => Error::Generic { store: "S3", source: refusal.into() },
    }
}

/// The credentials of the plain store, whose provider knows how to get and renew them.
struct Shared(AwsCredentialProvider);

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared(hidden)")
    }
}

impl ProvideCredentials for Shared {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let key = self.0.get_credential().await.map_err(CredentialsError::provider_error)?;
            // That provider keeps them until shortly before they end; here they must not be kept longer.
            let end = SystemTime::now() + Duration::from_secs(60);
            Ok(Credentials::new(&key.key_id, &key.secret_key, key.token.clone(), Some(end), "forge-store"))
        })
    }
}

impl fmt::Display for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Locked({})", self.plain)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Locked {
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
