//! Quota documents: the limits that an operator writes for each submitter, and the usage that
//! planners record against them.
//!
//! Documents only. Planners decide whether a submission is within its quota.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    error::InvalidDocument,
    ids::Submitter,
    strict::{self, Errors, MAX_NUMBER, Node, ObjectReader, child_pointer},
};

/// Upper bound of [`Quota::concurrent_jobs`]. A submitter's usage is a single message that names
/// every active job, so this bounds its size.
pub const MAX_CONCURRENT_JOBS: u64 = 5_000;

/// Document `forge.quotas.v1`: the limits of each submitter.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema)]
#[schemars(title = "Forge quotas", deny_unknown_fields)]
pub struct Quotas {
    /// Always `forge.quotas.v1`.
    #[schemars(extend("const" = "forge.quotas.v1"))]
    pub schema: String,
    /// Limits of every submitter that `submitters` does not list. Absent: unlimited.
    #[schemars(with = "Option<Quota>", default)]
    pub default: Quota,
    /// Limits by submitter. An entry replaces `default` as a whole; the two are not merged.
    #[schemars(with = "Option<BTreeMap<Submitter, Quota>>", default)]
    pub submitters: BTreeMap<Submitter, Quota>,
}

/// The limits of one submitter. An absent limit means unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Quota {
    /// Maximum number of the submitter's jobs that have not ended, at most 5,000. Absent or null:
    /// unlimited.
    #[schemars(range(min = 0, max = 5_000))]
    pub concurrent_jobs: Option<u64>,
    /// Maximum number of iterations that the submitter's jobs may request per UTC day, in total.
    /// Absent or null: unlimited.
    pub iterations_per_day: Option<u64>,
    /// Whether the submitter may submit jobs with `billing.mode` `billable`. Default: true.
    #[schemars(with = "Option<bool>", default = "default_billable")]
    pub billable: bool,
}

fn default_billable() -> bool {
    true
}

impl Default for Quota {
    fn default() -> Self {
        Self { concurrent_jobs: None, iterations_per_day: None, billable: default_billable() }
    }
}

impl Quota {
    /// Whether any limit is set, and usage therefore has to be recorded.
    pub fn is_limited(&self) -> bool {
        self.concurrent_jobs.is_some() || self.iterations_per_day.is_some()
    }
}

impl Quotas {
    /// Value of `schema`.
    pub const SCHEMA: &str = "forge.quotas.v1";

    /// Parses a document written by an operator.
    ///
    /// # Errors
    /// Returns every error in the document, each with its JSON pointer: unknown keys, invalid
    /// submitter names, and limits that are not whole numbers in range.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidDocument> {
        let root = strict::parse(bytes)?;
        let mut errors = Errors::new();
        let quotas = Self::read(&root, &mut errors);
        errors.into_result(quotas)
    }

    fn read(root: &Node, errors: &mut Errors) -> Self {
        let mut quotas = Self { schema: Self::SCHEMA.to_owned(), ..Self::default() };
        let Some(mut object) = ObjectReader::open(root, "", errors) else { return quotas };
        object.required_choice("schema", &[(Self::SCHEMA, ())]);
        quotas.default = read_quota(object.optional_object("default"));
        let (submitters, pointer) = (object.node("submitters"), object.pointer_of("submitters"));
        object.finish();
        let members: &[_] = match submitters {
            Some(Node::Object(members)) => members,
            None => &[],
            Some(other) => {
                errors.push(&pointer, format!("must be an object, not {}", other.type_name()));
                &[]
            }
        };
        for (name, quota) in members {
            let pointer = child_pointer(&pointer, name);
            let submitter = name.parse::<Submitter>();
            if let Err(error) = &submitter {
                errors.push(&pointer, format!("is not a submitter: {error}"));
            }
            let quota = ObjectReader::open(quota, &pointer, errors).map(read_quota);
            if let (Ok(submitter), Some(quota)) = (submitter, quota) {
                quotas.submitters.insert(submitter, quota);
            }
        }
        quotas
    }

    /// The limits that apply to `submitter`.
    pub fn quota_for(&self, submitter: &Submitter) -> &Quota {
        self.submitters.get(submitter).unwrap_or(&self.default)
    }
}

fn read_quota(mut object: ObjectReader<'_, '_>) -> Quota {
    let quota = Quota {
        concurrent_jobs: object.optional_integer("concurrent_jobs", 0..=MAX_CONCURRENT_JOBS),
        iterations_per_day: object.optional_integer("iterations_per_day", 0..=MAX_NUMBER as u64),
        billable: object.optional_bool("billable").unwrap_or_else(default_billable),
    };
    object.finish();
    quota
}

/// A submitter's recorded usage, stored under the submitter's name in bucket `forge_quotas`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// UTC day to which `iterations` refers, such as `2026-11-23`.
    pub day: String,
    /// Iterations requested by the jobs admitted on that day.
    pub iterations: u64,
    /// Admitted jobs that had not ended when last checked, as `<record bucket>/<job id>`.
    pub active: BTreeSet<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(concurrent_jobs: Option<u64>, iterations_per_day: Option<u64>, billable: bool) -> Quota {
        Quota { concurrent_jobs, iterations_per_day, billable }
    }

    #[test]
    fn a_listed_submitter_replaces_the_default_limits() {
        let text = br#"{"schema": "forge.quotas.v1",
            "default": {"concurrent_jobs": 2, "iterations_per_day": 1e9, "billable": false},
            "submitters": {"alice": {"iterations_per_day": null}, "bob": {"concurrent_jobs": 0}}}"#;
        let quotas = Quotas::parse(text).unwrap();
        let of = |name: &str| *quotas.quota_for(&name.parse().unwrap());
        assert_eq!(of("default"), quota(Some(2), Some(1_000_000_000), false));
        assert_eq!(of("carol"), of("default"));
        assert_eq!(of("alice"), quota(None, None, true));
        assert_eq!(of("bob"), quota(Some(0), None, true));
        assert!(of("bob").is_limited() && !of("alice").is_limited());
        assert_eq!(
            Quotas::parse(br#"{"schema": "forge.quotas.v1", "default": null}"#).unwrap().default,
            Quota::default()
        );
    }

    #[test]
    fn every_error_is_reported_with_its_pointer() {
        let text = br#"{"schema": "forge.quotas.v2", "defaults": {}, "submitters": {
            "a.b": {}, "alice": {"concurrent_jobs": -1, "iterations_a_day": 5}, "bob": 3,
            "carol": {"iterations_per_day": "many", "billable": 1, "concurrent_jobs": 5001}}}"#;
        let invalid = Quotas::parse(text).unwrap_err();
        let mut pointers: Vec<_> = invalid.errors().iter().map(|error| error.pointer.as_str()).collect();
        pointers.sort_unstable();
        assert_eq!(
            pointers,
            [
                "/defaults",
                "/schema",
                "/submitters/a.b",
                "/submitters/alice/concurrent_jobs",
                "/submitters/alice/iterations_a_day",
                "/submitters/bob",
                "/submitters/carol/billable",
                "/submitters/carol/concurrent_jobs",
                "/submitters/carol/iterations_per_day"
            ],
            "{invalid}"
        );
        for text in ["[]", "", r#"{"schema": "forge.quotas.v1", "submitters": []}"#, "{}"] {
            assert!(Quotas::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn usage_has_its_documented_json_form() {
        let usage = Usage {
            day: "2026-11-23".to_owned(),
            iterations: 7,
            active: ["jobs/a".to_owned(), "jobs/b".to_owned()].into(),
        };
        let text = serde_json::to_string(&usage).unwrap();
        assert_eq!(text, r#"{"day":"2026-11-23","iterations":7,"active":["jobs/a","jobs/b"]}"#);
        assert_eq!(serde_json::from_str::<Usage>(&text).unwrap(), usage);
    }
}
