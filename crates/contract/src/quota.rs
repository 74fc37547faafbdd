//! Quotas: how much each submitter may have, as an operator writes it, and what it uses, as planners keep it. Who may do
//! what is decided by planners; here are the documents alone.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    error::InvalidDocument,
    ids::Submitter,
    strict::{self, Errors, MAX_NUMBER, Node, ObjectReader, child_pointer},
};

/// The most jobs that can be counted at once: what a submitter uses is one message, which names them all.
pub const MAX_CONCURRENT_JOBS: u64 = 5_000;

/// Document `forge.quotas.v1`: how much each submitter may have.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema)]
#[schemars(title = "Forge quotas", deny_unknown_fields)]
pub struct Quotas {
    /// Always `forge.quotas.v1`.
    #[schemars(extend("const" = "forge.quotas.v1"))]
    pub schema: String,
    /// What a submitter may have that is not listed.
    #[schemars(with = "Option<Quota>", default)]
    pub default: Quota,
    /// What others may have, by name. A submitter that is listed has nothing of `default`.
    #[schemars(with = "Option<BTreeMap<Submitter, Quota>>", default)]
    pub submitters: BTreeMap<Submitter, Quota>,
}

/// How much a submitter may have. Without a limit, it may have as much as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Quota {
    /// Jobs that have not ended, at most.
    #[schemars(range(min = 0, max = 5_000))]
    pub concurrent_jobs: Option<u64>,
    /// Iterations that its jobs ask for in a day of UTC, at most.
    pub iterations_per_day: Option<u64>,
    /// Whether it may submit jobs of `billing.mode` `billable`. Default: true.
    #[schemars(with = "Option<bool>", default = "allowed")]
    pub billable: bool,
}

fn allowed() -> bool {
    true
}

impl Default for Quota {
    fn default() -> Self {
        Self { concurrent_jobs: None, iterations_per_day: None, billable: allowed() }
    }
}

impl Quota {
    /// Whether there is a limit, so that what the submitter uses has to be counted.
    pub fn is_limited(&self) -> bool {
        self.concurrent_jobs.is_some() || self.iterations_per_day.is_some()
    }
}

impl Quotas {
    /// What `schema` says.
    pub const SCHEMA: &str = "forge.quotas.v1";

    /// Reads a document that an operator wrote.
    ///
    /// # Errors
    /// Everything that is wrong with it, with JSON pointers: unknown keys, names that no submitter can have, limits that
    /// are no whole numbers.
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
                errors.push(&pointer, format!("must be an object, not {}", other.kind()));
                &[]
            }
        };
        for (name, quota) in members {
            let pointer = child_pointer(&pointer, name);
            let submitter = name.parse::<Submitter>();
            if let Err(error) = &submitter {
                errors.push(&pointer, format!("names nobody: {error}"));
            }
            let quota = ObjectReader::open(quota, &pointer, errors).map(read_quota);
            if let (Ok(submitter), Some(quota)) = (submitter, quota) {
                quotas.submitters.insert(submitter, quota);
            }
        }
        quotas
    }

    /// How much a submitter may have.
    pub fn quota_for(&self, submitter: &Submitter) -> &Quota {
        self.submitters.get(submitter).unwrap_or(&self.default)
    }
}

fn read_quota(mut object: ObjectReader<'_, '_>) -> Quota {
    let quota = Quota {
        concurrent_jobs: object.optional_integer("concurrent_jobs", 0..=MAX_CONCURRENT_JOBS),
        iterations_per_day: object.optional_integer("iterations_per_day", 0..=MAX_NUMBER as u64),
        billable: object.optional_bool("billable").unwrap_or_else(allowed),
    };
    object.finish();
    quota
}

/// What a submitter uses, as it is kept under its name in bucket `forge_quotas`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// The day that `iterations` is of, as in `2026-11-23`, UTC.
    pub day: String,
    /// Iterations that jobs admitted on this day asked for.
    pub iterations: u64,
    /// Jobs that have been admitted and had not ended when somebody looked last, as `<bucket of records>/<job id>`.
    pub active: BTreeSet<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(concurrent_jobs: Option<u64>, iterations_per_day: Option<u64>, billable: bool) -> Quota {
        Quota { concurrent_jobs, iterations_per_day, billable }
    }

    #[test]
    fn a_listed_submitter_has_its_own_and_others_have_the_default() {
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
    fn everything_that_is_wrong_is_named_with_its_pointer() {
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
    fn what_is_used_is_written_as_it_is_documented() {
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
