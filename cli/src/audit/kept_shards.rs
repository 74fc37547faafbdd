//! The shard results that a job kept, `shards.bin`. They are read in one pass and never held
//! together in memory: a job may have terabytes of them.

use forge_contract::{artifact::ArtifactReference, digest::Digest, shard_result::ShardResult};
use forge_documents::{JobResult, document::ENVELOPE_JSON};
use forge_kernel::request::Request;
use forge_store::shards_file::{self, ShardsFileReader};

use super::{
    report::{AuditReport, CheckProblem},
    shard_merge::ShardMerge,
};
use crate::stored_job::StoredJob;

/// What the kept shard results yield.
pub struct KeptShards {
    /// SHA-256 of each result, in shard order.
    pub hashes: Vec<Digest>,
    /// The largest amounts of each result, in shard order.
    pub peaks: Vec<ShardPeaks>,
    /// The figures of all results, or why they cannot be those of the job.
    pub merged: Result<JobResult, CheckProblem>,
}

impl KeptShards {
    /// Reads and merges the results, and reports whether the file's size and hash are those of the
    /// manifest. `None` if they are not. `shards` bounds the size of the file; `request` is `None`
    /// without a reliable envelope.
    pub fn read(
        stored: &StoredJob,
        reference: &ArtifactReference,
        shards: u64,
        request: Option<&Request>,
        report: &mut AuditReport,
    ) -> Option<Self> {
        let mut pass = MergePass::new(request);
        let read = stored.read_artifact_in_chunks(reference, shards, |chunk| pass.push(chunk));
        let is_intact = read.is_ok();
        report.add_artifact(reference, read);
        is_intact.then(|| pass.finish())
    }
}

/// The largest amounts of a year in a shard, in minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardPeaks {
    /// The largest total.
    pub net: u64,
    /// The largest amount before treaties; `None` if results of the program do not state it.
    pub gross: Option<u64>,
}

impl ShardPeaks {
    fn new(result: &ShardResult) -> Self {
        // The first quantity of a program with details is the gross amount.
        let gross = result.details.as_ref().and_then(|details| details.quantities.first());
        Self { net: result.total.max, gross: gross.map(|gross| gross.distribution.max) }
    }
}

/// One pass over the file.
struct MergePass<'a> {
    reader: ShardsFileReader,
    hashes: Vec<Digest>,
    peaks: Vec<ShardPeaks>,
    merge: Result<ShardMerge<'a>, CheckProblem>,
}

impl<'a> MergePass<'a> {
    fn new(request: Option<&'a Request>) -> Self {
        let merge = request.map(ShardMerge::new);
        let unreliable = || CheckProblem::NotCompared(format!("{ENVELOPE_JSON} is not reliable"));
        let merge = merge.ok_or_else(unreliable);
        Self { reader: ShardsFileReader::new(), hashes: Vec::new(), peaks: Vec::new(), merge }
    }

    fn push(&mut self, chunk: &[u8]) {
        // Without a merge only the integrity of the file remains to be checked.
        if self.merge.is_err() {
            return;
        }
        self.reader.push(chunk);
        loop {
            let added = match (self.reader.next_result(), &mut self.merge) {
                (Ok(Some(result)), Ok(merge)) => {
                    self.hashes.push(Digest::hash_parts(&[&result]));
                    merge.add(&result).map(|result| self.peaks.push(ShardPeaks::new(&result)))
                }
                (Err(error), _) => Err(framing_problem(&error)),
                _ => return,
            };
            if let Err(problem) = added {
                self.merge = Err(problem);
                return;
            }
        }
    }

    fn finish(self) -> KeptShards {
        let Self { reader, hashes, peaks, merge } = self;
        let merged = merge.and_then(|merge| {
            reader.finish().map_err(|error| framing_problem(&error))?;
            merge.finish()
        });
        KeptShards { hashes, peaks, merged }
    }
}

fn framing_problem(error: &shards_file::InvalidShardsFile) -> CheckProblem {
    CheckProblem::failed(format!("{}: {error}", shards_file::FILE_NAME))
}
