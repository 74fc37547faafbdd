//! The store: reads and writes artifacts by hash, and all other objects by key. One implementation
//! for every `object_store` backend.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use forge_contract::{artifact::ArtifactReference, digest::Digest, strict};
use futures_util::future::join_all;
use object_store::{
    Attribute, Attributes, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, memory::InMemory,
    path::Path as Key,
};
use serde::de::DeserializeOwned;

use crate::{
    error::{S3ErrorResponse, StoreError},
    local_files,
};

/// Maximum number of retries of a conditional write that conflicted with a concurrent one.
const CONFLICT_RETRIES: u32 = 5;
/// Delay before the first retry. It doubles with each retry.
const CONFLICT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// Largest document below `jobs/` that is read. A manifest has about 3 KiB.
pub(crate) const MAX_JOB_DOCUMENT_BYTES: usize = 1 << 20;

/// A store of artifacts and job documents. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// Name of the location for messages: a directory or a bucket.
    display_name: String,
    kind: StoreKind,
    /// The directory of a local store. It is read without `objects`, which follows links.
    pub(crate) root: Option<Arc<Path>>,
}

/// Differences between the backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreKind {
    /// Memory of this process.
    Memory,
    /// A directory. It does not store media types.
    Local,
    /// A bucket.
    Bucket {
        /// Whether artifacts are read back after they are written.
        read_back: bool,
    },
}

/// An object to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// File name: 1 to 64 of `A–Z a–z 0–9 . _ -`, not starting with a dot.
    pub name: String,
    /// Media type, such as `application/json`.
    pub media_type: String,
    /// Content.
    pub bytes: Vec<u8>,
}

impl Artifact {
    /// Returns the artifact's reference, which contains the hash of its content.
    pub fn reference(&self) -> ArtifactReference {
        ArtifactReference {
            name: self.name.clone(),
            sha256: Digest::hash_parts(&[&self.bytes]),
            size: self.bytes.len() as u64,
            media_type: self.media_type.clone(),
        }
    }
}

impl Store {
    /// Creates an empty store in the memory of this process.
    pub fn in_memory() -> Self {
        Self::new(Arc::new(InMemory::new()), "memory", StoreKind::Memory)
    }

    pub(crate) fn new(objects: Arc<dyn ObjectStore>, display_name: &str, kind: StoreKind) -> Self {
        Self { objects, display_name: display_name.to_owned(), kind, root: None }
    }

    /// Location of an object for messages and records: a path, or an `s3://` URL.
    pub fn locate(&self, key: &str) -> String {
        format!("{}/{key}", self.display_name.trim_end_matches('/'))
    }

    /// Stores an artifact under its hash. If an object exists there, its content is compared and
    /// nothing is written. In a bucket, the artifact is read back after the write to check that the
    /// stored content matches its hash, unless [`S3Options::read_back`](crate::S3Options) is
    /// disabled.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the existing content differs; [`StoreError::Malformed`] when
    /// the name is unsafe; [`StoreError::Full`], [`StoreError::Unusable`] or
    /// [`StoreError::Unavailable`] when it cannot be written.
    pub async fn put_artifact(&self, artifact: Artifact) -> Result<ArtifactReference, StoreError> {
        let reference = artifact.reference();
        let key = checked_key(&reference)?;
        let created = self.put(&key, artifact.bytes, &artifact.media_type, PutMode::Create).await?;
        if !created || self.kind == (StoreKind::Bucket { read_back: true }) {
            self.get_artifact(&reference).await?;
        }
        Ok(reference)
    }

    /// Stores artifacts concurrently and returns their references in order, after all writes have
    /// finished.
    ///
    /// # Errors
    /// The first error of [`Store::put_artifact`], in the order of the artifacts.
    pub async fn put_artifacts(
        &self,
        artifacts: Vec<Artifact>,
    ) -> Result<Vec<ArtifactReference>, StoreError> {
        join_all(artifacts.into_iter().map(|artifact| self.put_artifact(artifact)))
            .await
            .into_iter()
            .collect()
    }

    /// Writes an object. Returns `false` if `mode` only allows creation and the object exists.
    pub(crate) async fn put(
        &self,
        key: &str,
        bytes: Vec<u8>,
        media_type: &str,
        mode: PutMode,
    ) -> Result<bool, StoreError> {
        let location = self.key(key)?;
        if let Some(root) = &self.root {
            local_files::check_directories(root, key, &self.locate(key))?;
        }
        let mut options = PutOptions::from(mode);
        if self.kind != StoreKind::Local {
            options.attributes = Attributes::from_iter([(Attribute::ContentType, media_type.to_owned())]);
        }
        let payload = PutPayload::from(bytes);
        let mut retries = 0;
        loop {
            match self.objects.put_opts(&location, payload.clone(), options.clone()).await {
                Ok(_) => return Ok(true),
                // Of two concurrent conditional writes, S3 answers 409 to one without having
                // decided which will be stored.
                Err(error) if S3ErrorResponse::of(&error).is_some_and(|response| response.status == 409) => {
                    if retries == CONFLICT_RETRIES {
                        return Err(StoreError::Unavailable {
                            path: self.locate(key),
                            reason: "every attempt conflicted with a concurrent write of the object"
                                .to_owned(),
                        });
                    }
                    tokio::time::sleep(CONFLICT_RETRY_DELAY * (1 << retries)).await;
                    retries += 1;
                }
                Err(object_store::Error::AlreadyExists { .. }) => return Ok(false),
                Err(error) => return Err(self.store_error(key, &error)),
            }
        }
    }

    /// Reads a document of a job with the hash of its bytes; `None` if it does not exist. The
    /// document may be an attacker's.
    pub(crate) async fn read_json<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<(T, Digest)>, StoreError> {
        let Some(bytes) = self.read_object(key, MAX_JOB_DOCUMENT_BYTES as u64).await? else {
            return Ok(None);
        };
        let malformed = |reason| StoreError::Malformed { path: self.locate(key), reason };
        strict::check_document(&bytes, MAX_JOB_DOCUMENT_BYTES)
            .map_err(|errors| malformed(errors.to_string()))?;
        let document = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        Ok(Some((document, Digest::hash_parts(&[&bytes]))))
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.objects.delete(&self.key(key)?).await {
            Ok(()) => Ok(()),
            Err(error) if self.is_absent(key, &error) => Ok(()),
            Err(error) => Err(self.store_error(key, &error)),
        }
    }

    /// Whether `error` means that this object does not exist, as opposed to the whole bucket.
    pub(crate) fn is_absent(&self, key: &str, error: &object_store::Error) -> bool {
        matches!(self.store_error(key, error), StoreError::Missing { path } if path == self.locate(key))
    }

    pub(crate) fn key(&self, key: &str) -> Result<Key, StoreError> {
        Key::parse(key)
            .map_err(|error| StoreError::Malformed { path: self.locate(key), reason: error.to_string() })
    }

    pub(crate) fn store_error(&self, key: &str, error: &object_store::Error) -> StoreError {
        StoreError::from_object_store(&self.locate(key), error)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.display_name)
    }
}

/// The key of an artifact. Its name is checked, because it may come from an untrusted manifest.
pub(crate) fn checked_key(reference: &ArtifactReference) -> Result<String, StoreError> {
    let name = &reference.name;
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=64).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(safe) {
        return Ok(reference.key());
    }
    Err(StoreError::Malformed {
        path: format!("the artifact {name:?}"),
        reason:
            "a name must be 1 to 64 of the characters A-Z, a-z, 0-9, ., _ and -, and not start with a dot"
                .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault_injection::FaultInjectingStore;

    fn conflict() -> object_store::Error {
        let response = S3ErrorResponse {
            status: 409,
            code: "ConditionalRequestConflict".to_owned(),
            message: "another write is under way".to_owned(),
        };
        object_store::Error::Generic { store: "S3", source: response.into() }
    }

    fn store_with_conflicts(count: usize) -> Store {
        let objects = FaultInjectingStore::new(
            move |puts, options| if puts < count { Err(conflict()) } else { Ok(options) },
        );
        Store::new(Arc::new(objects), "s3://test", StoreKind::Bucket { read_back: true })
    }

    #[tokio::test(start_paused = true)]
    async fn a_conflicting_write_is_retried_and_not_taken_for_an_existing_object() {
        let artifact = || Artifact {
            name: "a.txt".to_owned(),
            media_type: "text/plain".to_owned(),
            bytes: b"hello".to_vec(),
        };
        let store = store_with_conflicts(3);
        let reference = store.put_artifact(artifact()).await.unwrap();
        assert_eq!(store.get_artifact(&reference).await.unwrap(), b"hello");

        let error = store_with_conflicts(usize::MAX).put_artifact(artifact()).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    }
}
