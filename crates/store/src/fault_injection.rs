//! An in-memory object store with injected write faults, for the unit tests of this crate.

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures_util::stream::BoxStream;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path as Key,
};

/// Decides the fate of a write from the number of earlier writes: an error to return, or the
/// options with which to perform it.
type PutHook = dyn Fn(usize, PutOptions) -> Result<PutOptions> + Send + Sync;

/// An in-memory object store that passes every write through a hook.
pub(crate) struct FaultInjectingStore {
    inner: InMemory,
    put_hook: Box<PutHook>,
    put_count: AtomicUsize,
}

impl FaultInjectingStore {
    /// Creates an empty store.
    pub(crate) fn new(
        put_hook: impl Fn(usize, PutOptions) -> Result<PutOptions> + Send + Sync + 'static,
    ) -> Self {
        Self { inner: InMemory::new(), put_hook: Box::new(put_hook), put_count: AtomicUsize::new(0) }
    }
}

impl fmt::Debug for FaultInjectingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultInjectingStore")
    }
}

impl fmt::Display for FaultInjectingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultInjectingStore")
    }
}

#[async_trait::async_trait]
impl ObjectStore for FaultInjectingStore {
    async fn put_opts(&self, key: &Key, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let options = (self.put_hook)(self.put_count.fetch_add(1, Ordering::Relaxed), options)?;
        self.inner.put_opts(key, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        key: &Key,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(key, options).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Key>>) -> BoxStream<'static, Result<Key>> {
        self.inner.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
