//! Headers of ustar entries: blocks of 512 bytes with the name and the size of a file. Everything
//! that would differ between machines is constant: owner, mode and time.

use std::ops::Range;

/// Size of a header, and of the unit in which files are stored.
pub const BLOCK: usize = 512;
/// Largest size that the header can state: 8 GiB.
pub const MAX_FILE_BYTES: u64 = (1 << 33) - 1;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const OWNERS: [Range<usize>; 2] = [108..116, 116..124];
const SIZE: Range<usize> = 124..136;
const TIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: usize = 156;
const MAGIC: Range<usize> = 257..265;
const PREFIX: Range<usize> = 345..500;
const REGULAR_FILE: u8 = b'0';
const USTAR: &[u8; 8] = b"ustar\x0000";

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveEntry {
    /// Path within the archive: components of `A–Z a–z 0–9 . _ -`, none beginning with a dot.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
}

impl ArchiveEntry {
    /// The header of this entry.
    ///
    /// # Errors
    /// The name or the size has no place in a header.
    pub fn encode(&self) -> Result<[u8; BLOCK], String> {
        let Self { name, size } = self;
        check_name(name)?;
        if *size > MAX_FILE_BYTES {
            return Err(format!(
                "{name} has {size} bytes, and a file of an archive at most {MAX_FILE_BYTES}"
            ));
        }
        let (prefix, rest) = split_name(name).ok_or_else(|| format!("the name {name} is too long"))?;
        let mut header = [0; BLOCK];
        let mut put = |field: Range<usize>, text: &str| {
            header[field.start..field.start + text.len()].copy_from_slice(text.as_bytes());
        };
        put(NAME, rest);
        put(MODE, "0000644");
        OWNERS.into_iter().for_each(|field| put(field, "0000000"));
        put(SIZE, &format!("{size:011o}"));
        put(TIME, "00000000000");
        put(PREFIX, prefix);
        header[TYPE] = REGULAR_FILE;
        header[MAGIC].copy_from_slice(USTAR);
        let checksum = format!("{:06o}\0 ", checksum(&header));
        header[CHECKSUM].copy_from_slice(checksum.as_bytes());
        Ok(header)
    }

    /// Reads a header; `None` for the block of zeros at the end of an archive.
    ///
    /// # Errors
    /// The header is damaged, or is that of something else than a regular file with a plain name.
    pub fn decode(header: &[u8; BLOCK]) -> Result<Option<Self>, String> {
        if header.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        if header[MAGIC] != *USTAR {
            return Err("a header is not that of a ustar archive".to_owned());
        }
        if read_octal(&header[CHECKSUM]) != Some(checksum(header)) {
            return Err("a header has a wrong checksum".to_owned());
        }
        let text = |field: Range<usize>| {
            let bytes = header[field].split(|&byte| byte == 0).next().unwrap_or_default();
            std::str::from_utf8(bytes).map_err(|_| "a name is not UTF-8".to_owned())
        };
        let (prefix, rest) = (text(PREFIX)?, text(NAME)?);
        let name = if prefix.is_empty() { rest.to_owned() } else { format!("{prefix}/{rest}") };
        check_name(&name)?;
        if header[TYPE] != REGULAR_FILE {
            return Err(format!("{name} is no regular file"));
        }
        let size =
            read_octal(&header[SIZE]).ok_or_else(|| format!("the size of {name} is no octal number"))?;
        Ok(Some(Self { name, size }))
    }
}

/// Whether a block is the header of a ustar archive, or looks like one.
pub fn is_header(block: &[u8]) -> bool {
    block.get(MAGIC).is_some_and(|magic| magic.starts_with(b"ustar"))
}

/// Number of zero bytes behind a file of this size, which fill its last block.
pub fn padding(size: u64) -> usize {
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

/// Splits a name at a slash into prefix and rest, if they fit into their fields.
fn split_name(name: &str) -> Option<(&str, &str)> {
    if name.len() <= NAME.len() {
        return Some(("", name));
    }
    let splits = name.match_indices('/').map(|(at, _)| (&name[..at], &name[at + 1..]));
    splits.into_iter().find(|(prefix, rest)| prefix.len() <= PREFIX.len() && rest.len() <= NAME.len())
}

/// Accepts names that lead nowhere outside of the folder that they are extracted to.
fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |component: &str| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        !component.is_empty() && !component.starts_with('.') && component.bytes().all(is_allowed)
    };
    if name.split('/').all(is_plain) { Ok(()) } else { Err(format!("the name {name:?} is not allowed")) }
}

/// The sum of the header's bytes, with spaces in place of the sum.
fn checksum(header: &[u8; BLOCK]) -> u64 {
    let byte = |(at, &byte): (usize, &u8)| u64::from(if CHECKSUM.contains(&at) { b' ' } else { byte });
    header.iter().enumerate().map(byte).sum()
}

/// An octal number that ends at a NUL or a space.
fn read_octal(field: &[u8]) -> Option<u64> {
    let digits = field.split(|byte| matches!(byte, 0 | b' ')).next()?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> ArchiveEntry {
        ArchiveEntry { name: name.to_owned(), size: 1234 }
    }

    #[test]
    fn headers_are_read_as_they_were_written() {
        let long = format!("store/artifacts/sha256/{}/{}", "0".repeat(64), "n".repeat(64));
        for name in ["a", "store/jobs/j-1/manifest.json", &long] {
            let header = entry(name).encode().unwrap();
            assert_eq!(ArchiveEntry::decode(&header), Ok(Some(entry(name))), "{name}");
        }
        assert_eq!(ArchiveEntry::decode(&[0; BLOCK]), Ok(None));
        assert_eq!([0, 1, 511, 512, 513].map(padding), [0, 511, 1, 0, 511]);
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", "/a", "a//b", "../a", "a/../b", "a/.b", ".", "a/", "a b", "a\\b", "é", "C:a"] {
            assert!(entry(name).encode().is_err(), "{name}");
            let mut header = entry("aaaaaaaa").encode().unwrap();
            header[NAME].fill(0);
            header[..name.len()].copy_from_slice(name.as_bytes());
            let sum = format!("{:06o}\0 ", checksum(&header));
            header[CHECKSUM].copy_from_slice(sum.as_bytes());
            assert!(ArchiveEntry::decode(&header).unwrap_err().contains("is not allowed"), "{name}");
        }
    }

    #[test]
    fn links_directories_and_damaged_headers_are_refused() {
        for kind in [b'1', b'2', b'3', b'5', b'x', b'g', b'L', b'K', 0] {
            let mut header = entry("a").encode().unwrap();
            header[TYPE] = kind;
            assert!(ArchiveEntry::decode(&header).unwrap_err().contains("wrong checksum"));
            let sum = format!("{:06o}\0 ", checksum(&header));
            header[CHECKSUM].copy_from_slice(sum.as_bytes());
            assert_eq!(ArchiveEntry::decode(&header), Err("a is no regular file".to_owned()));
        }
        let mut header = entry("a").encode().unwrap();
        header[MAGIC.start] = b'x';
        assert!(ArchiveEntry::decode(&header).is_err());
        let large = ArchiveEntry { name: "a".to_owned(), size: MAX_FILE_BYTES + 1 };
        assert!(large.encode().unwrap_err().contains("at most"));
    }
}
