//! Reads objects in chunks. An object's content may be an attacker's, so no buffer is sized by a
//! length that a store states, and no more is read than the caller allows.

use std::{collections::BTreeSet, fs::File, io::Read};

use bytes::Bytes;
use forge_contract::{
    artifact::{ArtifactReference, ManifestDocument},
    digest::IncrementalDigest,
};
use futures_util::{StreamExt, stream::BoxStream};
use object_store::ObjectStoreExt;

use crate::{
    error::StoreError,
    local_files,
    store::{Store, checked_key},
};

/// Bytes read from a file at once.
const CHUNK_BYTES: u64 = 256 << 10;

/// An object that is being read.
struct ObjectContent {
    source: ContentSource,
    /// The size that the store states.
    size: u64,
    /// The object's name in messages.
    path: String,
}

enum ContentSource {
    File(File),
    Stream(BoxStream<'static, object_store::Result<Bytes>>),
}

impl ObjectContent {
    /// The next chunk; `None` at the end.
    async fn next_chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        match &mut self.source {
            ContentSource::Stream(stream) => stream
                .next()
                .await
                .transpose()
                .map_err(|error| StoreError::from_object_store(&self.path, &error)),
            ContentSource::File(file) => {
                let file = file.try_clone().map_err(|error| StoreError::from_io(&self.path, &error))?;
                let read = tokio::task::spawn_blocking(move || {
                    let mut chunk = Vec::new();
                    file.take(CHUNK_BYTES).read_to_end(&mut chunk).map(|_| chunk)
                });
                let chunk = read.await.map_err(|error| StoreError::Unavailable {
                    path: self.path.clone(),
                    reason: error.to_string(),
                })?;
                let chunk = chunk.map_err(|error| StoreError::from_io(&self.path, &error))?;
                Ok((!chunk.is_empty()).then(|| chunk.into()))
            }
        }
    }

    /// Reads everything, up to `max_bytes`.
    async fn read_all(mut self, max_bytes: u64) -> Result<Vec<u8>, StoreError> {
        let too_large = |path: &str, size: u64| StoreError::Malformed {
            path: path.to_owned(),
            reason: format!("it has {size} bytes, and at most {max_bytes} are read"),
        };
        if self.size > max_bytes {
            return Err(too_large(&self.path, self.size));
        }
        let mut content = Vec::new();
        while let Some(chunk) = self.next_chunk().await? {
            content.extend_from_slice(&chunk);
            if content.len() as u64 > max_bytes {
                return Err(too_large(&self.path, content.len() as u64));
            }
        }
        Ok(content)
    }
}

/// An artifact that is read in chunks, for artifacts that need not fit in memory. Its size is
/// checked before the first chunk and its hash after the last one: do not rely on the content
/// before [`ArtifactReader::next_chunk`] has returned `None`.
pub struct ArtifactReader {
    content: ObjectContent,
    reference: ArtifactReference,
    digest: Option<IncrementalDigest>,
    remaining: u64,
}

impl std::fmt::Debug for ArtifactReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ArtifactReader({}, {} bytes remain)", self.content.path, self.remaining)
    }
}

impl ArtifactReader {
    /// The next chunk; `None` once everything was read and has the right hash.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when size or hash differ from the reference's, or
    /// [`StoreError::Unavailable`].
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        let Some(digest) = &mut self.digest else { return Ok(None) };
        if let Some(chunk) = self.content.next_chunk().await? {
            digest.update(&chunk);
            self.remaining = match self.remaining.checked_sub(chunk.len() as u64) {
                Some(remaining) => remaining,
                None => return Err(self.corrupt("it has grown while it was read".to_owned())),
            };
            return Ok(Some(chunk));
        }
        if self.remaining > 0 {
            let missing = self.remaining;
            return Err(self.corrupt(format!("its last {missing} bytes could not be read")));
        }
        let found = self.digest.take().map(IncrementalDigest::finish);
        if found != Some(self.reference.sha256) {
            let found = found.map(|found| found.to_string()).unwrap_or_default();
            return Err(self.corrupt(format!("the SHA-256 of its content is {found}")));
        }
        Ok(None)
    }

    /// Reads the rest.
    ///
    /// # Errors
    /// See [`ArtifactReader::next_chunk`].
    pub async fn read_to_end(mut self) -> Result<Vec<u8>, StoreError> {
        let mut content = Vec::new();
        while let Some(chunk) = self.next_chunk().await? {
            content.extend_from_slice(&chunk);
        }
        Ok(content)
    }

    fn corrupt(&self, reason: String) -> StoreError {
        StoreError::Corrupt { path: self.content.path.clone(), reason }
    }
}

impl Store {
    /// Starts to read an artifact, and checks its size against the reference.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Corrupt`], [`StoreError::Malformed`] when the name is
    /// unsafe, or [`StoreError::Unavailable`].
    pub async fn open_artifact(&self, reference: &ArtifactReference) -> Result<ArtifactReader, StoreError> {
        let content = self.open_object(&checked_key(reference)?).await?;
        if content.size != reference.size {
            let (found, expected) = (content.size, reference.size);
            let reason = format!("it has {found} bytes instead of {expected}");
            return Err(StoreError::Corrupt { path: content.path, reason });
        }
        let remaining = reference.size;
        Ok(ArtifactReader {
            content,
            reference: reference.clone(),
            digest: Some(IncrementalDigest::new()),
            remaining,
        })
    }

    /// Reads an artifact and checks its size and hash against the reference. The caller decides
    /// whether the reference's size is acceptable.
    ///
    /// # Errors
    /// See [`Store::open_artifact`].
    pub async fn get_artifact(&self, reference: &ArtifactReference) -> Result<Vec<u8>, StoreError> {
        self.open_artifact(reference).await?.read_to_end().await
    }

    /// Names of what lies around a job's documents: in the job's directory, and beside each of its
    /// artifacts, apart from the job's own objects. At most `max` of them, as keys in ascending
    /// order.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a directory is something else, or any error of a list request.
    pub async fn list_surroundings(
        &self,
        manifest: &ManifestDocument,
        max: usize,
    ) -> Result<Vec<String>, StoreError> {
        let job = &manifest.job_id;
        let own = [Self::manifest_key(job), Self::index_page_key(job)];
        let own: BTreeSet<_> =
            own.into_iter().chain(manifest.artifacts.iter().map(ArtifactReference::key)).collect();
        let directories: BTreeSet<_> =
            own.iter().filter_map(|key| Some(key.rsplit_once('/')?.0.to_owned())).collect();
        let mut others = Vec::new();
        for directory in directories {
            let names = match self.list_directory(&directory, max + own.len()).await {
                Err(StoreError::Missing { .. }) => continue,
                names => names?,
            };
            others.extend(names.iter().map(|name| format!("{directory}/{name}")));
        }
        others.retain(|key| !own.contains(key));
        others.sort_unstable();
        others.truncate(max);
        Ok(others)
    }

    /// Names below a directory, at most `max`.
    async fn list_directory(&self, directory: &str, max: usize) -> Result<Vec<String>, StoreError> {
        let (prefix, path) = (self.key(directory)?, self.locate(directory));
        if let Some(root) = &self.root {
            return local_files::list(root, directory, &path, max);
        }
        let objects = self.objects.list(Some(&prefix)).take(max);
        let name = |object: object_store::ObjectMeta| {
            let parts = object.location.prefix_match(&prefix).into_iter().flatten();
            parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/")
        };
        let names = objects
            .map(|object| object.map(name).map_err(|error| StoreError::from_object_store(&path, &error)));
        names.collect::<Vec<_>>().await.into_iter().collect()
    }

    /// Reads an object of at most `max_bytes`; `None` if it does not exist.
    pub(crate) async fn read_object(&self, key: &str, max_bytes: u64) -> Result<Option<Vec<u8>>, StoreError> {
        match self.open_object(key).await {
            Ok(content) => content.read_all(max_bytes).await.map(Some),
            Err(StoreError::Missing { path }) if path == self.locate(key) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn open_object(&self, key: &str) -> Result<ObjectContent, StoreError> {
        let (location, path) = (self.key(key)?, self.locate(key));
        if let Some(root) = &self.root {
            let (file, size) = local_files::open(root, key, &path)?;
            return Ok(ObjectContent { source: ContentSource::File(file), size, path });
        }
        let answer = self
            .objects
            .get(&location)
            .await
            .map_err(|error| StoreError::from_object_store(&path, &error))?;
        let size = answer.meta.size;
        Ok(ObjectContent { source: ContentSource::Stream(answer.into_stream()), size, path })
    }
}
