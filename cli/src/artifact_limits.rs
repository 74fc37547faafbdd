//! Upper bounds on the sizes of artifacts. A manifest may come from an attacker, so its sizes are
//! checked before anything is read into memory.

use forge_contract::{artifact::ArtifactReference, strict::MAX_DOCUMENT_BYTES};
use forge_documents::document::{ENVELOPE_JSON, EXECUTIONS_JSON, VERIFICATION_JSON};
use forge_store::shards_file;

/// Upper bound on a job's shards, for the sizes below.
const MAX_SHARDS: u64 = 1 << 20;
/// Bound for documents that do not grow with the number of shards.
const MAX_FIXED_BYTES: u64 = 16 << 20;
/// Bound for one execution in executions.json. A typical one has 600 bytes.
const MAX_EXECUTION_BYTES: u64 = 2 << 10;
/// Bound for what verification.json holds for one shard.
const MAX_VERIFICATION_BYTES: u64 = 4 << 10;

/// Largest size of an artifact with this name, for a job of this many shards.
pub fn max_bytes(name: &str, shards: u64) -> u64 {
    let shards = shards.min(MAX_SHARDS);
    match name {
        ENVELOPE_JSON => MAX_DOCUMENT_BYTES as u64,
        EXECUTIONS_JSON => MAX_FIXED_BYTES + shards * MAX_EXECUTION_BYTES,
        VERIFICATION_JSON => MAX_FIXED_BYTES + shards * MAX_VERIFICATION_BYTES,
        shards_file::FILE_NAME => MAX_FIXED_BYTES + shards * shards_file::MAX_RESULT_BYTES,
        _ => MAX_FIXED_BYTES,
    }
}

/// Checks the size that a manifest states for an artifact of a job of this many shards.
///
/// # Errors
/// A sentence that names the artifact and both sizes.
pub fn check(reference: &ArtifactReference, shards: u64) -> Result<(), String> {
    let (name, size, max) = (&reference.name, reference.size, max_bytes(&reference.name, shards));
    if size <= max {
        return Ok(());
    }
    Err(format!("the manifest states {size} bytes for {name}, and it can have at most {max}"))
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
