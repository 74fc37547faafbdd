//! The key of a job: it determines which shards are verified, and lets its holders recognise the
//! task ids that were issued.
//!
//! Workers never see the key while the job runs, so they can neither predict the selection nor
//! invent a task id. The job's record commits to the key before any shard is dispatched, and the
//! manifest reveals it, so an auditor can repeat the selection. All codes are HMAC-SHA-256 (RFC
//! 2104, FIPS 180-4) with a domain string of their own.

use std::fmt;

use forge_contract::{
    digest::Digest,
    ids::{JobUid, TaskId},
    shard::ShardId,
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of a task id that are the nonce; the rest is the code.
pub const NONCE_BYTES: usize = 16;

/// The key of a job: 32 random bytes. Its `Debug` output omits them.
#[derive(Clone, PartialEq, Eq)]
pub struct JobKey([u8; 32]);

impl fmt::Debug for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JobKey(..)")
    }
}

impl From<[u8; 32]> for JobKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl JobKey {
    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The commitment to the key: SHA-256 of `forge/v1/job-key`, NUL, the uid as text, NUL, and the
    /// key.
    pub fn commitment(&self, uid: JobUid) -> Digest {
        Digest::hash_parts(&[format!("forge/v1/job-key\0{uid}\0").as_bytes(), &self.0])
    }

    /// The id of one hand-out of a shard: the nonce, followed by the first 16 bytes of the HMAC of
    /// `forge/v1/task`, NUL, uid, NUL, shard id, NUL, and the nonce. `nonce` must be random, so
    /// that no two hand-outs have one id.
    pub fn issue_task(&self, uid: JobUid, shard: ShardId, nonce: [u8; NONCE_BYTES]) -> TaskId {
        let code = self.task_code(uid, shard, &nonce).finalize().into_bytes();
        let mut id = [0; 32];
        id[..NONCE_BYTES].copy_from_slice(&nonce);
        id[NONCE_BYTES..].copy_from_slice(&code[..NONCE_BYTES]);
        TaskId(id)
    }

    /// Whether the id was issued for this shard of this job.
    pub fn is_issued(&self, uid: JobUid, shard: ShardId, task: TaskId) -> bool {
        let (nonce, code) = task.0.split_at(NONCE_BYTES);
        self.task_code(uid, shard, nonce).verify_truncated_left(code).is_ok()
    }

    fn task_code(&self, uid: JobUid, shard: ShardId, nonce: &[u8]) -> Hmac<Sha256> {
        self.hmac(&[format!("forge/v1/task\0{uid}\0{shard}\0").as_bytes(), nonce])
    }

    /// A shard's pseudo-random rank in its job: the HMAC of `forge/v1/verify`, NUL, uid, NUL, and
    /// shard id. The shards of lowest rank are verified.
    pub fn selection_rank(&self, uid: JobUid, shard: ShardId) -> [u8; 32] {
        self.hmac(&[format!("forge/v1/verify\0{uid}\0{shard}").as_bytes()]).finalize().into_bytes().into()
    }

    fn hmac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC accepts a key of any length");
        parts.iter().for_each(|part| mac.update(part));
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: JobUid = JobUid([1; 16]);
    const SHARD: ShardId = ShardId { height: 0, index: 3 };

    #[test]
    fn a_task_id_is_known_only_for_its_job_and_shard() {
        let key = JobKey::from([7; 32]);
        let task = key.issue_task(UID, SHARD, [9; 16]);
        assert!(key.is_issued(UID, SHARD, task));
        assert!(!key.is_issued(JobUid([2; 16]), SHARD, task));
        assert!(!key.is_issued(UID, ShardId { height: 0, index: 4 }, task));
        assert!(!JobKey::from([8; 32]).is_issued(UID, SHARD, task));
        for position in 0..32 {
            let mut changed = task;
            changed.0[position] ^= 1;
            assert!(!key.is_issued(UID, SHARD, changed), "byte {position}");
        }
    }

    #[test]
    fn the_commitment_binds_key_and_job_and_debug_hides_the_key() {
        let key = JobKey::from([7; 32]);
        assert_eq!(key.commitment(UID), JobKey::from([7; 32]).commitment(UID));
        assert_ne!(key.commitment(UID), JobKey::from([8; 32]).commitment(UID));
        assert_ne!(key.commitment(UID), key.commitment(JobUid([2; 16])));
        assert_eq!(format!("{key:?}"), "JobKey(..)");
    }
}
