//! A decorator that delays, fails or loses operations of a store, for tests of services. Not part
//! of a product build: enable the feature `testing` in dev-dependencies only.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt, once};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, path::Path as Key,
};

use crate::{
    error::{S3ErrorResponse, StoreError},
    store::Store,
};

/// An operation on one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum StoreOperation<'a> {
    Put { key: &'a str },
    Get { key: &'a str },
    Delete { key: &'a str },
    List,
}

/// Why an operation fails, on purpose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InjectedFailure {
    /// The store does not serve it, for this reason.
    #[error("{0}")]
    Unavailable(String),
    /// A write conflicts with a concurrent one, as S3 says with the status 409.
    #[error("a concurrent write is under way")]
    Conflict,
    /// The connection breaks in the middle of a write.
    #[error("the connection broke in the middle of a write")]
    PartialWrite,
}

/// What happens to the operations of a store.
#[async_trait]
pub trait StoreDisturbance: Send + Sync + 'static {
    /// Runs before an operation. An error fails the operation without effect.
    async fn before(&self, operation: StoreOperation<'_>) -> Result<(), InjectedFailure>;

    /// Runs after an operation. An error fails the operation although it took effect.
    async fn after(&self, operation: StoreOperation<'_>) -> Result<(), InjectedFailure>;
}

impl Store {
    /// The same store, with operations that pass `disturbance`. Temporary failures are the only
    /// ones that it may cause.
    pub fn disturbed(&self, disturbance: impl StoreDisturbance) -> Self {
        let (inner, disturbance) = (Arc::clone(&self.objects), Arc::new(disturbance));
        let mut store = self.clone();
        store.objects = Arc::new(DisturbedObjects { inner, disturbance });
        store
    }

    /// Keys of all objects, of a store without a prefix.
    ///
    /// # Errors
    /// Returns the error of listing them.
    pub async fn object_keys(&self) -> Result<Vec<String>, StoreError> {
        let objects: Vec<_> = self.objects.list(None).collect().await;
        let keys = objects.into_iter().map(|object| object.map(|object| object.location.to_string()));
        keys.collect::<Result<_>>().map_err(|error| self.store_error("", &error))
    }

    /// The content of an object.
    ///
    /// # Errors
    /// Returns the error of reading it.
    pub async fn object_bytes(&self, key: &str) -> Result<Vec<u8>, StoreError> {
        let location = self.key(key)?;
        let read = async { self.objects.get(&location).await?.bytes().await };
        let bytes = read.await.map_err(|error| self.store_error(key, &error))?;
        Ok(bytes.to_vec())
    }
}

struct DisturbedObjects {
    inner: Arc<dyn ObjectStore>,
    disturbance: Arc<dyn StoreDisturbance>,
}

fn failure(failure: InjectedFailure) -> Error {
    let source = match failure {
        InjectedFailure::Conflict => S3ErrorResponse {
            status: 409,
            code: "ConditionalRequestConflict".to_owned(),
            message: failure.to_string(),
        }
        .into(),
        InjectedFailure::Unavailable(_) | InjectedFailure::PartialWrite => failure.into(),
    };
    Error::Generic { store: "disturbed", source }
}

impl fmt::Debug for DisturbedObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DisturbedObjects")
    }
}

impl fmt::Display for DisturbedObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DisturbedObjects")
    }
}

#[async_trait]
impl ObjectStore for DisturbedObjects {
    async fn put_opts(&self, key: &Key, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let operation = StoreOperation::Put { key: key.as_ref() };
        if let Err(reason) = self.disturbance.before(operation).await {
            if reason == InjectedFailure::PartialWrite {
                // The first half arrives, and the upload is never completed.
                let mut upload = self.inner.put_multipart(key).await?;
                let half: Bytes =
                    payload.iter().flatten().take(payload.content_length() / 2).copied().collect();
                upload.put_part(half.into()).await?;
            }
            return Err(failure(reason));
        }
        let result = self.inner.put_opts(key, payload, options).await;
        self.disturbance.after(operation).await.map_err(failure)?;
        result
    }

    async fn put_multipart_opts(
        &self,
        key: &Key,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        let operation = StoreOperation::Get { key: key.as_ref() };
        self.disturbance.before(operation).await.map_err(failure)?;
        let result = self.inner.get_opts(key, options).await;
        self.disturbance.after(operation).await.map_err(failure)?;
        result
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Key>>) -> BoxStream<'static, Result<Key>> {
        let (inner, disturbance) = (Arc::clone(&self.inner), Arc::clone(&self.disturbance));
        let delete = move |key: Result<Key>| {
            let (inner, disturbance) = (Arc::clone(&inner), Arc::clone(&disturbance));
            async move {
                let key = key?;
                let operation = StoreOperation::Delete { key: key.as_ref() };
                disturbance.before(operation).await.map_err(failure)?;
                let result = inner.delete(&key).await;
                disturbance.after(operation).await.map_err(failure)?;
                result.map(|()| key.clone())
            }
        };
        keys.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (inner, disturbance) = (Arc::clone(&self.inner), Arc::clone(&self.disturbance));
        let prefix = prefix.cloned();
        let list = async move {
            disturbance.before(StoreOperation::List).await.map_err(failure)?;
            Ok::<_, Error>(inner.list(prefix.as_ref()))
        };
        once(list).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
