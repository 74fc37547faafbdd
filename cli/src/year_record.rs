//! A stored job as the source of its years: its record, checked as an audit checks it, and what it
//! states about the years of each shard. Executes nothing.

use std::{ops::Range, path::Path};

use forge_contract::{digest::Digest, shard::ShardId, shard_result::ShardResult};
use forge_documents::{Job, number_format::format_count};
use forge_kernel::{request::Request, years::YearFigures};
use serde_json::Value;

use crate::{
    audit::{self, CheckProblem, ShardPeaks, planned_end},
    error::CommandError,
    stored_job::{JobLocation, StoredJob},
};

/// Where results of the profiles state their largest total.
const LARGEST_TOTAL: [&str; 3] = ["/output/net/max", "/output/max_loss", "/output/max_eta"];

/// The record of a job, whose parts belong together.
pub struct YearRecord {
    /// The job of the stored envelope.
    pub job: Job,
    /// SHA-256 of the result, as the manifest states it.
    pub result: Digest,
    /// Number of years in the result.
    pub years: u64,
    /// The results of the shards; `None` if the job did not keep them.
    pub kept: Option<KeptFigures>,
    shards: usize,
    /// Hash of each shard's result; `None` if neither these nor the results were kept.
    hashes: Option<Vec<Digest>>,
    /// The largest total, in minor units; `None` if nothing that was kept states it.
    largest_total: Option<u64>,
}

/// The shard results that a job kept.
pub struct KeptFigures {
    /// The merge of all of them.
    pub merged: ShardResult,
    peaks: Vec<ShardPeaks>,
}

/// A shard of the result, with what the record states about it.
#[derive(Debug, Clone)]
pub struct ShardYears {
    /// Id.
    pub id: ShardId,
    /// Its years.
    pub range: Range<u64>,
    /// Hash of its result; `None` if it was not kept.
    pub hash: Option<Digest>,
    /// The largest amounts of its years; `None` if its result was not kept.
    pub peaks: Option<ShardPeaks>,
}

impl YearRecord {
    /// Reads the job at `path`: its manifest, or its directory.
    ///
    /// # Errors
    /// [`CommandError::Input`] if the job cannot be read, [`CommandError::Mismatch`] if its
    /// artifacts contradict the manifest or each other.
    pub fn open(path: &Path) -> Result<Self, CommandError> {
        let stored = StoredJob::open(&JobLocation::from_path(path)?)?;
        let evidence = audit::consistent_evidence(&stored)?;
        let to_error = |problem: CheckProblem| match problem {
            CheckProblem::Failed(reason) => CommandError::Mismatch(reason),
            CheckProblem::NotCompared(reason) => CommandError::Input(reason),
        };
        let years = planned_end(&evidence).map_err(to_error)?;
        let hashes = evidence.recorded_hashes().ok();
        let stated = evidence.result().ok();
        let (job, kept) = evidence.into_job().map_err(to_error)?;
        let kept = kept.map(|kept| {
            let merged = kept.merged.map_err(to_error)?.merged;
            Ok::<_, CommandError>(KeptFigures { merged, peaks: kept.peaks })
        });
        let kept = kept.transpose()?;
        let units = job.request.program.units;
        let stated = stated.and_then(|result| stated_largest_total(&result, units));
        let (shards, result) = (stored.manifest.shards as usize, stored.manifest.result);
        let largest_total = kept.as_ref().map(|kept| kept.merged.total.max).or(stated);
        Ok(Self { job, result, years, kept, shards, hashes, largest_total })
    }

    /// The request of the job.
    pub fn request(&self) -> &Request {
        &self.job.request
    }

    /// The shards of the result, in order.
    pub fn shards(&self) -> impl Iterator<Item = ShardYears> + '_ {
        let plan = &self.request().plan;
        plan.shards().take(self.shards).enumerate().map(|(at, id)| ShardYears {
            id,
            range: plan.range(id),
            hash: self.hashes.as_ref().and_then(|hashes| hashes.get(at).copied()),
            peaks: self.kept.as_ref().and_then(|kept| kept.peaks.get(at).copied()),
        })
    }

    /// Checks that the result has a year of this number.
    ///
    /// # Errors
    /// [`CommandError::Input`] with the option's name if it has not.
    pub fn check_number(&self, option: &str, year: u64) -> Result<(), CommandError> {
        if year < self.years {
            return Ok(());
        }
        let noun = self.request().profile().vocabulary.iterations;
        Err(CommandError::Input(format!(
            "{option} {year}: the result has {} {noun}, numbered from 0 to {}",
            format_count(self.years),
            self.years - 1
        )))
    }

    /// Checks that the total of a year can be one of the result, and says with what it was
    /// compared; `None` if nothing that was kept states an upper bound.
    ///
    /// # Errors
    /// [`CommandError::Mismatch`] if the total is larger than that of any year of its shard, or of
    /// the result.
    pub fn check_total(&self, figures: &YearFigures) -> Result<Option<&'static str>, CommandError> {
        let shard = self.shards().find(|shard| shard.range.contains(&figures.year));
        let of_shard = shard.and_then(|shard| shard.peaks).map(|peaks| (peaks.net, "its shard"));
        let of_result = self.largest_total.map(|largest| (largest, "the result"));
        let Some((largest, place)) = of_shard.or(of_result) else { return Ok(None) };
        if figures.net <= largest {
            return Ok(Some(place));
        }
        let units = f64::from(self.request().program.units);
        Err(CommandError::Mismatch(format!(
            "the total of year {} is {}, but the largest one of {place} is stated as {}",
            figures.year,
            figures.net as f64 / units,
            largest as f64 / units
        )))
    }
}

/// The largest total that a result document states, in minor units.
fn stated_largest_total(result: &Value, units: u32) -> Option<u64> {
    let stated = LARGEST_TOTAL.iter().find_map(|pointer| result.pointer(pointer)?.as_f64())?;
    Some((stated * f64::from(units)).round() as u64)
}
