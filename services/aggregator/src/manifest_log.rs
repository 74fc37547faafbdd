//! The log of the bucket: appends an entry for every manifest that is stored. Any number of
//! aggregators append to one log: an entry is created under the next number, and of two that are
//! created under the same number one is refused.

use std::{sync::Arc, time::Duration};

use forge_bus::retry::RetryPolicy;
use forge_contract::{
    agent::Identity,
    digest::Digest,
    ids::{JobId, JobUid},
    manifest_log::{LogEntryDocument, LogPosition, MAX_LOG_NUMBER},
};
use forge_service::clock::Clock;
use forge_store::{Store, StoreError};
use tokio::{sync::Mutex, time::sleep};

/// Upper bound on the numbers that one attempt tries. Others append at the same time, and the
/// caller retries.
const MAX_CONFLICTS: u64 = 16;
/// Delays after a number was taken by another aggregator.
const CONFLICT_POLICY: RetryPolicy = RetryPolicy::new(Duration::from_millis(20), Duration::from_secs(1));
/// Number of entries that are searched for an entry of the same manifest.
const SEARCHED_ENTRIES: u64 = 128;

/// A stored manifest, as the log names it.
#[derive(Debug, Clone)]
pub(crate) struct LoggedManifest {
    /// Bucket of the job's record.
    pub namespace: String,
    pub job_id: JobId,
    pub job_uid: JobUid,
    /// SHA-256 of the manifest's bytes.
    pub sha256: Digest,
}

/// Appends to the log of a store.
#[derive(Debug)]
pub(crate) struct ManifestLog {
    store: Arc<Store>,
    /// Signs the entries.
    identity: Arc<Identity>,
    /// Dates the entries.
    clock: Clock,
    /// The last entry as far as this process knows; `None` before the first look. The lock is held
    /// during an append, so that the jobs of one process do not compete for a number.
    head: Mutex<Option<LogHead>>,
}

/// The last entry of the log.
#[derive(Debug, Clone, Copy)]
struct LogHead {
    /// Its number; 0 if the log is empty.
    number: u64,
    /// SHA-256 of its bytes; `None` if the log is empty, or the object cannot be read.
    hash: Option<Digest>,
}

impl ManifestLog {
    pub fn new(store: Arc<Store>, identity: Arc<Identity>, clock: Clock) -> Self {
        Self { store, identity, clock, head: Mutex::new(None) }
    }

    /// Appends an entry. If `may_be_recorded`, the latest entries are searched for the manifest
    /// first, and none is added if it is among them. A second entry of the same manifest does no
    /// harm.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when too many others append, or the errors of a read or a write.
    pub async fn append(
        &self,
        manifest: &LoggedManifest,
        may_be_recorded: bool,
    ) -> Result<LogPosition, StoreError> {
        if may_be_recorded && let Some(position) = self.find_recent(manifest).await? {
            return Ok(position);
        }
        for conflicts in 1..=MAX_CONFLICTS {
            let mut head = self.head.lock().await;
            let LogHead { number, hash } = self.known_head(&mut head).await?;
            let (position, bytes) = self.build_entry(number + 1, hash, manifest)?;
            if self.store.create_log_entry(position.number, bytes).await? {
                *head = Some(LogHead { number: position.number, hash: Some(position.hash) });
                return Ok(position);
            }
            // Another aggregator took the number, or an earlier attempt of this one succeeded and
            // its answer was lost.
            if let Some(position) = self.find_in_entry(position.number, manifest).await? {
                *head = Some(LogHead { number: position.number, hash: Some(position.hash) });
                return Ok(position);
            }
            *head = Some(self.find_head(position.number).await?);
            drop(head);
            sleep(CONFLICT_POLICY.delay(conflicts)).await;
        }
        Err(StoreError::Unavailable {
            path: self.store.locate("log"),
            reason: "every number was taken by another aggregator".to_owned(),
        })
    }

    fn build_entry(
        &self,
        number: u64,
        previous: Option<Digest>,
        manifest: &LoggedManifest,
    ) -> Result<(LogPosition, Vec<u8>), StoreError> {
        let entry = LogEntryDocument {
            schema: LogEntryDocument::SCHEMA.to_owned(),
            number,
            previous,
            time: self.clock.now_rfc3339(),
            namespace: manifest.namespace.clone(),
            job_id: manifest.job_id.clone(),
            job_uid: manifest.job_uid,
            manifest: manifest.sha256,
            signer: self.identity.id().clone(),
            signature: None,
        };
        let (_, bytes) = entry.sign(&self.identity).map_err(|invalid| StoreError::Malformed {
            path: self.store.locate(&Store::log_entry_key(number)),
            reason: format!("the next entry of the log {invalid}"),
        })?;
        Ok((LogPosition { number, hash: Digest::hash_parts(&[&bytes]) }, bytes))
    }

    /// The last entry, which is looked up if this process does not know it yet.
    async fn known_head(&self, head: &mut Option<LogHead>) -> Result<LogHead, StoreError> {
        if let Some(known) = *head {
            return Ok(known);
        }
        let found = self.find_head(0).await?;
        *head = Some(found);
        Ok(found)
    }

    /// Finds the last entry from `known`, the number of an entry or 0, by doubling steps and then
    /// by halving them. If entries are missing, which is tampering, it finds one that is followed
    /// by a gap, and an audit names the gap.
    async fn find_head(&self, known: u64) -> Result<LogHead, StoreError> {
        let (mut last, mut step) = (known, 1);
        while self.has_entry(last + step).await? {
            last += step;
            step *= 2;
        }
        // The entry `last` exists, and `last + step` does not.
        while step > 1 {
            step /= 2;
            if self.has_entry(last + step).await? {
                last += step;
            }
        }
        let hash = match last {
            0 => None,
            _ => self.hash_entry(last).await?,
        };
        Ok(LogHead { number: last, hash })
    }

    async fn has_entry(&self, number: u64) -> Result<bool, StoreError> {
        Ok(number <= MAX_LOG_NUMBER && self.store.has_log_entry(number).await?)
    }

    /// Hash of an object of the log, whatever it holds; `None` if it cannot be read. An object that
    /// a stranger put there must not stop the jobs, and an audit names it.
    async fn hash_entry(&self, number: u64) -> Result<Option<Digest>, StoreError> {
        match self.store.get_log_entry(number).await {
            Ok(bytes) => Ok(bytes.map(|bytes| Digest::hash_parts(&[&bytes]))),
            Err(error @ (StoreError::Malformed { .. } | StoreError::Corrupt { .. })) => {
                tracing::error!(%error, "the log holds an object that is no entry; appending after it");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Searches the latest entries for one of this manifest.
    async fn find_recent(&self, manifest: &LoggedManifest) -> Result<Option<LogPosition>, StoreError> {
        let known = self.known_head(&mut *self.head.lock().await).await?;
        // Others may have appended since.
        let last = self.find_head(known.number).await?.number;
        for number in (last.saturating_sub(SEARCHED_ENTRIES) + 1..=last).rev() {
            if let Some(position) = self.find_in_entry(number, manifest).await? {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    /// The position of an entry, if it records this manifest.
    async fn find_in_entry(
        &self,
        number: u64,
        manifest: &LoggedManifest,
    ) -> Result<Option<LogPosition>, StoreError> {
        let bytes = match self.store.get_log_entry(number).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) | Err(StoreError::Malformed { .. } | StoreError::Corrupt { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let records = |entry: &LogEntryDocument| {
            (entry.manifest, entry.job_uid) == (manifest.sha256, manifest.job_uid)
                && entry.number == number
                && entry.is_signature_valid()
        };
        let position = LogPosition { number, hash: Digest::hash_parts(&[&bytes]) };
        Ok(LogEntryDocument::parse(&bytes).is_ok_and(|entry| records(&entry)).then_some(position))
    }
}

#[cfg(test)]
mod tests {
    use forge_contract::manifest_log::LogChain;
    use futures_util::future::join_all;

    use super::*;
    use crate::test_job::identity;

    fn log(store: &Arc<Store>, number: u8) -> ManifestLog {
        ManifestLog::new(Arc::clone(store), Arc::new(identity(number)), Clock::default())
    }

    fn manifest(number: u64) -> LoggedManifest {
        LoggedManifest {
            namespace: "jobs".to_owned(),
            job_id: format!("job-{number}").parse().unwrap(),
            job_uid: JobUid([1; 16]),
            sha256: Digest::hash_parts(&[&number.to_le_bytes()]),
        }
    }

    /// Checks the chain, and returns its entries.
    async fn entries(store: &Store) -> Vec<LogEntryDocument> {
        let (mut chain, mut entries) = (LogChain::new(), Vec::new());
        while let Some(bytes) = store.get_log_entry(entries.len() as u64 + 1).await.unwrap() {
            let (entry, faults) = chain.check(entries.len() as u64 + 1, Ok(&bytes));
            assert_eq!(faults, [], "{entry:?}");
            entries.push(entry.unwrap());
        }
        entries
    }

    #[tokio::test]
    async fn entries_are_chained_and_a_new_process_continues_them() {
        let store = Arc::new(Store::in_memory());
        for number in 1..=9 {
            // Every third process is a new one.
            let log = log(&store, 1);
            for more in 0..3 {
                let position = log.append(&manifest(3 * number + more), false).await.unwrap();
                assert_eq!(position.number, 3 * (number - 1) + more + 1);
            }
        }
        let entries = entries(&store).await;
        assert_eq!(entries.len(), 27);
        assert_eq!((entries[0].namespace.as_str(), entries[0].job_id.as_str()), ("jobs", "job-3"));
    }

    #[tokio::test(start_paused = true)]
    async fn aggregators_that_append_at_the_same_time_make_one_chain() {
        let store = Arc::new(Store::in_memory());
        let logs: Vec<_> = (1..=4).map(|number| log(&store, number)).collect();
        let appends = (0..80).map(|number| {
            let log = &logs[number as usize % 4];
            async move { log.append(&manifest(number), false).await.unwrap().number }
        });
        let mut numbers = join_all(appends).await;
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=80).collect::<Vec<_>>());
        let mut jobs: Vec<_> = entries(&store).await.into_iter().map(|entry| entry.job_id).collect();
        jobs.sort();
        jobs.dedup();
        assert_eq!(jobs.len(), 80);
    }

    #[tokio::test]
    async fn manifest_that_may_be_recorded_is_appended_once() {
        let store = Arc::new(Store::in_memory());
        let first = log(&store, 1).append(&manifest(1), true).await.unwrap();
        let other = log(&store, 2);
        for number in 2..10 {
            other.append(&manifest(number), true).await.unwrap();
        }
        assert_eq!(other.append(&manifest(1), true).await.unwrap(), first);
        assert_eq!(entries(&store).await.len(), 9);
        // The same entry, whose creation succeeded but was not answered.
        let behind = log(&store, 1);
        *behind.head.lock().await = Some(LogHead { number: 0, hash: None });
        assert_eq!(behind.append(&manifest(1), false).await.unwrap(), first);
        assert_eq!(entries(&store).await.len(), 9);
    }

    #[tokio::test]
    async fn objects_of_strangers_do_not_stop_the_log() {
        let store = Arc::new(Store::in_memory());
        let log = log(&store, 1);
        log.append(&manifest(1), false).await.unwrap();
        assert!(store.create_log_entry(2, b"junk".to_vec()).await.unwrap());
        assert!(store.create_log_entry(4, vec![b' '; 1 << 20]).await.unwrap());
        assert_eq!(log.append(&manifest(2), false).await.unwrap().number, 3);
        assert_eq!(log.append(&manifest(3), false).await.unwrap().number, 5);
        let read = async |number| {
            let bytes = store.get_log_entry(number).await.unwrap().unwrap();
            LogEntryDocument::parse(&bytes).unwrap()
        };
        assert_eq!(read(3).await.previous, Some(Digest::hash_parts(&[b"junk"])));
        assert_eq!(read(5).await.previous, None);
    }

    #[tokio::test]
    async fn last_entry_is_found_at_any_length() {
        let store = Arc::new(Store::in_memory());
        for length in 0..40 {
            assert_eq!(log(&store, 1).find_head(0).await.unwrap().number, length);
            for known in 0..=length {
                assert_eq!(log(&store, 1).find_head(known).await.unwrap().number, length);
            }
            log(&store, 1).append(&manifest(length), false).await.unwrap();
        }
    }
}
