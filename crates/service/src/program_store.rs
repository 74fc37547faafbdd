//! Programs by hash, stored in bucket `forge_programs`. A reader accepts only bytes that have the
//! hash it asked for, so it does not have to trust the writer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use forge_bus::{BusError, SharedBus, topology::Bucket};
use forge_contract::{digest::Digest, program::Program};
use quick_cache::sync::Cache;

/// A stored program older than this is written again, long before the bucket's age limit removes
/// it.
const REFRESH_AGE: Duration = Duration::from_secs(24 * 3600);
/// After a program was seen in the bucket, it is assumed to be there for this long.
const STORED_ASSUMPTION: Duration = Duration::from_secs(60);

/// Failure to load a program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// The bucket holds no such program.
    #[error("program {0} is not in bucket forge_programs")]
    Missing(Digest),
    /// The bucket holds other bytes under this hash, or bytes that are no valid program.
    #[error("program {0} is damaged: {1}")]
    Damaged(Digest, String),
    /// The bucket could not be read.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// Loads and stores programs, and caches decoded ones. Clones share the cache.
#[derive(Debug, Clone)]
pub struct ProgramStore {
    bus: SharedBus,
    programs: Arc<Cache<Digest, Arc<Program>>>,
    /// When a program was last known to be in the bucket.
    stored_at: Arc<Cache<Digest, Instant>>,
}

impl ProgramStore {
    /// Caches up to `capacity` decoded programs.
    pub fn new(bus: SharedBus, capacity: usize) -> Self {
        Self { bus, programs: Arc::new(Cache::new(capacity)), stored_at: Arc::new(Cache::new(capacity)) }
    }

    /// Returns the program with this hash. Concurrent calls for one program share a single read of
    /// the bucket.
    ///
    /// # Errors
    /// [`ProgramError`]; errors are not cached.
    pub async fn get(&self, digest: Digest) -> Result<Arc<Program>, ProgramError> {
        self.programs.get_or_insert_async(&digest, self.load(digest)).await
    }

    async fn load(&self, digest: Digest) -> Result<Arc<Program>, ProgramError> {
        let entry = self.bus.get(&Bucket::Programs, &digest.to_hex()).await?;
        let Some(bytes) = entry.and_then(|entry| entry.value) else {
            return Err(ProgramError::Missing(digest));
        };
        let content_digest = Digest::hash_parts(&[&bytes]);
        if content_digest != digest {
            return Err(ProgramError::Damaged(digest, format!("its content has the hash {content_digest}")));
        }
        let program = Program::decode(&bytes);
        let program = program.map_err(|error| ProgramError::Damaged(digest, error.to_string()))?;
        program.validate().map_err(|rule| ProgramError::Damaged(digest, rule.to_string()))?;
        Ok(Arc::new(program))
    }

    /// Stores a program, unless the bucket holds a copy that is not about to expire.
    ///
    /// # Errors
    /// Returns any error of reading or writing the bucket.
    pub async fn put(&self, digest: Digest, program: &Arc<Program>) -> Result<(), BusError> {
        if self.stored_at.get(&digest).is_some_and(|at| at.elapsed() < STORED_ASSUMPTION) {
            return Ok(());
        }
        let key = digest.to_hex();
        let entry = self.bus.get(&Bucket::Programs, &key).await?;
        if entry.is_none_or(|entry| entry.value.is_none() || entry.age > REFRESH_AGE) {
            self.bus.put(&Bucket::Programs, &key, program.encode().into()).await?;
        }
        self.programs.insert(digest, Arc::clone(program));
        self.stored_at.insert(digest, Instant::now());
        Ok(())
    }
}
