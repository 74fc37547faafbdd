//! Stores in a bucket of an S3-compatible service.
//!
//! Everything is read and written through `object_store`. With Object Lock, which it does not know, objects that must not
//! change are created by the AWS SDK instead (`lock.rs`); credentials are the same ones.

#[cfg(feature = "object-lock")]
mod lock;
mod options;

use std::{path::Path, sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, Checksum},
    list::{PaginatedListOptions, PaginatedListStore},
    prefix::PrefixStore,
};

pub use self::options::{AmbientCredentials, ObjectLock, RetentionMode, S3Credentials, S3Options};
use crate::{
    error::StoreError,
    location::StoreLocation,
    probe::probe,
    store::{Kind, Store},
};

/// What a probe's key begins with.
const PROBE: &str = ".forge-probe/";

/// Opens the store in a bucket.
pub(crate) async fn open(
    location: &StoreLocation,
    options: &S3Options,
    writable: bool,
) -> Result<Store, StoreError> {
    let StoreLocation::S3 { bucket, prefix } = location else {
        unreachable!("the caller has looked at the location")
    };
    let shown = location.to_string();
    let opened = async {
        let s3 = client(bucket, options, &shown)?;
        let there = exists(&s3, prefix, &shown).await?;
        let credentials = Arc::clone(s3.credentials());
        let plain: Arc<dyn ObjectStore> = Arc::new(s3);
        let bucket = Bucket { name: bucket, prefix, shown: &shown, options, there };
        match options.object_lock {
            Some(retention) if writable => bucket.locked(plain, credentials, retention).await,
            _ => bucket.plain(plain, writable).await,
        }
    };
    opened.await.map_err(|error| match error {
        StoreError::Unavailable { path, reason } => {
            let endpoint = options.endpoint.as_deref().unwrap_or("AWS");
            StoreError::Unavailable { path, reason: format!("{reason} (at {endpoint})") }
        }
        other => other,
    })
}

/// A bucket that is being opened.
struct Bucket<'a> {
    name: &'a str,
    prefix: &'a str,
    shown: &'a str,
    options: &'a S3Options,
    there: bool,
}

impl Bucket<'_> {
    async fn plain(&self, objects: Arc<dyn ObjectStore>, writable: bool) -> Result<Store, StoreError> {
        if !self.there {
            return Err(StoreError::Missing { path: format!("the bucket {}", self.name) });
        }
        let objects = self.below_prefix(objects);
        if writable {
            probe(&*objects, PROBE, self.shown).await?;
        }
        Ok(self.store(objects))
    }

    #[cfg(feature = "object-lock")]
    async fn locked(
        &self,
        objects: Arc<dyn ObjectStore>,
        credentials: object_store::aws::AwsCredentialProvider,
        retention: ObjectLock,
    ) -> Result<Store, StoreError> {
        let locked =
            lock::Locked::new(Arc::clone(&objects), self.name, self.options, credentials, retention)?;
        locked.prepare_bucket(self.there, self.shown).await?;
        let probed = probe(&*self.below_prefix(objects), PROBE, self.shown).await;
        // Where versions are kept, a deletion deletes nothing.
        let probes = [self.prefix, "/", PROBE].concat();
        locked.purge(probes.trim_start_matches('/'), self.shown).await?;
        probed?;
        Ok(self.store(self.below_prefix(Arc::new(locked))))
    }

    #[cfg(not(feature = "object-lock"))]
    #[expect(clippy::unused_async, reason = "as the variant that does it")]
    async fn locked(
        &self,
        _: Arc<dyn ObjectStore>,
        _: object_store::aws::AwsCredentialProvider,
        _: ObjectLock,
    ) -> Result<Store, StoreError> {
        Err(StoreError::Unusable {
            path: self.shown.to_owned(),
            reason: "Object Lock is asked for, and this build is without it (cargo feature object-lock)"
                .to_owned(),
        })
    }

    fn below_prefix(&self, objects: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        if self.prefix.is_empty() { objects } else { Arc::new(PrefixStore::new(objects, self.prefix)) }
    }

    fn store(&self, objects: Arc<dyn ObjectStore>) -> Store {
        Store::at(objects, self.shown, Kind::Bucket { read_back: self.options.read_back })
    }
}

/// Whether the bucket is there. An answer also means that the credentials are accepted.
async fn exists(s3: &AmazonS3, prefix: &str, shown: &str) -> Result<bool, StoreError> {
    let one = PaginatedListOptions { max_keys: Some(1), ..PaginatedListOptions::default() };
    let prefix = (!prefix.is_empty()).then(|| format!("{prefix}/"));
    match s3.list_paginated(prefix.as_deref(), one).await {
        Ok(_) => Ok(true),
        Err(error) => match StoreError::from_object_store(shown, &error) {
            StoreError::Missing { .. } => Ok(false),
            other => Err(other),
        },
    }
}

fn client(bucket: &str, options: &S3Options, shown: &str) -> Result<AmazonS3, StoreError> {
    // The first to say so decides for the process; everybody here says the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let endpoint = options.checked_endpoint()?;
    let mut client = ClientOptions::new()
        .with_connect_timeout(options.connect_timeout)
        .with_timeout(options.request_timeout)
        .with_allow_http(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")));
    for certificate in authorities(options)? {
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
        .with_checksum_algorithm(Checksum::SHA256)
        // Not every store has it, and objects are deleted one at a time.
        .with_disable_bulk_delete(true)
        .with_virtual_hosted_style_request(virtual_hosted(bucket, endpoint));
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
        for (key, value) in &options.lent.0 {
            builder = builder.with_config(*key, value);
        }
    }
    builder.build().map_err(|error| StoreError::from_object_store(shown, &error))
}

/// The PEM file of the authorities that may vouch for the store beside the system's.
fn authorities_pem(options: &S3Options) -> Result<Option<Vec<u8>>, StoreError> {
    let read =
        |path: &Path| std::fs::read(path).map_err(|error| unusable_bundle(path, &format!(": {error}")));
    options.authority().map(read).transpose()
}

/// The certificates of those authorities.
fn authorities(options: &S3Options) -> Result<Vec<Certificate>, StoreError> {
    let (Some(path), Some(pem)) = (options.authority(), authorities_pem(options)?) else {
        return Ok(Vec::new());
    };
    let certificates = Certificate::from_pem_bundle(&pem);
    let certificates = certificates.map_err(|error| unusable_bundle(path, &format!(": {error}")))?;
    if certificates.is_empty() {
        return Err(unusable_bundle(path, " holds no certificate"));
    }
    Ok(certificates)
}

fn unusable_bundle(path: &Path, reason: &str) -> StoreError {
    let reason = format!("the file in AWS_CA_BUNDLE{reason}");
    StoreError::Unusable { path: path.display().to_string(), reason }
}

/// Whether the bucket's name is part of the host name: on AWS, unless its dots would break the certificate.
fn virtual_hosted(bucket: &str, endpoint: Option<&str>) -> bool {
    endpoint.is_none() && !bucket.contains('.')
}
