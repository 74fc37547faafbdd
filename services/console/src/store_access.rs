//! Reads artifacts and manifests from the store, which is opened by the first request that needs
//! it: until a job has completed, its directory may not exist.

use forge_contract::{
    artifact::{ArtifactReference, ManifestDocument},
    ids::JobId,
};
use forge_store::{ArtifactReader, S3Options, Store, StoreError, StoreLocation};
use futures_util::{StreamExt, stream};
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

/// Jobs on one page of the store.
const JOBS_PER_PAGE: usize = 50;
/// Manifests that are read concurrently.
const CONCURRENT_READS: usize = 16;
/// Largest document that is read into memory to be shown. Larger ones can be downloaded.
const MAX_SHOWN_BYTES: u64 = 16 << 20;

/// The store of the artifacts.
pub struct StoreAccess {
    location: StoreLocation,
    s3: S3Options,
    opened: OnceCell<Store>,
}

impl std::fmt::Debug for StoreAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The options hold credentials.
        write!(f, "StoreAccess({})", self.location)
    }
}

/// One page of the completed jobs of a store.
#[derive(Debug)]
pub struct StoredJobPage {
    /// Their manifests, by job id. A manifest that cannot be read has the reason in its place.
    pub jobs: Vec<(JobId, Result<ManifestDocument, String>)>,
    /// Number of completed jobs in the store.
    pub total: usize,
    /// Whether more jobs follow.
    pub has_next: bool,
}

impl StoreAccess {
    /// A store that is opened for reading once it is needed.
    pub fn new(location: StoreLocation, s3: S3Options) -> Self {
        Self { location, s3, opened: OnceCell::new() }
    }

    /// A store that is open.
    pub fn opened(location: StoreLocation, store: Store) -> Self {
        Self { location, s3: S3Options::default(), opened: OnceCell::new_with(Some(store)) }
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
            store => store?.get_manifest(job).await,
        }
    }

    /// Completed jobs in the order of their ids, after one of them or from the first.
    ///
    /// # Errors
    /// The store cannot be opened or listed.
    pub async fn list_jobs(&self, after: Option<&JobId>) -> Result<StoredJobPage, StoreError> {
        let store = self.store().await?;
        let ids = store.list_completed_jobs().await?;
        let total = ids.len();
        let mut following = ids.into_iter().filter(|id| after.is_none_or(|after| id > after));
        let ids: Vec<_> = following.by_ref().take(JOBS_PER_PAGE).collect();
        let read = async |id: JobId| {
            let manifest = match store.get_manifest(&id).await {
                Ok(Some(manifest)) => Ok(manifest),
                Ok(None) => Err("it was removed".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            (id, manifest)
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
    pub async fn read_json<T: DeserializeOwned>(
        &self,
        reference: &ArtifactReference,
    ) -> Result<T, StoreError> {
        let malformed = |reason| StoreError::Malformed { path: reference.name.clone(), reason };
        if reference.size > MAX_SHOWN_BYTES {
            return Err(malformed(format!("it has {} bytes, too many to be shown here", reference.size)));
        }
        let bytes = self.store().await?.get_artifact(reference).await?;
        serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))
    }
}
