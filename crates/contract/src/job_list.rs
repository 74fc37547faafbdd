//! Listing job records: the request to `forge.v1.api.list` and its reply. A page has a bounded
//! number of records, in the order of their job ids.

use serde::{Deserialize, Serialize};

use crate::{
    ids::JobId,
    job::{JobRecord, JobState},
};

/// Selects the records of one page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobListRequest {
    /// Bucket of the job records; without it, the installation's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only jobs in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
    /// Only jobs whose id starts with this text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// Only jobs whose id is greater than this one: [`JobListPage::next`] of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<JobId>,
    /// Maximum number of records: 1 to [`JobListRequest::MAX_LIMIT`], which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl JobListRequest {
    /// Largest value of `limit`, and the number of records that one request examines at most.
    pub const MAX_LIMIT: usize = 1000;
}

/// Document `forge.jobs.v1`, a page of job records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobListPage {
    /// Always `forge.jobs.v1`.
    pub schema: String,
    /// The records, in the order of their job ids. May be fewer than the limit, or none, although
    /// more pages follow.
    pub jobs: Vec<JobRecord>,
    /// Value of `after` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<JobId>,
}

impl JobListPage {
    /// Value of `schema`.
    pub const SCHEMA: &str = "forge.jobs.v1";
}
