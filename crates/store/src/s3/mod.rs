//! Stores in a bucket of an S3-compatible service.
//!
//! Objects are read and written through `object_store`. It does not support Object Lock, so with
//! Object Lock immutable objects are created by the AWS SDK instead (`lock.rs`), with the same
//! credentials.

mod client;
mod environment;
mod error_responses;
#[cfg(feature = "object-lock")]
mod lock;
mod options;
mod profile;

use std::sync::Arc;

use object_store::{ObjectStore, prefix::PrefixStore};

use self::client::{bucket_exists, build_client, check_ambient_credentials};
pub use self::options::{AmbientCredentials, ObjectLock, RetentionMode, S3Credentials, S3Options};
use crate::{
    error::StoreError,
    location::StoreLocation,
    probe::check_conditional_create,
    store::{Store, StoreKind},
};

/// Prefix of a probe's key.
const PROBE_PREFIX: &str = ".forge-probe/";

/// Opens the store in a bucket; a `writable` one is checked by creating a probe object.
pub(crate) async fn open(
    location: &StoreLocation,
    options: &S3Options,
    writable: bool,
) -> Result<Store, StoreError> {
    let StoreLocation::S3 { bucket, prefix } = location else {
        unreachable!("callers pass S3 locations only")
    };
    let display_name = location.to_string();
    let opened = async {
        let s3 = build_client(bucket, options, &display_name)?;
        if options.credentials.is_none() {
            check_ambient_credentials(&s3, &options.ambient_credentials, &display_name).await?;
        }
        let exists = bucket_exists(&s3, prefix, &display_name).await?;
        let credentials = Arc::clone(s3.credentials());
        let plain: Arc<dyn ObjectStore> = Arc::new(s3);
        let bucket = BucketOpener { name: bucket, prefix, display_name: &display_name, options, exists };
        match options.object_lock {
            Some(retention) if writable => bucket.open_locked(plain, credentials, retention).await,
            _ => bucket.open_plain(plain, writable).await,
        }
    };
    opened.await.map_err(|error| match error {
        StoreError::Unavailable { path, reason } => {
            let endpoint = options.endpoint.as_deref().unwrap_or("AWS");
            let key = options.credentials_profile.as_ref();
            let key = key.map_or_else(String::new, |name| format!(", with credentials of profile {name}"));
            let proxy = options.proxy_variable.map_or_else(String::new, |variable| {
                format!(", through the proxy that {variable} names unless NO_PROXY excepts this host")
            });
            StoreError::Unavailable { path, reason: format!("{reason} (at {endpoint}{proxy}{key})") }
        }
        other => other,
    })
}

/// Opens a store in an existing or missing bucket.
struct BucketOpener<'a> {
    name: &'a str,
    prefix: &'a str,
    display_name: &'a str,
    options: &'a S3Options,
    exists: bool,
}

impl BucketOpener<'_> {
    async fn open_plain(&self, objects: Arc<dyn ObjectStore>, writable: bool) -> Result<Store, StoreError> {
        if !self.exists {
            return Err(StoreError::Missing { path: format!("the bucket {}", self.name) });
        }
        let objects = self.with_prefix(objects);
        if writable {
            check_conditional_create(&*objects, PROBE_PREFIX, self.display_name).await?;
        }
        Ok(self.build_store(objects))
    }

    #[cfg(feature = "object-lock")]
    async fn open_locked(
        &self,
        objects: Arc<dyn ObjectStore>,
        credentials: object_store::aws::AwsCredentialProvider,
        retention: ObjectLock,
    ) -> Result<Store, StoreError> {
        let locked = lock::ObjectLockStore::new(
            Arc::clone(&objects),
            self.name,
            self.options,
            credentials,
            retention,
        )?;
        locked.prepare_bucket(self.exists, self.display_name).await?;
        let probed =
            check_conditional_create(&*self.with_prefix(objects), PROBE_PREFIX, self.display_name).await;
        // The bucket keeps versions, so deleting the probe only hides it.
        let probes = [self.prefix, "/", PROBE_PREFIX].concat();
        locked.delete_versions(probes.trim_start_matches('/'), self.display_name).await?;
        probed?;
        Ok(self.build_store(self.with_prefix(Arc::new(locked))))
    }

    #[cfg(not(feature = "object-lock"))]
    #[expect(clippy::unused_async, reason = "same signature as with the feature")]
    async fn open_locked(
        &self,
        _: Arc<dyn ObjectStore>,
        _: object_store::aws::AwsCredentialProvider,
        _: ObjectLock,
    ) -> Result<Store, StoreError> {
        Err(StoreError::Unusable {
            path: self.display_name.to_owned(),
            reason:
                "Object Lock was requested, but this build does not include it (cargo feature object-lock)"
                    .to_owned(),
        })
    }

    fn with_prefix(&self, objects: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        if self.prefix.is_empty() { objects } else { Arc::new(PrefixStore::new(objects, self.prefix)) }
    }

    fn build_store(&self, objects: Arc<dyn ObjectStore>) -> Store {
        Store::new(objects, self.display_name, StoreKind::Bucket { read_back: self.options.read_back })
    }
}
