//! The store of an archive, extracted to a temporary directory. Everything in an archive may be an
//! attacker's: only regular files with plain names are accepted, each once, and none larger than an
//! audit of a directory would read.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    path::Path,
};

use anyhow::Context;
use forge_contract::ids::JobId;
use forge_store::StoreLocation;
use tempfile::TempDir;

use super::{
    STORE_FOLDER,
    header::{ArchiveEntry, BLOCK, is_header, padding},
};
use crate::{artifact_limits, error::CommandError, stored_job::JobLocation};

/// Largest number of files in an archive. One of a job has some 50.
const MAX_FILES: usize = 1000;

/// An extracted archive, whose directory is removed on drop.
pub struct ExtractedArchive {
    directory: TempDir,
    job: JobId,
}

impl ExtractedArchive {
    /// Extracts an archive; `None` if the path is that of something else.
    ///
    /// # Errors
    /// [`CommandError::Mismatch`] if the archive is damaged or has entries that are not allowed,
    /// [`CommandError::Input`] if it holds no job.
    pub fn open(path: &Path) -> Result<Option<Self>, CommandError> {
        let Some(reader) = open_archive(path) else { return Ok(None) };
        let shown = path.display();
        let directory =
            TempDir::with_prefix("forge-audit-").context("cannot create a temporary directory")?;
        let jobs = extract(reader, directory.path()).map_err(|problem| match problem {
            ArchiveProblem::Wrong(reason) => {
                CommandError::Mismatch(format!("{shown} is no intact archive of a job: {reason}"))
            }
            ArchiveProblem::Failed(error) => CommandError::Other(error),
        })?;
        match jobs.as_slice() {
            [job] => Ok(Some(Self { directory, job: job.clone() })),
            jobs => Err(CommandError::Input(format!(
                "{shown} is no archive of `forge export`: it has {} manifests in {STORE_FOLDER}/jobs",
                jobs.len()
            ))),
        }
    }

    /// Where the job is.
    pub fn location(&self) -> JobLocation {
        let root = self.directory.path().join(STORE_FOLDER);
        JobLocation::in_store(StoreLocation::Directory(root), self.job.clone())
    }
}

/// Why an archive was not extracted.
enum ArchiveProblem {
    /// It is damaged, or not one that `forge export` writes.
    Wrong(String),
    /// It could not be read, or its files not be written.
    Failed(anyhow::Error),
}

impl From<String> for ArchiveProblem {
    fn from(reason: String) -> Self {
        Self::Wrong(reason)
    }
}

/// Opens a file that begins as an archive.
fn open_archive(path: &Path) -> Option<BufReader<File>> {
    let mut block = [0; BLOCK];
    let begins_as_archive = path.is_file()
        && File::open(path).is_ok_and(|mut file| file.read_exact(&mut block).is_ok())
        && is_header(&block);
    begins_as_archive.then(|| File::open(path).ok().map(BufReader::new))?
}

/// Extracts the files of the store. Returns the jobs that have a manifest.
fn extract(mut reader: impl Read, directory: &Path) -> Result<Vec<JobId>, ArchiveProblem> {
    let mut jobs = Vec::new();
    for _ in 0..MAX_FILES {
        let mut header = [0; BLOCK];
        read_exact(&mut reader, &mut header)?;
        let Some(entry) = ArchiveEntry::decode(&header)? else { return Ok(jobs) };
        let mut content = reader.by_ref().take(entry.size);
        if entry.name.starts_with(&format!("{STORE_FOLDER}/")) {
            jobs.extend(job_of_manifest(&entry.name));
            extract_file(&entry, &mut content, directory)?;
        } else {
            copy(&mut content, &mut io::sink(), &entry.name)?;
        }
        if content.limit() > 0 {
            return Err(ArchiveProblem::Wrong(format!("it ends within {}", entry.name)));
        }
        read_exact(&mut reader, &mut [0; BLOCK][..padding(entry.size)])?;
    }
    Err(ArchiveProblem::Wrong(format!("it has more than {MAX_FILES} files")))
}

fn extract_file(
    entry: &ArchiveEntry,
    content: &mut impl Read,
    directory: &Path,
) -> Result<(), ArchiveProblem> {
    let ArchiveEntry { name, size } = entry;
    let file_name = name.rsplit('/').next().unwrap_or(name);
    // The shards of the job are not known yet; the audit compares with them too.
    let max = artifact_limits::max_bytes(file_name, u64::MAX);
    if *size > max {
        return Err(ArchiveProblem::Wrong(format!("{name} has {size} bytes, and can have at most {max}")));
    }
    let path = directory.join(name);
    let parent = path.parent().unwrap_or(directory);
    let create = || fs::create_dir_all(parent).and_then(|()| File::create_new(&path));
    let mut file = create().map_err(|error| match error.kind() {
        // Of names that differ in case only too, where the file system does not tell them apart.
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            ArchiveProblem::Wrong(format!("{name} is there twice"))
        }
        _ => ArchiveProblem::Failed(anyhow::Error::new(error).context(format!("cannot extract {name}"))),
    })?;
    copy(content, &mut file, name)
}

fn copy(content: &mut impl Read, output: &mut impl io::Write, name: &str) -> Result<(), ArchiveProblem> {
    let copied = io::copy(content, output).with_context(|| format!("cannot extract {name}"));
    copied.map(drop).map_err(ArchiveProblem::Failed)
}

fn read_exact(reader: &mut impl Read, buffer: &mut [u8]) -> Result<(), ArchiveProblem> {
    reader.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ArchiveProblem::Wrong("it ends too early".to_owned()),
        _ => ArchiveProblem::Failed(anyhow::Error::new(error).context("cannot read the archive")),
    })
}

/// The job whose manifest has this name.
fn job_of_manifest(name: &str) -> Option<JobId> {
    let job = name.strip_prefix(STORE_FOLDER)?.strip_prefix("/jobs/")?.strip_suffix("/manifest.json")?;
    job.parse().ok()
}
