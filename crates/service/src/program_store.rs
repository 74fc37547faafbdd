//! Programs by hash, stored in bucket `forge_programs`. A reader accepts only bytes that have the
//! hash it asked for, so it does not have to trust the writer.
//!
//! A program may be longer than a message, so it is stored in parts: the first one under its hash,
//! the others under the hash and their number. A part of full length is followed by another one,
//! which may be empty.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use forge_bus::{BusError, SharedBus, topology::Bucket};
use forge_contract::{
    digest::Digest,
    program::{MAX_TABLE_BYTES, Program},
};
use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::cache_weight::{CacheWeight, bounded_cache};

/// Bytes in a part: half of the messages that NATS accepts by default.
const PART_LENGTH: usize = 512 << 10;
/// Most parts of a program: its tables, with room for the rest.
const MAX_PARTS: usize = MAX_TABLE_BYTES as usize / PART_LENGTH + 2;
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
    programs: Arc<Cache<Digest, Arc<Program>, CacheWeight>>,
    /// When a program was last known to be in the bucket.
    stored_at: Arc<Cache<Digest, Instant>>,
}

impl ProgramStore {
    /// Caches up to `capacity` decoded programs, and at most 64 MiB of them.
    pub fn new(bus: SharedBus, capacity: usize) -> Self {
        let programs = Arc::new(bounded_cache(capacity));
        Self { bus, programs, stored_at: Arc::new(Cache::new(capacity)) }
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
        let mut bytes = Vec::new();
        for part in 0..MAX_PARTS {
            let entry = self.bus.get(&Bucket::Programs, &part_key(digest, part)).await?;
            let Some(value) = entry.and_then(|entry| entry.value) else {
                return Err(ProgramError::Missing(digest));
            };
            bytes.extend_from_slice(&value);
            if value.len() < PART_LENGTH {
                break;
            }
        }
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
        let entry = self.bus.get(&Bucket::Programs, &part_key(digest, 0)).await?;
        if entry.is_none_or(|entry| entry.value.is_none() || entry.age > REFRESH_AGE) {
            let bytes = Bytes::from(program.encode());
            // The first part is written last: where it is, the others are.
            for part in (0..=bytes.len() / PART_LENGTH).rev() {
                let end = bytes.len().min((part + 1) * PART_LENGTH);
                let value = bytes.slice(part * PART_LENGTH..end);
                self.bus.put(&Bucket::Programs, &part_key(digest, part), value).await?;
            }
        }
        self.programs.insert(digest, Arc::clone(program));
        self.stored_at.insert(digest, Instant::now());
        Ok(())
    }
}

/// The key of a part.
fn part_key(digest: Digest, part: usize) -> String {
    match part {
        0 => digest.to_hex(),
        part => format!("{}.{part}", digest.to_hex()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use forge_bus::{
        MemoryBus,
        testing::{BusFault, BusOperation, FaultyBus},
        topology::TopologySettings,
    };
    use forge_kernel::request::Request;
    use tokio::time::sleep;

    use super::*;

    const READ_TIME: Duration = Duration::from_millis(100);

    /// A store on a bus whose reads take [`READ_TIME`], the number of reads, and a program that is
    /// not stored yet.
    async fn fixture() -> (ProgramStore, Arc<AtomicUsize>, Digest, Arc<Program>) {
        let inner = MemoryBus::new(TopologySettings::default());
        let reads = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&reads);
        let bus: SharedBus = Arc::new(FaultyBus::new(inner, move |operation| match operation {
            BusOperation::Get { .. } => {
                counter.fetch_add(1, Ordering::SeqCst);
                BusFault::Delay(READ_TIME)
            }
            _ => BusFault::None,
        }));
        bus.prepare().await.unwrap();
        let envelope = br#"{"op": {"name": "mc", "version": 1, "profile": "insurance.v1"},
            "args": {"iterations": 1000, "claim_freq": 0.1, "claim_severity_mu": 1, "claim_severity_sig": 1}}"#;
        let request = Request::from_json(envelope).unwrap();
        (ProgramStore::new(bus, 2), reads, request.program_digest, request.program)
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_loads_share_one_read_and_a_cancelled_one_is_taken_over() {
        let (writer, reads, digest, program) = fixture().await;
        writer.put(digest, &program).await.unwrap();
        let store = ProgramStore::new(writer.bus.clone(), 2);
        reads.store(0, Ordering::SeqCst);
        let load = || {
            let store = store.clone();
            tokio::spawn(async move { store.get(digest).await })
        };
        let first = load();
        sleep(READ_TIME / 2).await;
        let others = [load(), load(), load()];
        sleep(READ_TIME / 4).await;
        // The job of the first shard ends while it loads the program for all of them.
        first.abort();
        for other in others {
            assert_eq!(other.await.unwrap().unwrap(), program);
        }
        assert_eq!(reads.load(Ordering::SeqCst), 2);
        assert_eq!(store.get(digest).await.unwrap(), program);
        assert_eq!(reads.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_program_is_an_error_until_it_is_stored() {
        let (store, reads, digest, program) = fixture().await;
        let (first, second) = tokio::join!(store.get(digest), store.get(digest));
        assert_eq!((first, second), (Err(ProgramError::Missing(digest)), Err(ProgramError::Missing(digest))));
        assert_eq!(reads.load(Ordering::SeqCst), 2);
        store.put(digest, &program).await.unwrap();
        assert_eq!(store.get(digest).await.unwrap(), program);
        let other = Digest([1; 32]);
        store.bus.put(&Bucket::Programs, &other.to_hex(), program.encode().into()).await.unwrap();
        assert!(matches!(store.get(other).await, Err(ProgramError::Damaged(..))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_longer_than_a_message_is_stored_in_parts() {
        let (store, _, _, _) = fixture().await;
        let envelope = serde_json::json!({
            "op": {"name": "mc", "version": 1, "profile": "risk.compound.v1"},
            "args": forge_kernel::workload::risk_compound_v1::examples::portfolio(),
        });
        let request = Request::from_json(envelope.to_string().as_bytes()).unwrap();
        let length = request.program.encode().len();
        assert!(length > 2 * PART_LENGTH, "{length} bytes");
        store.put(request.program_digest, &request.program).await.unwrap();
        let keys = store.bus.keys(&Bucket::Programs).await.unwrap();
        assert_eq!(keys.len(), 1 + length / PART_LENGTH);
        let reader = ProgramStore::new(store.bus.clone(), 2);
        assert_eq!(reader.get(request.program_digest).await, Ok(request.program));
        // Without one of its parts it is missing.
        store.bus.delete(&Bucket::Programs, &part_key(request.program_digest, 1)).await.unwrap();
        let reader = ProgramStore::new(store.bus.clone(), 2);
        let missing = Err(ProgramError::Missing(request.program_digest));
        assert_eq!(reader.get(request.program_digest).await, missing);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stored_program_is_looked_up_again_only_after_a_while() {
        let (store, reads, digest, program) = fixture().await;
        for _ in 0..3 {
            store.put(digest, &program).await.unwrap();
        }
        assert_eq!(reads.load(Ordering::SeqCst), 1);
    }
}
