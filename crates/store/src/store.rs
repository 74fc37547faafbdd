//! The store: artifacts by hash, and how every object is read and written. One implementation for every `object_store`
//! backend.

use std::{fmt, sync::Arc, time::Duration};

use forge_contract::{artifact::ArtifactReference, digest::Digest};
use futures_util::future::join_all;
use object_store::{
    Attribute, Attributes, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, memory::InMemory,
    path::Path as Key,
};
use serde::de::DeserializeOwned;

use crate::error::{Refusal, StoreError};

/// How often a conditional write is tried again that was refused because another one was under way.
const CONFLICT_RETRIES: u32 = 5;
/// The pause before the first of these; it doubles.
const CONFLICT_PAUSE: Duration = Duration::from_millis(50);

/// Where artifacts and job records are kept. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// How people call the place: a directory or a bucket.
    place: String,
    kind: Kind,
}

/// What the backends differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This process's memory.
    Memory,
    /// A directory, which keeps no media types.
    Local,
    /// A bucket.
    Bucket {
        /// Artifacts are read again after they were written.
        read_back: bool,
    },
}

/// An object to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// File name: 1 to 64 of `A–Z a–z 0–9 . _ -`, not starting with a dot.
    pub name: String,
    /// Media type, as in `application/json`.
    pub media_type: String,
    /// The content.
    pub bytes: Vec<u8>,
}

impl Artifact {
    /// How the artifact is referred to: by the hash of its content.
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
    /// A store in this process's memory.
    pub fn in_memory() -> Self {
        Self::at(Arc::new(InMemory::new()), "memory", Kind::Memory)
    }

    pub(crate) fn at(objects: Arc<dyn ObjectStore>, place: &str, kind: Kind) -> Self {
        Self { objects, place: place.to_owned(), kind }
    }

    /// Where an object lies, for people: with a local store, its path.
    pub fn locate(&self, key: &str) -> String {
        format!("{}/{key}", self.place.trim_end_matches('/'))
    }

    /// Stores an artifact under its hash. If it is there already, its bytes are compared and nothing is written. In a bucket
    /// it is read again after it was written (unless [`S3Options::read_back`](crate::S3Options) says otherwise), so that
    /// the bytes under the hash are known to be those.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when other bytes lie under the hash; [`StoreError::Malformed`] when the name is unsafe;
    /// [`StoreError::Full`], [`StoreError::Unusable`] or [`StoreError::Unavailable`] when it cannot be written.
    pub async fn put_artifact(&self, artifact: Artifact) -> Result<ArtifactReference, StoreError> {
        let reference = artifact.reference();
        let key = checked_key(&reference)?;
        let created = self.put(&key, artifact.bytes, &artifact.media_type, PutMode::Create).await?;
        if !created || self.kind == (Kind::Bucket { read_back: true }) {
            self.get_artifact(&reference).await?;
        }
        Ok(reference)
    }

    /// Stores artifacts side by side and returns their references in order. Every write has ended when it returns.
    ///
    /// # Errors
    /// The first of the errors of [`Store::put_artifact`].
    pub async fn put_artifacts(
        &self,
        artifacts: Vec<Artifact>,
    ) -> Result<Vec<ArtifactReference>, StoreError> {
        join_all(artifacts.into_iter().map(|artifact| self.put_artifact(artifact)))
            .await
            .into_iter()
            .collect()
    }

    /// The content of an artifact, of the size and the hash that the reference names.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Corrupt`], [`StoreError::Malformed`] when the name is unsafe, or
    /// [`StoreError::Unavailable`].
    pub async fn get_artifact(&self, reference: &ArtifactReference) -> Result<Vec<u8>, StoreError> {
        let key = checked_key(reference)?;
        let corrupt = |reason: String| StoreError::Corrupt { path: self.locate(&key), reason };
        let answer = self.objects.get(&self.key(&key)?).await.map_err(|error| self.failed(&key, &error))?;
        if answer.meta.size != reference.size {
            let (found, expected) = (answer.meta.size, reference.size);
            return Err(corrupt(format!("it has {found} bytes, where {expected} are expected")));
        }
        let bytes = answer.bytes().await.map_err(|error| self.failed(&key, &error))?;
        let found = Digest::hash_parts(&[&bytes]);
        if found != reference.sha256 {
            return Err(corrupt(format!("the SHA-256 of its content is {found}")));
        }
        Ok(bytes.into())
    }

    /// Writes an object; `false` if it may only be created and is there already.
    pub(crate) async fn put(
        &self,
        key: &str,
        bytes: Vec<u8>,
        media_type: &str,
        mode: PutMode,
    ) -> Result<bool, StoreError> {
        let location = self.key(key)?;
        let mut options = PutOptions::from(mode);
        if self.kind != Kind::Local {
            options.attributes = Attributes::from_iter([(Attribute::ContentType, media_type.to_owned())]);
        }
        let payload = PutPayload::from(bytes);
        let mut retries = 0;
        loop {
            match self.objects.put_opts(&location, payload.clone(), options.clone()).await {
                Ok(_) => return Ok(true),
                // Two conditional writes at once: S3 answers 409 to one of them without saying which will stay.
                Err(error) if Refusal::of(&error).is_some_and(|refusal| refusal.status == 409) => {
                    if retries == CONFLICT_RETRIES {
                        return Err(StoreError::Unavailable {
                            path: self.locate(key),
                            reason: "other writes of the object were under way at every attempt".to_owned(),
                        });
                    }
                    tokio::time::sleep(CONFLICT_PAUSE * (1 << retries)).await;
                    retries += 1;
                }
                Err(object_store::Error::AlreadyExists { .. }) => return Ok(false),
                Err(error) => return Err(self.failed(key, &error)),
            }
        }
    }

    pub(crate) async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let answer = match self.objects.get(&self.key(key)?).await {
            Err(error) if self.is_absent(key, &error) => return Ok(None),
            other => other.map_err(|error| self.failed(key, &error))?,
        };
        let bytes = answer.bytes().await.map_err(|error| self.failed(key, &error))?;
        let malformed = |error: serde_json::Error| StoreError::Malformed {
            path: self.locate(key),
            reason: error.to_string(),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(malformed)
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.objects.delete(&self.key(key)?).await {
            Ok(()) => Ok(()),
            Err(error) if self.is_absent(key, &error) => Ok(()),
            Err(error) => Err(self.failed(key, &error)),
        }
    }

    /// Whether an error says that this object is not there, and not that all of the bucket is gone.
    pub(crate) fn is_absent(&self, key: &str, error: &object_store::Error) -> bool {
        matches!(self.failed(key, error), StoreError::Missing { path } if path == self.locate(key))
    }

    pub(crate) fn key(&self, key: &str) -> Result<Key, StoreError> {
        Key::parse(key)
            .map_err(|error| StoreError::Malformed { path: self.locate(key), reason: error.to_string() })
    }

    pub(crate) fn failed(&self, key: &str, error: &object_store::Error) -> StoreError {
        StoreError::from_object_store(&self.locate(key), error)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.place)
    }
}

/// The key of an artifact, whose name may come from a manifest that a stranger wrote.
fn checked_key(reference: &ArtifactReference) -> Result<String, StoreError> {
    let name = &reference.name;
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=64).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(safe) {
        return Ok(reference.key());
    }
    Err(StoreError::Malformed {
        path: format!("the artifact {name:?}"),
        reason:
            "a name is 1 to 64 characters out of A-Z, a-z, 0-9, ., _ and -, and does not start with a dot"
                .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faulty::Faulty;

    fn conflict(key: &str) -> object_store::Error {
        let refusal = Refusal {
            status: 409,
            code: "ConditionalRequestConflict".to_owned(),
            message: "another write is under way".to_owned(),
        };
        object_store::Error::AlreadyExists { path: key.to_owned(), source: refusal.into() }
    }

    fn store_with_conflicts(count: usize) -> Store {
        let objects =
            Faulty::new(move |puts, options| if puts < count { Err(conflict("x")) } else { Ok(options) });
        Store::at(Arc::new(objects), "s3://test", Kind::Bucket { read_back: true })
    }

    #[tokio::test(start_paused = true)]
    async fn a_conflict_is_not_taken_for_an_object_that_is_there() {
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
