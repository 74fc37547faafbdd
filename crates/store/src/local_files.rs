//! Files of a store in a directory: opens them for reading, and checks the way to them. The
//! directory's content may be an attacker's, so nothing below the root is followed, and nothing is
//! opened that is not a regular file: a link could lead to a file outside the store, and a pipe or
//! a device could block the reader for ever.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use crate::error::StoreError;

/// Why a file below a store's root was not opened.
#[derive(Debug)]
enum FileOpenError {
    Io(io::Error),
    /// Something other than a regular file, or a directory on the way to it, has the name.
    Irregular(&'static str),
}

impl From<io::Error> for FileOpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Opens the file of an object and returns it with its size. `path` is the object's name in
/// messages.
pub(crate) fn open(root: &Path, key: &str, path: &str) -> Result<(File, u64), StoreError> {
    let opened = open_regular(root, key).and_then(|file| {
        let size = file.metadata()?.len();
        Ok((file, size))
    });
    opened.map_err(|error| to_store_error(path, error))
}

fn to_store_error(path: &str, error: FileOpenError) -> StoreError {
    match error {
        FileOpenError::Io(error) => StoreError::from_io(path, &error),
        FileOpenError::Irregular(found) => StoreError::Corrupt {
            path: path.to_owned(),
            reason: format!("{found} is in its place, and a store has only directories and regular files"),
        },
    }
}

/// Whether anything has the name of an object: a file, or what may be in its place. `path` is the
/// object's name in messages.
pub(crate) fn exists(root: &Path, key: &str, path: &str) -> Result<bool, StoreError> {
    check_directories(root, key, path)?;
    match fs::symlink_metadata(root.join(key)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::from_io(path, &error)),
    }
}

/// Checks before a write that no directory on the way to an object is a link, which would lead the
/// write out of the store. `path` is the object's name in messages.
pub(crate) fn check_directories(root: &Path, key: &str, path: &str) -> Result<(), StoreError> {
    let mut directory = root.to_owned();
    let Some((parents, _)) = key.rsplit_once('/') else { return Ok(()) };
    for name in parents.split('/') {
        directory.push(name);
        if fs::symlink_metadata(&directory).is_ok_and(|found| found.is_symlink()) {
            let reason = format!("{} is a symbolic link", directory.display());
            return Err(StoreError::Unusable { path: path.to_owned(), reason });
        }
    }
    Ok(())
}

/// Names in the directory with this key, at most `max` of them, in the order of the file system.
/// `path` is the directory's name in messages.
pub(crate) fn list(root: &Path, key: &str, path: &str, max: usize) -> Result<Vec<String>, StoreError> {
    names(root, key, max).map_err(|error| to_store_error(path, error))
}

#[cfg(unix)]
fn names(root: &Path, key: &str, max: usize) -> Result<Vec<String>, FileOpenError> {
    use rustix::fs::{Dir, FileType};

    let directory = open_as(root, key, FileType::Directory)?;
    let entries = Dir::read_from(&directory).map_err(|error| FileOpenError::Io(error.into()))?;
    let names = entries.map(|entry| {
        let entry = entry.map_err(|error| FileOpenError::Io(error.into()))?;
        Ok(entry.file_name().to_string_lossy().into_owned())
    });
    let is_entry = |name: &Result<String, FileOpenError>| !matches!(name.as_deref(), Ok("." | ".."));
    names.filter(is_entry).take(max).collect()
}

#[cfg(not(unix))]
fn names(root: &Path, key: &str, max: usize) -> Result<Vec<String>, FileOpenError> {
    let entries = fs::read_dir(root.join(key))?.take(max);
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

#[cfg(unix)]
fn open_regular(root: &Path, key: &str) -> Result<File, FileOpenError> {
    open_as(root, key, rustix::fs::FileType::RegularFile).map(File::from)
}

/// Opens what has this key if it has this type.
#[cfg(unix)]
fn open_as(
    root: &Path,
    key: &str,
    file_type: rustix::fs::FileType,
) -> Result<rustix::fd::OwnedFd, FileOpenError> {
    use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, openat, statat};

    let errno = |error: rustix::io::Errno| FileOpenError::Io(error.into());
    let directory_flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut directory = openat(CWD, root, directory_flags, Mode::empty()).map_err(errno)?;
    let mut names = key.split('/').peekable();
    while let Some(name) = names.next() {
        let expected = if names.peek().is_some() { FileType::Directory } else { file_type };
        // Checked before it is opened, because opening a device can have effects, and again
        // afterwards, because it may have been replaced in the meantime.
        let before = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(errno)?;
        let checked = |mode| match FileType::from_raw_mode(mode) {
            found if found == expected => Ok(()),
            found => Err(FileOpenError::Irregular(describe(found))),
        };
        checked(before.st_mode)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = openat(&directory, name, flags, Mode::empty()).map_err(errno)?;
        checked(fstat(&opened).map_err(errno)?.st_mode)?;
        directory = opened;
    }
    Ok(directory)
}

#[cfg(unix)]
fn describe(found: rustix::fs::FileType) -> &'static str {
    use rustix::fs::FileType;
    match found {
        FileType::Symlink => "a symbolic link",
        FileType::Directory => "a directory",
        FileType::RegularFile => "a file",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        _ => "a device",
    }
}

#[cfg(not(unix))]
fn open_regular(root: &Path, key: &str) -> Result<File, FileOpenError> {
    let mut path = root.to_owned();
    let mut names = key.split('/').peekable();
    while let Some(name) = names.next() {
        path.push(name);
        let found = fs::symlink_metadata(&path)?;
        if found.is_symlink() {
            return Err(FileOpenError::Irregular("a symbolic link"));
        }
        if names.peek().is_some() && !found.is_dir() {
            return Err(FileOpenError::Irregular("a file"));
        }
        if names.peek().is_none() && !found.is_file() {
            return Err(FileOpenError::Irregular("a directory"));
        }
    }
    Ok(File::open(path)?)
}
