//! The years with the largest amounts.
//!
//! Shard results hold no years, only histograms. So those of the kept results bound from below the
//! amount that the last one of the largest years has, and only shards that reach it are executed
//! again.

use std::{cmp::Reverse, collections::BTreeMap, ops::ControlFlow};

use forge_contract::distribution::{Distribution, Resolution};
use forge_kernel::years::YearFigures;
use serde_json::json;

use crate::{
    audit::ShardPeaks,
    error::CommandError,
    output,
    year_pass::{PassArgs, YearCollector, YearPass},
    year_record::{KeptFigures, YearRecord},
    year_table::{Perspective, TableReport, add_ranks, count_of_years, year_table},
};

/// Lists the `count` years with the largest amounts, the largest first. Of equal ones, that with
/// the smaller number is first.
pub fn explain_top(
    record: &YearRecord,
    count: usize,
    perspective: Perspective,
    args: &PassArgs,
) -> Result<TableReport, CommandError> {
    let request = record.request();
    let bound = record.kept.as_ref().and_then(|kept| smallest_of_largest(kept, count as u64, perspective));
    if bound.is_none() {
        let all = count_of_years(record.years, request);
        let reason = match record.kept {
            None => "the job kept no shard results (shards.bin)",
            Some(_) => "shard results of this profile do not state amounts before limits of the year",
        };
        output::print_to_stderr(&format!("{reason}, so all {all} are computed again"));
    }
    let is_needed = |peaks: Option<ShardPeaks>| match (bound, peaks) {
        (Some(bound), Some(peaks)) => peak_of(&peaks, perspective).is_none_or(|peak| peak >= bound),
        _ => true,
    };
    let pass = YearPass::new(record, args, |shard| is_needed(shard.peaks));
    let new_collector = || LargestYears { perspective, count, years: BTreeMap::new() };
    let mut largest = new_collector();
    let completed = pass.execute(new_collector, |of_block| {
        largest.merge(of_block);
        ControlFlow::Continue(())
    })?;
    let coverage = completed.coverage;
    let mut table = year_table(request, largest.years.values());
    add_ranks(&mut table, record.years);
    let noun = request.profile().vocabulary.iterations;
    let members = json!({
        "schema": "forge.explain.v1",
        "view": "top",
        "job_id": record.job.id,
        "result": record.result,
        "perspective": perspective.name(),
        "years": record.years,
        "recomputed": coverage.years,
        "compared_with": coverage.compared_with(),
    });
    Ok(TableReport {
        title: format!(
            "Job {}: the {noun} with the largest {} amount, of {}",
            record.job.id,
            perspective.name(),
            count_of_years(record.years, request)
        ),
        table,
        parts_title: "What each treaty pays",
        notes: vec![coverage.describe(noun)],
        members: members.as_object().cloned().unwrap_or_default(),
    })
}

fn peak_of(peaks: &ShardPeaks, perspective: Perspective) -> Option<u64> {
    match perspective {
        Perspective::Net => Some(peaks.net),
        Perspective::Gross => peaks.gross,
    }
}

/// A lower bound on the amounts of the `count` largest years; `None` if results do not state the
/// distribution of these amounts.
fn smallest_of_largest(kept: &KeptFigures, count: u64, perspective: Perspective) -> Option<u64> {
    match perspective {
        Perspective::Net => Some(lower_bound(&kept.merged.total, Resolution::FINE, count)),
        Perspective::Gross => {
            // The first quantity of a program with details is the gross amount.
            let gross = kept.merged.details.as_ref()?.quantities.first()?;
            Some(lower_bound(&gross.distribution, Resolution::COARSE, count))
        }
    }
}

/// The lower edge of the highest bucket from which on a distribution has `count` years; 0 if it has
/// fewer.
fn lower_bound(distribution: &Distribution, resolution: Resolution, count: u64) -> u64 {
    let mut above = 0;
    for &(bucket, years) in distribution.histogram.iter().rev() {
        above += years;
        if above >= count {
            return resolution.bounds(bucket as usize).0;
        }
    }
    0
}

/// The largest years so far, the largest first.
struct LargestYears {
    perspective: Perspective,
    count: usize,
    years: BTreeMap<(Reverse<u64>, u64), YearFigures>,
}

impl LargestYears {
    fn key(&self, figures: &YearFigures) -> (Reverse<u64>, u64) {
        (Reverse(self.perspective.amount_of(figures)), figures.year)
    }

    fn merge(&mut self, other: Self) {
        self.years.extend(other.years);
        while self.years.len() > self.count {
            self.years.pop_last();
        }
    }
}

impl YearCollector for LargestYears {
    type Year = YearFigures;

    fn add(&mut self, figures: &YearFigures) {
        let key = self.key(figures);
        let is_full = self.years.len() >= self.count;
        if is_full && self.years.last_key_value().is_some_and(|(last, _)| key > *last) {
            return;
        }
        self.years.insert(key, figures.clone());
        if self.years.len() > self.count {
            self.years.pop_last();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_is_the_bucket_of_the_last_one_of_the_largest() {
        let fine = |amount| Resolution::FINE.bucket_of(amount) as u32;
        let histogram = vec![(fine(10), 5), (fine(100_000), 3), (fine(900_000), 2)];
        let distribution =
            Distribution { min: 10, max: 900_000, at_marks: Vec::new(), histogram, listed: Vec::new() };
        let bound = |count| lower_bound(&distribution, Resolution::FINE, count);
        let edge = |amount| Resolution::FINE.bounds(fine(amount) as usize).0;
        assert_eq!([1, 2].map(bound), [edge(900_000); 2]);
        assert_eq!([3, 5].map(bound), [edge(100_000); 2]);
        assert_eq!([6, 10, 11].map(bound), [10, 10, 0]);
    }
}
