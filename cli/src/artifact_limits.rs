//! Upper bounds on the sizes of artifacts. A manifest may come from an attacker, so its sizes are
//! checked before anything is read into memory.

use forge_contract::{artifact::ArtifactReference, strict::MAX_DOCUMENT_BYTES};
use forge_documents::{
    document::{ENVELOPE_JSON, EXECUTIONS_JSON, METRICS_JSON, PLAN_JSON, RESULT_JSON, VERIFICATION_JSON},
    number_format::format_count,
};
use forge_store::shards_file;

/// Upper bound on a job's shards, for the sizes below.
const MAX_SHARDS: u64 = 1 << 20;
/// Bound for documents that do not grow with the number of shards, and for what the others hold
/// besides their shards. They repeat the args, and have a few hundred figures.
const MAX_FIXED_BYTES: u64 = 16 << 20;
/// Bound for those of them that are parsed as JSON of any shape, which needs up to a hundred times
/// their size in memory.
const MAX_JSON_BYTES: u64 = 2 << 20;
/// Bound for one execution in executions.json. A typical one has 600 bytes.
const MAX_EXECUTION_BYTES: u64 = 2 << 10;
/// Bound for what verification.json holds for one shard.
const MAX_VERIFICATION_BYTES: u64 = 4 << 10;
/// Largest documents that are read into memory, whatever the number of shards: the executions of
/// some 400,000 shards, and the verification of some 70,000.
const MAX_EXECUTIONS_IN_MEMORY: u64 = 256 << 20;
const MAX_VERIFICATION_IN_MEMORY: u64 = 64 << 20;

/// Largest size of an artifact with this name, for a job of this many shards.
pub fn max_bytes(name: &str, shards: u64) -> u64 {
    let shards = shards.min(MAX_SHARDS);
    match name {
        ENVELOPE_JSON => MAX_DOCUMENT_BYTES as u64,
        EXECUTIONS_JSON => MAX_FIXED_BYTES + shards * MAX_EXECUTION_BYTES,
        VERIFICATION_JSON => MAX_FIXED_BYTES + shards * MAX_VERIFICATION_BYTES,
        RESULT_JSON | METRICS_JSON | PLAN_JSON => MAX_JSON_BYTES,
        shards_file::FILE_NAME => MAX_FIXED_BYTES + shards * shards_file::MAX_RESULT_BYTES,
        _ => MAX_FIXED_BYTES,
    }
}

/// An artifact that is too large.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OversizedArtifact {
    /// The manifest states a size that no such artifact has.
    #[error("the manifest states {size} bytes for {name}, and it can have at most {max}")]
    Implausible {
        /// Name of the artifact.
        name: String,
        /// Its size in bytes, as the manifest states it.
        size: u64,
        /// Largest size of such an artifact in bytes.
        max: u64,
    },
    /// The artifact does not fit in memory.
    #[error(
        "{name} has {} bytes, and at most {} are read into memory", format_count(*size), format_count(*max)
    )]
    TooLargeForMemory {
        /// Name of the artifact.
        name: String,
        /// Its size in bytes.
        size: u64,
        /// Largest size that is read, in bytes.
        max: u64,
    },
}

/// Checks the size that a manifest states for an artifact of a job of this many shards.
///
/// # Errors
/// [`OversizedArtifact::Implausible`].
pub fn check(reference: &ArtifactReference, shards: u64) -> Result<(), OversizedArtifact> {
    let (size, max) = (reference.size, max_bytes(&reference.name, shards));
    if size <= max {
        return Ok(());
    }
    Err(OversizedArtifact::Implausible { name: reference.name.clone(), size, max })
}

/// Checks that an artifact of an acceptable size also fits in memory.
///
/// # Errors
/// [`OversizedArtifact::TooLargeForMemory`].
pub fn check_memory(reference: &ArtifactReference) -> Result<(), OversizedArtifact> {
    let size = reference.size;
    let max = match reference.name.as_str() {
        EXECUTIONS_JSON => MAX_EXECUTIONS_IN_MEMORY,
        VERIFICATION_JSON => MAX_VERIFICATION_IN_MEMORY,
        _ => return Ok(()),
    };
    if size <= max {
        return Ok(());
    }
    Err(OversizedArtifact::TooLargeForMemory { name: reference.name.clone(), size, max })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_follow_the_number_of_shards_up_to_a_bound() {
        assert_eq!(max_bytes("report.html", 1), max_bytes("report.html", u64::MAX));
        assert!(max_bytes(EXECUTIONS_JSON, 1000) > max_bytes(EXECUTIONS_JSON, 10));
        assert_eq!(max_bytes(EXECUTIONS_JSON, MAX_SHARDS), max_bytes(EXECUTIONS_JSON, u64::MAX));
    }
}
