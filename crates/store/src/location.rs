//! Location of a store as users write it: `s3://bucket/prefix`, a directory, or `memory:`. Parses
//! and formats text only; `open` opens stores.

use std::{ffi::OsString, fmt, path::PathBuf, str::FromStr};

use object_store::path::Path as Key;

/// Location of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreLocation {
    /// `memory:`: the memory of this process. Every call that opens it creates a new, empty store.
    Memory,
    /// A local directory.
    Directory(PathBuf),
    /// `s3://bucket` or `s3://bucket/prefix`.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// Prefix of all keys, without a slash at either end; empty for the whole bucket.
        prefix: String,
    },
}

/// Error: the text is not a store location. The message never repeats text that may be a
/// credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidStoreLocation(String);

impl FromStr for StoreLocation {
    type Err = InvalidStoreLocation;

    fn from_str(text: &str) -> Result<Self, InvalidStoreLocation> {
        let reject = |reason: &str| Err(InvalidStoreLocation(reason.to_owned()));
        if text.is_empty() {
            return reject("the store location is empty: write s3://bucket/prefix, a directory, or memory:");
        }
        if text == "memory:" {
            return Ok(Self::Memory);
        }
        match text.split_once("://") {
            Some(("s3", rest)) => parse_s3(rest),
            None if text.get(..3).is_some_and(|scheme| scheme.eq_ignore_ascii_case("s3:")) => reject(
                "the location of a bucket starts with s3://; write ./ before a directory of such a name",
            ),
            Some((scheme, _)) => Err(InvalidStoreLocation(format!(
                "{scheme}:// is not a supported store location: write s3://bucket/prefix, a directory, or memory:"
            ))),
            None => Ok(Self::Directory(PathBuf::from(text))),
        }
    }
}

impl StoreLocation {
    /// Parses a location as the operating system passes it. One that is not UTF-8 is a directory.
    ///
    /// # Errors
    /// [`InvalidStoreLocation`] as for any text.
    pub fn from_os_string(text: OsString) -> Result<Self, InvalidStoreLocation> {
        text.into_string().map_or_else(|path| Ok(Self::Directory(path.into())), |text| text.parse())
    }
}

fn parse_s3(rest: &str) -> Result<StoreLocation, InvalidStoreLocation> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.contains(['@', ':']) {
        return Err(InvalidStoreLocation(
            "s3:// must be followed by a bucket name only: credentials and endpoint come from AWS_ACCESS_KEY_ID, \
             AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL"
                .to_owned(),
        ));
    }
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let ends_well = !bucket.starts_with(['-', '.']) && !bucket.ends_with(['-', '.']);
    if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(allowed) || !ends_well {
        return Err(InvalidStoreLocation(format!(
            "{bucket:?} is not a valid bucket name: use 3 to 63 of the characters a-z, 0-9, - and ., with a letter or \
             a digit at both ends"
        )));
    }
    let prefix = prefix.trim_end_matches('/');
    match Key::parse(prefix) {
        Ok(key) if key.as_ref() == prefix => {
            Ok(StoreLocation::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
        }
        _ => Err(InvalidStoreLocation(format!(
            "{prefix:?} is not a valid key prefix: separate its parts with single slashes, and do not use . or .."
        ))),
    }
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Directory(path) => path.display().fmt(f),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_display_as_they_are_written() {
        for text in ["memory:", "s3://bucket", "s3://bucket.x-1/a/b c", "forge-out", "/var/lib/forge", "./s3"]
        {
            assert_eq!(text.parse::<StoreLocation>().unwrap().to_string(), text);
        }
        let expected = StoreLocation::S3 { bucket: "bucket".to_owned(), prefix: "a/b".to_owned() };
        assert_eq!("s3://bucket/a/b/".parse(), Ok(expected));
        assert_eq!("s3://bucket/".parse::<StoreLocation>().unwrap().to_string(), "s3://bucket");
    }

    #[test]
    fn invalid_locations_are_rejected_with_the_reason() {
        let error = |text: &str| text.parse::<StoreLocation>().unwrap_err().to_string();
        assert!(error("").contains("empty"));
        assert!(error("gs://bucket").contains("gs:// is not a supported store location"));
        for text in ["s3:/bucket", "S3:bucket", "s3:"] {
            assert!(error(text).contains("starts with s3://"), "{text}");
        }
        for text in ["s3://", "s3://ab", "s3://Bucket", "s3://-bucket", "s3://bucket.", "s3://buc_ket"] {
            assert!(error(text).contains("is not a valid bucket name"), "{text}");
        }
        for text in ["s3://bucket/a//b", "s3://bucket//a", "s3://bucket/../a", "s3://bucket/a/./b"] {
            assert!(error(text).contains("single slashes"), "{text}");
        }
        let secret = error("s3://key:hunter2@bucket/x");
        assert!(secret.contains("AWS_SECRET_ACCESS_KEY") && !secret.contains("hunter2"), "{secret}");
    }
}
