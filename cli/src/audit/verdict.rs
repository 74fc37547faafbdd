//! What an audit as a whole shows. The rule is here and nowhere else.
//!
//! - `proved`: this process executed every shard of the result again, merged what it computed, and
//!   `result.json` has exactly these bytes. Nothing that the store or a key's owner states had to
//!   be believed, apart from the envelope, which defines the job.
//! - `consistent`: no check failed, but less was recomputed.
//! - `failed`: a check failed.

use std::fmt;

use forge_documents::number_format::{format_count, format_percent};
use forge_kernel::verification::miss_probability;
use serde::{Deserialize, Serialize};

use crate::text::count_of;

/// Shares of wrong shards for which the chance of a forger is stated, in percent. One wrong shard
/// is always stated.
const STATED_WRONG_PERCENT: [u64; 2] = [1, 10];

/// What an audit shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditVerdict {
    /// The result was recomputed from the envelope.
    Proved,
    /// Nothing contradicts the result.
    Consistent,
    /// Something contradicts the result or the record of the job.
    Failed,
}

/// How much of a job an audit recomputed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuditCoverage {
    /// Shards of the result.
    pub shards: u64,
    /// Shards that were executed again and had the recorded result.
    pub reexecuted: u64,
    /// Whether the figures of `result.json` were derived again from shard results: those executed
    /// again if `is_proved`, else those that the job kept.
    pub is_result_merged: bool,
    /// Whether every shard was executed again and their merge is `result.json`.
    pub is_proved: bool,
}

/// The chance that a forger was missed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MissedForgery {
    /// Number of shards with a forged result.
    pub wrong_shards: u64,
    /// Probability that none of them was executed again.
    pub probability: f64,
}

impl AuditCoverage {
    /// The chances of forgers of one shard and of larger shares of the shards; empty if the result
    /// is proved. Without a merge every forger is missed, because the figures of `result.json` can
    /// be forged without touching a shard.
    pub fn missed_forgeries(&self) -> Vec<MissedForgery> {
        if self.is_proved || self.shards == 0 {
            return Vec::new();
        }
        let percent = |percent: u64| u128::from(self.shards) * u128::from(percent);
        let mut counts = vec![1];
        counts.extend(STATED_WRONG_PERCENT.map(|share| percent(share).div_ceil(100) as u64));
        counts.dedup();
        let missed = |wrong_shards| MissedForgery {
            wrong_shards,
            probability: match self.is_result_merged {
                true => miss_probability(self.shards, self.reexecuted, wrong_shards),
                false => 1.0,
            },
        };
        counts.into_iter().map(missed).collect()
    }

    /// What was recomputed, as part of a sentence.
    pub fn describe(&self) -> String {
        let shards = format_count(self.shards);
        match (self.is_proved, self.reexecuted) {
            (true, _) => format!("all {shards} shards were executed again and merged"),
            (false, 0) => format!("none of {shards} shards was executed again"),
            (false, count) => format!("{} of {shards} shards were executed again", format_count(count)),
        }
    }

    /// What a forger could have done unseen: sentences for people; empty if the result is proved.
    pub fn describe_limits(&self) -> String {
        if self.is_proved {
            return String::new();
        }
        let source = match self.is_result_merged {
            true => "Its figures follow from the shard results that the job kept, as far as those are right.",
            false => {
                "Its figures were not derived from shard results: a forged figure is missed with certainty."
            }
        };
        let chances: Vec<_> = self.missed_forgeries().iter().map(ToString::to_string).collect();
        let chances = match (self.is_result_merged, chances.is_empty()) {
            (true, false) => format!(" A forger is missed with probability {}.", chances.join(", ")),
            _ => String::new(),
        };
        format!("{source}{chances} Use --full to prove the result.")
    }
}

impl fmt::Display for MissedForgery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wrong = count_of(self.wrong_shards, "wrong shard");
        write!(f, "{} with {wrong}", format_percent(self.probability))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probabilities(coverage: AuditCoverage) -> Vec<(u64, f64)> {
        let missed = coverage.missed_forgeries().into_iter();
        missed.map(|missed| (missed.wrong_shards, (missed.probability * 1e9).round() / 1e9)).collect()
    }

    #[test]
    fn chance_of_a_forger_is_hypergeometric_if_the_result_was_merged() {
        let merged = AuditCoverage { shards: 16, reexecuted: 4, is_result_merged: true, is_proved: false };
        // One of 16 wrong: 12/16. Two of 16 (10%, rounded up): 12/16 · 11/15.
        assert_eq!(probabilities(merged), [(1, 0.75), (2, 0.55)]);
        let unmerged = AuditCoverage { is_result_merged: false, ..merged };
        assert_eq!(probabilities(unmerged), [(1, 1.0), (2, 1.0)]);
        let none = AuditCoverage { reexecuted: 0, ..merged };
        assert_eq!(probabilities(none), [(1, 1.0), (2, 1.0)]);
        assert!(AuditCoverage { is_proved: true, ..merged }.missed_forgeries().is_empty());
    }
}
