//! Reads artifacts and manifests from the store, which is opened by the first request that needs
//! it: until a job has completed, its directory may not exist.

use std::sync::Arc;

use forge_contract::{
    artifact::{ArtifactReference, ManifestDocument},
    digest::Digest,
    ids::JobId,
};
use forge_store::{ArtifactReader, S3Options, Store, StoreError, StoreLocation};
use futures_util::{StreamExt, stream};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{
    runtime::Handle,
    sync::{OnceCell, OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

use crate::document_thread::DocumentThread;

/// Jobs on one page of the store.
const JOBS_PER_PAGE: usize = 50;
/// Manifests that are read concurrently. Each takes a few megabytes at most.
const CONCURRENT_READS: usize = 4;
/// Largest document that is read into memory to be shown: the executions of some 14,000 shards.
/// Larger ones can be downloaded.
const MAX_SHOWN_BYTES: u64 = 8 << 20;
/// The same for documents of any shape, which need more memory, and the most values in them. A
/// value takes up to 700 bytes.
const MAX_ANY_JSON_BYTES: u64 = 2 << 20;
const MAX_ANY_JSON_VALUES: usize = 1 << 16;
/// Pages that are made of documents at a time. One takes up to 50 MB of memory, if the documents
/// were made up to take much.
const MAX_DOCUMENT_PAGES: usize = 1;

/// The store of the artifacts.
pub struct StoreAccess {
    location: StoreLocation,
    s3: S3Options,
    opened: OnceCell<Store>,
    document_pages: Arc<Semaphore>,
    thread: DocumentThread,
}

impl std::fmt::Debug for StoreAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The options hold credentials.
        write!(f, "StoreAccess({})", self.location)
    }
}

/// What a list shows of a completed job.
#[derive(Debug)]
pub struct ListedJob {
    /// The result hash.
    pub result: Digest,
    /// Number of shards.
    pub shards: u64,
    /// Size of all artifacts in bytes.
    pub bytes: u64,
}

impl From<ManifestDocument> for ListedJob {
    fn from(manifest: ManifestDocument) -> Self {
        let bytes = manifest.artifacts.iter().fold(0, |sum: u64, artifact| sum.saturating_add(artifact.size));
        Self { result: manifest.result, shards: manifest.shards, bytes }
    }
}

/// One page of the completed jobs of a store.
#[derive(Debug)]
pub struct StoredJobPage {
    /// The jobs. One whose manifest cannot be read has the reason in its place.
    pub jobs: Vec<(JobId, Result<ListedJob, String>)>,
    /// Number of completed jobs in the store.
    pub total: usize,
    /// Whether more jobs follow.
    pub has_next: bool,
}

impl StoreAccess {
    /// A store that is opened for reading once it is needed.
    pub fn new(location: StoreLocation, s3: S3Options) -> Self {
        Self::with_cell(location, s3, OnceCell::new())
    }

    /// A store that is open.
    pub fn opened(location: StoreLocation, store: Store) -> Self {
        Self::with_cell(location, S3Options::default(), OnceCell::new_with(Some(store)))
    }

    fn with_cell(location: StoreLocation, s3: S3Options, opened: OnceCell<Store>) -> Self {
        let document_pages = Arc::new(Semaphore::new(MAX_DOCUMENT_PAGES));
        Self { location, s3, opened, document_pages, thread: DocumentThread::start() }
    }

    /// Waits until a page may be made of documents. Keep the permit until the page is made.
    pub async fn permit_document_page(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.document_pages).acquire_owned().await.ok()
    }

    /// The location of the store, for people.
    pub fn location(&self) -> String {
        self.location.to_string()
    }

    async fn store(&self) -> Result<&Store, StoreError> {
        self.opened.get_or_try_init(|| Store::open_for_reading(&self.location, &self.s3)).await
    }

    /// The manifest of a completed job; `None` if the store has none.
    ///
    /// # Errors
    /// See [`Store::get_manifest`]. A store that does not exist has no manifest.
    pub async fn manifest(&self, job: &JobId) -> Result<Option<ManifestDocument>, StoreError> {
        match self.store().await {
            Err(StoreError::Missing { .. }) => Ok(None),
            store => read_manifest(store?, job).await,
        }
    }

    /// Completed jobs in the order of their ids, after one of them or from the first.
    ///
    /// # Errors
    /// The store cannot be opened or listed.
    pub async fn list_jobs(&self, after: Option<&JobId>) -> Result<StoredJobPage, StoreError> {
        let _permit = self.permit_document_page().await;
        let store = self.store().await?;
        let ids = store.list_completed_jobs().await?;
        let total = ids.len();
        let mut following = ids.into_iter().filter(|id| after.is_none_or(|after| id > after));
        let ids: Vec<_> = following.by_ref().take(JOBS_PER_PAGE).collect();
        let read = async |id: JobId| {
            let job = match read_manifest(store, &id).await {
                Ok(Some(manifest)) => Ok(manifest.into()),
                Ok(None) => Err("it was removed".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            (id, job)
        };
        let jobs = stream::iter(ids).map(read).buffered(CONCURRENT_READS).collect().await;
        Ok(StoredJobPage { jobs, total, has_next: following.next().is_some() })
    }

    /// Starts to read an artifact. Its hash is checked at the end.
    ///
    /// # Errors
    /// See [`Store::open_artifact`].
    pub async fn open_artifact(&self, reference: &ArtifactReference) -> Result<ArtifactReader, StoreError> {
        self.store().await?.open_artifact(reference).await
    }

    /// Reads and parses a JSON artifact, after a check of its hash.
    ///
    /// # Errors
    /// See [`Store::get_artifact`]; [`StoreError::Malformed`] if it is too large to be shown or not
    /// such a document.
    pub async fn read_json<T: DeserializeOwned + Send + 'static>(
        &self,
        reference: &ArtifactReference,
    ) -> Result<T, StoreError> {
        let name = reference.name.clone();
        self.read_and_parse(reference, MAX_SHOWN_BYTES, move |bytes| parse(&name, bytes)).await
    }

    /// As [`Self::read_json`] for a document of any shape, of which only the parts that are shown
    /// are kept.
    ///
    /// # Errors
    /// As [`Self::read_json`]; also if it has too many values to be shown.
    pub async fn read_any_json<T: From<Value> + Send + 'static>(
        &self,
        reference: &ArtifactReference,
    ) -> Result<T, StoreError> {
        let name = reference.name.clone();
        let extract = move |bytes: &[u8]| {
            if max_values(bytes) > MAX_ANY_JSON_VALUES {
                let reason =
                    format!("it has more than {MAX_ANY_JSON_VALUES} values, too many to be shown here");
                return Err(StoreError::Malformed { path: name, reason });
            }
            parse::<Value>(&name, bytes).map(T::from)
        };
        self.read_and_parse(reference, MAX_ANY_JSON_BYTES, extract).await
    }

    async fn read_and_parse<T: Send + 'static>(
        &self,
        reference: &ArtifactReference,
        max_bytes: u64,
        parse: impl FnOnce(&[u8]) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let name = reference.name.clone();
        let malformed = |reason| Err(StoreError::Malformed { path: name, reason });
        if reference.size > max_bytes {
            return malformed(format!("it has {} bytes, too many to be shown here", reference.size));
        }
        let (store, reference, runtime) = (self.store().await?.clone(), reference.clone(), Handle::current());
        let read = move || parse(&runtime.block_on(store.get_artifact(&reference))?);
        self.thread.run(read).await.unwrap_or_else(|| malformed("the console failed to parse it".to_owned()))
    }
}

/// Reads a manifest on a thread of its own: parsing a large one takes as long as many requests.
async fn read_manifest(store: &Store, job: &JobId) -> Result<Option<ManifestDocument>, StoreError> {
    let (store, id, runtime) = (store.clone(), job.clone(), Handle::current());
    let read = spawn_blocking(move || runtime.block_on(store.get_manifest(&id))).await;
    read.unwrap_or_else(|error| {
        Err(StoreError::Unavailable { path: format!("the manifest of {job}"), reason: error.to_string() })
    })
}

fn parse<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes)
        .map_err(|error| StoreError::Malformed { path: name.to_owned(), reason: error.to_string() })
}

/// Upper bound on the number of values in a JSON text: each but the first follows a comma or opens
/// a container.
fn max_values(json: &[u8]) -> usize {
    1 + json.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count()
}

#[cfg(test)]
mod tests {
    use forge_store::Artifact;

    use super::*;
    use crate::shown_document::ShownResult;

    async fn store_with(name: &str, text: String) -> (StoreAccess, ArtifactReference) {
        let store = Store::in_memory();
        let media_type = "application/json".to_owned();
        let artifact = Artifact { name: name.to_owned(), media_type, bytes: text.into_bytes() };
        let reference = store.put_artifact(artifact).await.unwrap();
        (StoreAccess::opened(StoreLocation::Memory, store), reference)
    }

    #[tokio::test]
    async fn documents_that_would_fill_the_memory_are_not_parsed() {
        let objects = |count| format!("[{}]", vec![r#"{"a":0}"#; count].join(","));
        let (store, reference) = store_with("result.json", objects(1000)).await;
        assert!(store.read_any_json::<ShownResult>(&reference).await.unwrap().figures.is_empty());
        let (store, reference) = store_with("result.json", objects(100_000)).await;
        let error = store.read_any_json::<ShownResult>(&reference).await.unwrap_err().to_string();
        assert!(error.starts_with("result.json") && error.contains("65536 values"), "{error}");
        for (max, has_values) in [(MAX_ANY_JSON_BYTES, true), (MAX_SHOWN_BYTES, false)] {
            let (store, reference) = store_with("x.json", " ".repeat(max as usize + 1)).await;
            let error = match has_values {
                true => store.read_any_json::<ShownResult>(&reference).await.map(drop),
                false => store.read_json::<bool>(&reference).await.map(drop),
            };
            let error = error.unwrap_err().to_string();
            assert!(error.contains(&format!("{} bytes, too many", max + 1)), "{error}");
        }
    }

    #[test]
    fn no_json_has_more_values_than_its_bound() {
        for text in ["0", "[]", "[1]", "[1,2]", r#"{"a":[{"b":"c,"}]}"#, "[[[]],{}]"] {
            fn count(value: &Value) -> usize {
                let inner: usize = match value {
                    Value::Array(values) => values.iter().map(count).sum(),
                    Value::Object(map) => map.values().map(count).sum(),
                    _ => 0,
                };
                1 + inner
            }
            let value: Value = serde_json::from_str(text).unwrap();
            assert!(max_values(text.as_bytes()) >= count(&value), "{text}");
        }
    }
}
