//! Reads the log of a store and compares it with the jobs there. Collects what is wrong by kind;
//! the store may be an attacker's.

use std::collections::{BTreeMap, BTreeSet};

use forge_contract::{
    ids::JobId,
    manifest_log::{LogChain, LogEntryDocument, LogFault, LogPosition},
};
use forge_store::{LogListing, Store, StoreError, StoredManifest};
use futures_util::{StreamExt, TryStreamExt, stream};

/// Number of objects that are read at once.
const CONCURRENT_READS: usize = 16;
/// Examples of a kind of fault that are described.
const MAX_EXAMPLES: usize = 3;

/// Faults of one kind: how many, and a description of the first ones.
#[derive(Debug, Default)]
pub struct LogFindings {
    count: usize,
    examples: Vec<String>,
}

impl LogFindings {
    fn add(&mut self, description: String) {
        self.count += 1;
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(description);
        }
    }

    /// A sentence; `None` if there are none.
    pub fn describe(&self) -> Option<String> {
        let more = match self.count - self.examples.len() {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        (self.count > 0).then(|| format!("{}{more}", self.examples.join("; ")))
    }
}

/// What an audit found in a log.
#[derive(Debug, Default)]
pub struct LogWalk {
    /// Number of objects in the log.
    pub objects: u64,
    /// Number of jobs with a manifest.
    pub jobs: u64,
    /// Number of entries whose manifest another entry recorded before.
    pub repeated: u64,
    /// The end of the log; `None` if it is empty or its last object cannot be read.
    pub head: Option<LogPosition>,
    /// The largest number of an object.
    pub last_number: u64,
    /// Position of the entry with the number that was asked for.
    pub asked: Option<LogPosition>,
    /// The keys that signed entries.
    pub signers: BTreeSet<String>,
    /// Missing entries, and objects that are no entries by their names.
    pub gaps: LogFindings,
    /// Objects that are no entries by their content.
    pub malformed: LogFindings,
    /// Entries that do not follow the ones before.
    pub broken_links: LogFindings,
    /// Entries with wrong signatures.
    pub wrong_signatures: LogFindings,
    /// Manifests that are missing or not the recorded ones.
    pub wrong_manifests: LogFindings,
    /// Jobs without an entry.
    pub unrecorded_jobs: LogFindings,
}

/// The manifest of a job, or why it cannot be read; `None` if there is none.
type ManifestState = Result<Option<StoredManifest>, String>;

impl LogWalk {
    /// Reads the whole log and the manifest of every job that it names. `asked` is the number of an
    /// entry whose position is wanted.
    ///
    /// # Errors
    /// The store cannot be read. What an attacker may have put there is not an error.
    pub async fn read(store: &Store, asked: Option<u64>) -> Result<Self, StoreError> {
        // Jobs come first: an aggregator stores the manifest before the entry, so that a job that
        // is completed during the audit is not taken for one without an entry.
        let jobs = store.list_completed_jobs().await?;
        let LogListing { numbers, foreign } = store.list_log().await?;
        let mut walk = Self {
            objects: numbers.len() as u64,
            jobs: jobs.len() as u64,
            last_number: numbers.last().copied().unwrap_or(0),
            ..Self::default()
        };
        foreign.iter().for_each(|name| walk.gaps.add(format!("log/{name} is not an entry")));
        let entries = walk.read_entries(store, &numbers, asked).await?;
        walk.compare_manifests(store, &entries).await?;
        let recorded: BTreeSet<_> = entries.iter().map(|(_, entry)| &entry.job_id).collect();
        for job in jobs.iter().filter(|job| !recorded.contains(job)) {
            walk.unrecorded_jobs.add(format!("job {job} has no entry"));
        }
        Ok(walk)
    }

    async fn read_entries(
        &mut self,
        store: &Store,
        numbers: &BTreeSet<u64>,
        asked: Option<u64>,
    ) -> Result<Vec<(u64, LogEntryDocument)>, StoreError> {
        let reads = numbers.iter().map(|&number| async move {
            let object = match store.get_log_entry(number).await {
                Ok(Some(bytes)) => Ok(bytes),
                Ok(None) => Err("it was removed during the audit".to_owned()),
                Err(error) => Err(describe_damage(error)?),
            };
            Ok((number, object))
        });
        let mut objects = stream::iter(reads).buffered(CONCURRENT_READS);
        let (mut chain, mut entries) = (LogChain::new(), Vec::new());
        while let Some((number, object)) = objects.try_next().await? {
            let (entry, faults) = chain.check(number, object.as_deref().map_err(String::as_str));
            faults.into_iter().for_each(|fault| self.add_fault(number, &fault));
            if asked == Some(number) {
                self.asked = chain.position();
            }
            if let Some(entry) = entry {
                self.signers.insert(entry.signer.to_string());
                entries.push((number, entry));
            }
        }
        self.head = chain.position();
        Ok(entries)
    }

    fn add_fault(&mut self, number: u64, fault: &LogFault) {
        let findings = match fault {
            LogFault::Gap { .. } => &mut self.gaps,
            LogFault::Unreadable(_) | LogFault::Malformed(_) | LogFault::WrongNumber(_) => {
                &mut self.malformed
            }
            LogFault::BrokenLink { .. } => &mut self.broken_links,
            LogFault::InvalidSignature => &mut self.wrong_signatures,
        };
        findings.add(format!("entry {number} {fault}"));
    }

    async fn compare_manifests(
        &mut self,
        store: &Store,
        entries: &[(u64, LogEntryDocument)],
    ) -> Result<(), StoreError> {
        let manifests = read_manifests(store, entries).await?;
        let mut recorded = BTreeSet::new();
        for (number, entry) in entries {
            if !recorded.insert((&entry.job_id, entry.manifest)) {
                self.repeated += 1;
                continue;
            }
            if let Some(difference) = describe_difference(entry, &manifests[&entry.job_id]) {
                let job = &entry.job_id;
                self.wrong_manifests
                    .add(format!("entry {number} records a manifest of job {job}, {difference}"));
            }
        }
        Ok(())
    }
}

/// How the manifest of a job differs from the one that an entry records.
fn describe_difference(entry: &LogEntryDocument, manifest: &ManifestState) -> Option<String> {
    match manifest {
        Ok(None) => Some("which is missing".to_owned()),
        Err(reason) => Some(format!("which cannot be read: {reason}")),
        Ok(Some(stored)) if stored.sha256 != entry.manifest => {
            Some(format!("{}, but there is another one, {}", entry.manifest, stored.sha256))
        }
        Ok(Some(stored)) if stored.document.job_uid != entry.job_uid => {
            Some(format!("which has the uid {}, not {}", stored.document.job_uid, entry.job_uid))
        }
        Ok(Some(_)) => None,
    }
}

async fn read_manifests(
    store: &Store,
    entries: &[(u64, LogEntryDocument)],
) -> Result<BTreeMap<JobId, ManifestState>, StoreError> {
    let jobs: BTreeSet<_> = entries.iter().map(|(_, entry)| &entry.job_id).collect();
    let reads = jobs.into_iter().map(|job| async move {
        let manifest = match store.get_stored_manifest(job).await {
            Ok(manifest) => Ok(manifest),
            Err(error) => Err(describe_damage(error)?),
        };
        Ok((job.clone(), manifest))
    });
    stream::iter(reads).buffer_unordered(CONCURRENT_READS).try_collect().await
}

/// Describes an object that is damaged or not what it should be. Any other error is the store's.
fn describe_damage(error: StoreError) -> Result<String, StoreError> {
    match error {
        StoreError::Malformed { .. } | StoreError::Corrupt { .. } => Ok(error.to_string()),
        other => Err(other),
    }
}
