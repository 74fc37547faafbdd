//! Programs by hash, as bucket `forge_programs` holds them. Whoever reads one checks that it is what its name says.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use forge_bus::{BusError, SharedBus, topology::Bucket};
use forge_contract::{digest::Digest, program::Program};

/// A stored program is written again when it is this old, long before the bucket drops it.
const REFRESH: Duration = Duration::from_secs(24 * 3600);
/// For so long nobody looks whether a program is still there.
const TRUST: Duration = Duration::from_secs(60);

/// Why a program cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// It is not in the bucket.
    #[error("program {0} is not in bucket forge_programs")]
    Missing(Digest),
    /// What is there is something else.
    #[error("program {0} is damaged: {1}")]
    Damaged(Digest, String),
    /// The bucket cannot be read at this moment.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// The program used last comes first.
type Recent = VecDeque<(Digest, Arc<Program>)>;

/// Programs, the ones used last kept decoded.
#[derive(Debug, Clone)]
pub struct Programs {
    bus: SharedBus,
    recent: Arc<Mutex<Recent>>,
    capacity: usize,
    /// What was stored last, and when that was known.
    stored: Arc<Mutex<VecDeque<(Digest, Instant)>>>,
}

impl Programs {
    /// Keeps up to `capacity` programs.
    pub fn new(bus: SharedBus, capacity: usize) -> Self {
        Self { bus, recent: Arc::default(), capacity, stored: Arc::default() }
    }

    /// The program of this hash.
    ///
    /// # Errors
    /// [`ProgramError`].
    pub async fn get(&self, digest: Digest) -> Result<Arc<Program>, ProgramError> {
        if let Some(program) = self.recent(digest) {
            return Ok(program);
        }
        let entry = self.bus.get(&Bucket::Programs, &digest.to_hex()).await?;
        let Some(bytes) = entry.and_then(|entry| entry.value) else {
            return Err(ProgramError::Missing(digest));
        };
        let found = Digest::of(&[&bytes]);
        if found != digest {
            return Err(ProgramError::Damaged(digest, format!("its content has the hash {found}")));
        }
        let program = Program::decode(&bytes);
        let program = program.map_err(|error| ProgramError::Damaged(digest, error.to_string()))?;
        program.check().map_err(|rule| ProgramError::Damaged(digest, rule.to_string()))?;
        let program = Arc::new(program);
        self.keep(digest, Arc::clone(&program));
        Ok(program)
    }

    /// Stores a program, unless it is there and recent.
    ///
    /// # Errors
    /// As [`forge_bus::Bus::put`].
    pub async fn put(&self, digest: Digest, program: &Arc<Program>) -> Result<(), BusError> {
        let key = digest.to_hex();
        if self.is_stored(digest) {
            return Ok(());
        }
        let there = self.bus.get(&Bucket::Programs, &key).await?;
        if there.is_none_or(|entry| entry.value.is_none() || entry.age > REFRESH) {
            self.bus.put(&Bucket::Programs, &key, program.encode().into()).await?;
        }
        self.keep(digest, Arc::clone(program));
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored.retain(|(known, _)| *known != digest);
        stored.push_front((digest, Instant::now()));
        stored.truncate(self.capacity);
        Ok(())
    }

    fn is_stored(&self, digest: Digest) -> bool {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored.iter().any(|(known, at)| *known == digest && at.elapsed() < TRUST)
    }

    fn recent(&self, digest: Digest) -> Option<Arc<Program>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().find(|(known, _)| *known == digest).map(|(_, program)| Arc::clone(program))
    }

    fn keep(&self, digest: Digest, program: Arc<Program>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|(known, _)| *known != digest);
        recent.push_front((digest, program));
        recent.truncate(self.capacity);
    }
}
