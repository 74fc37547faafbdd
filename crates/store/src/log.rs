//! The objects of a bucket's log, `log/<number>.json` with a number of 20 digits, and lists of what
//! a store holds, for audits. This module does not look into entries.

use std::collections::{BTreeMap, BTreeSet};

use forge_contract::{ids::JobId, manifest_log::MAX_LOG_ENTRY_BYTES};
use futures_util::StreamExt;
use object_store::{ObjectStoreExt, PutMode};

use crate::{error::StoreError, jobs::JSON_MEDIA_TYPE, local_files, store::Store};

/// Folder of the entries.
const LOG_FOLDER: &str = "log";
/// Folder of the documents of jobs.
const JOBS_FOLDER: &str = "jobs";
/// Upper bound on the names that a list holds, so that a hostile store cannot exhaust memory.
const MAX_LISTED: usize = 16 << 20;

/// The objects below `log/`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogListing {
    /// Numbers of the entries.
    pub numbers: BTreeSet<u64>,
    /// Names of other objects, at most 16 of them.
    pub foreign: Vec<String>,
}

/// Upper bound on the names in [`LogListing::foreign`].
const MAX_FOREIGN_NAMES: usize = 16;

impl Store {
    /// Key of an entry of the log.
    pub fn log_entry_key(number: u64) -> String {
        format!("{LOG_FOLDER}/{number:020}.json")
    }

    /// Writes an entry of the log. Returns `false` if there is an object of this number.
    ///
    /// # Errors
    /// Returns the errors of a write.
    pub async fn create_log_entry(&self, number: u64, bytes: Vec<u8>) -> Result<bool, StoreError> {
        self.put(&Self::log_entry_key(number), bytes, JSON_MEDIA_TYPE, PutMode::Create).await
    }

    /// Reads an entry of the log; `None` if there is none of this number.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] when it is too large, [`StoreError::Corrupt`] when it is no
    /// regular file, or [`StoreError::Unavailable`].
    pub async fn get_log_entry(&self, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.read_object(&Self::log_entry_key(number), MAX_LOG_ENTRY_BYTES as u64).await
    }

    /// Whether the log has an object of this number, whatever its content.
    ///
    /// # Errors
    /// Returns the errors of a read.
    pub async fn has_log_entry(&self, number: u64) -> Result<bool, StoreError> {
        let key = Self::log_entry_key(number);
        if let Some(root) = &self.root {
            return local_files::exists(root, &key, &self.locate(&key));
        }
        match self.objects.head(&self.key(&key)?).await {
            Ok(_) => Ok(true),
            Err(error) if self.is_absent(&key, &error) => Ok(false),
            Err(error) => Err(self.store_error(&key, &error)),
        }
    }

    /// Lists the log.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] when the store has more objects than an audit can hold, or the
    /// errors of a read.
    pub async fn list_log(&self) -> Result<LogListing, StoreError> {
        let mut listing = LogListing::default();
        for (name, _) in self.list_folder(LOG_FOLDER).await? {
            match parse_entry_name(&name) {
                Some(number) => drop(listing.numbers.insert(number)),
                None if listing.foreign.len() < MAX_FOREIGN_NAMES => listing.foreign.push(name),
                None => {}
            }
        }
        Ok(listing)
    }

    /// Lists the jobs that have a manifest, or something else in its place.
    ///
    /// # Errors
    /// As [`Store::list_log`].
    pub async fn list_completed_jobs(&self) -> Result<BTreeSet<JobId>, StoreError> {
        let mut jobs = BTreeSet::new();
        for (name, has_manifest) in self.list_folder(JOBS_FOLDER).await? {
            let Ok(job) = name.parse() else { continue };
            let is_complete = match &self.root {
                // A link in place of the job's directory counts: reading the manifest refuses it.
                Some(root) => {
                    let key = Self::manifest_key(&job);
                    local_files::exists(root, &key, &self.locate(&key)).unwrap_or(true)
                }
                None => has_manifest,
            };
            if is_complete {
                jobs.insert(job);
            }
        }
        Ok(jobs)
    }

    /// Names in a folder. In a bucket, each with whether there is an object `manifest.json` below
    /// it.
    async fn list_folder(&self, folder: &str) -> Result<BTreeMap<String, bool>, StoreError> {
        let too_many = || StoreError::Malformed {
            path: self.locate(folder),
            reason: format!("it holds more than {MAX_LISTED} objects"),
        };
        let mut names = BTreeMap::new();
        if let Some(root) = &self.root {
            let listed = match local_files::list(root, folder, &self.locate(folder), MAX_LISTED + 1) {
                Err(StoreError::Missing { .. }) => Vec::new(),
                listed => listed?,
            };
            if listed.len() > MAX_LISTED {
                return Err(too_many());
            }
            // No object has the name of a staging file.
            names.extend(listed.into_iter().filter(|name| !name.contains('#')).map(|name| (name, false)));
            return Ok(names);
        }
        let folder_key = self.key(folder)?;
        let mut objects = self.objects.list(Some(&folder_key));
        while let Some(object) = objects.next().await {
            let location = object.map_err(|error| self.store_error(folder, &error))?.location;
            let Some(rest) = location.as_ref().strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'))
            else {
                continue;
            };
            let (name, below) = rest.split_once('/').unwrap_or((rest, ""));
            if names.len() == MAX_LISTED {
                return Err(too_many());
            }
            *names.entry(name.to_owned()).or_default() |= below == "manifest.json";
        }
        Ok(names)
    }
}

/// Number of the entry with this file name.
fn parse_entry_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".json")?;
    let number = digits.parse().ok()?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_named_by_numbers_of_20_digits() {
        let key = Store::log_entry_key(17);
        assert_eq!(key, "log/00000000000000000017.json");
        assert_eq!(parse_entry_name("00000000000000000017.json"), Some(17));
        for name in ["17.json", "0000000000000000001x.json", "+0000000000000000017.json", "x", ""] {
            assert_eq!(parse_entry_name(name), None, "{name}");
        }
        assert_eq!(parse_entry_name("99999999999999999999.json"), None);
    }
}
