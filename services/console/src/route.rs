//! The addresses of the console: parsed from requests, and written into links.

use forge_contract::{ids::JobId, job::JobState};
use form_urlencoded::Serializer;

use crate::assets::{self, ConsoleAsset};

/// Longest text that is searched for.
const MAX_SEARCH_CHARS: usize = 200;

/// What a request asks for.
#[derive(Debug, PartialEq)]
pub enum ConsoleRoute {
    /// A whole page.
    Page(ConsolePage),
    /// The part of a page that changes while it is shown, which its script asks for.
    LivePart(ConsolePage),
    /// An artifact of a job.
    Artifact {
        /// The job.
        job: JobId,
        /// File name.
        name: String,
    },
    /// An embedded file.
    Asset(&'static ConsoleAsset),
    /// Nothing that exists.
    Unknown,
}

/// A page.
#[derive(Debug, Clone, PartialEq)]
pub enum ConsolePage {
    /// The list of jobs.
    Jobs(JobFilter),
    /// One job.
    Job(JobId),
    /// Agents and quarantines.
    Agents,
    /// The completed jobs in the store.
    StoredJobs {
        /// Only jobs whose id is greater.
        after: Option<JobId>,
    },
}

/// Selects jobs of the list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobFilter {
    /// Only jobs in this state.
    pub state: Option<StateFilter>,
    /// Bucket of job records, unless it is the default.
    pub namespace: Option<String>,
    /// Only jobs whose id or title contains this text.
    pub search: String,
}

/// A state that jobs are filtered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateFilter {
    /// The state of the record.
    State(JobState),
    /// Jobs that have not ended and wait for something.
    Waiting,
}

impl StateFilter {
    /// The filter as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::State(state) => state.as_str(),
            Self::Waiting => "waiting",
        }
    }
}

impl JobFilter {
    /// The bucket of job records.
    pub fn namespace<'a>(&'a self, namespaces: &'a [String]) -> &'a str {
        self.namespace.as_deref().or(namespaces.first().map(String::as_str)).unwrap_or_default()
    }

    /// The filter as the query of an address, with the question mark; empty if all jobs are shown.
    pub fn query(&self) -> String {
        let pairs = [
            ("state", self.state.map(StateFilter::as_str)),
            ("namespace", self.namespace.as_deref()),
            ("q", Some(self.search.as_str()).filter(|search| !search.is_empty())),
        ];
        let pairs = pairs.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let query = Serializer::new(String::new()).extend_pairs(pairs).finish();
        if query.is_empty() { query } else { format!("?{query}") }
    }

    fn parse(query: &str, namespaces: &[String]) -> Result<Self, String> {
        let mut filter = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()).filter(|(_, value)| !value.is_empty()) {
            match name.as_ref() {
                "state" => filter.state = Some(parse_state(&value)?),
                "namespace" if namespaces.iter().any(|known| *known == value) => {
                    filter.namespace = Some(value.into_owned());
                }
                "namespace" => return Err("namespace: is none of --kv-namespaces".to_owned()),
                "q" => filter.search = value.trim().chars().take(MAX_SEARCH_CHARS).collect(),
                _ => {}
            }
        }
        Ok(filter)
    }
}

fn parse_state(text: &str) -> Result<StateFilter, String> {
    if text == StateFilter::Waiting.as_str() {
        return Ok(StateFilter::Waiting);
    }
    let state = JobState::ALL.into_iter().find(|state| state.as_str() == text);
    state.map(StateFilter::State).ok_or_else(|| "state: is no state of a job".to_owned())
}

impl ConsoleRoute {
    /// Parses path and query.
    ///
    /// # Errors
    /// The parameter that cannot be used, and why.
    pub fn parse(path: &str, query: &str, namespaces: &[String]) -> Result<Self, String> {
        let (path, is_live) = match path.strip_prefix("/live") {
            Some(rest) if rest.starts_with('/') => (rest, true),
            _ => (path, false),
        };
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let page = match segments[..] {
            [""] => Some(ConsolePage::Jobs(JobFilter::parse(query, namespaces)?)),
            ["jobs", id] => id.parse().ok().map(ConsolePage::Job),
            ["agents"] => Some(ConsolePage::Agents),
            ["store"] => Some(ConsolePage::StoredJobs { after: parse_after(query)? }),
            _ => None,
        };
        Ok(match (page, &segments[..]) {
            (Some(page), _) if is_live => Self::LivePart(page),
            (Some(page), _) => Self::Page(page),
            (None, ["assets", name]) if !is_live => assets::find(name).map_or(Self::Unknown, Self::Asset),
            (None, ["jobs", id, "artifacts", name]) if !is_live => match id.parse() {
                Ok(job) => Self::Artifact { job, name: (*name).to_owned() },
                Err(_) => Self::Unknown,
            },
            _ => Self::Unknown,
        })
    }
}

fn parse_after(query: &str) -> Result<Option<JobId>, String> {
    let after = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "after");
    after.map(|(_, id)| id.parse().map_err(|error| format!("after: {error}"))).transpose()
}

impl ConsolePage {
    /// The address of the page.
    pub fn path(&self) -> String {
        match self {
            Self::Jobs(filter) => format!("/{}", filter.query()),
            Self::Job(id) => job_path(id),
            Self::Agents => "/agents".to_owned(),
            Self::StoredJobs { after: None } => "/store".to_owned(),
            Self::StoredJobs { after: Some(id) } => format!("/store?after={id}"),
        }
    }
}

/// The address of a job's page.
pub fn job_path(job: &JobId) -> String {
    format!("/jobs/{job}")
}

/// The address of an artifact. Names of artifacts need no escaping in one.
pub fn artifact_path(job: &JobId, name: &str) -> String {
    format!("/jobs/{job}/artifacts/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str, query: &str) -> Result<ConsoleRoute, String> {
        ConsoleRoute::parse(path, query, &["jobs".to_owned(), "lab".to_owned()])
    }

    #[test]
    fn pages_are_found_by_their_own_links() {
        let filter = JobFilter {
            state: Some(StateFilter::Waiting),
            namespace: Some("lab".to_owned()),
            search: "50% & <b> ü".to_owned(),
        };
        let id: JobId = "a-1".parse().unwrap();
        for page in [
            ConsolePage::Jobs(JobFilter::default()),
            ConsolePage::Jobs(filter),
            ConsolePage::Job(id.clone()),
            ConsolePage::Agents,
            ConsolePage::StoredJobs { after: None },
            ConsolePage::StoredJobs { after: Some(id.clone()) },
        ] {
            let address = page.path();
            let (path, query) = address.split_once('?').unwrap_or((&address, ""));
            assert_eq!(parse(path, query), Ok(ConsoleRoute::Page(page.clone())), "{address}");
            assert_eq!(parse(&format!("/live{path}"), query), Ok(ConsoleRoute::LivePart(page)));
        }
        let artifact = ConsoleRoute::Artifact { job: id.clone(), name: "result.json".to_owned() };
        assert_eq!(parse(&artifact_path(&id, "result.json"), ""), Ok(artifact));
    }

    #[test]
    fn other_addresses_are_unknown_and_wrong_parameters_are_named() {
        for path in [
            "",
            "/x",
            "//",
            "/jobs",
            "/jobs/",
            "/jobs/a.b",
            "/jobs/..",
            "/jobs/a/artifacts",
            "/jobs/a/artifacts/x/y",
            "/jobs/%2e%2e/artifacts/x",
            "/assets/../lib.rs",
            "/assets/none",
            "/live/assets/console.js",
            "/live",
            "/livejobs/a",
        ] {
            assert_eq!(parse(path, ""), Ok(ConsoleRoute::Unknown), "{path}");
        }
        assert!(parse("/", "state=open").unwrap_err().starts_with("state: "));
        assert!(parse("/", "namespace=forge_secrets").unwrap_err().starts_with("namespace: "));
        assert!(parse("/store", "after=a/b").unwrap_err().starts_with("after: "));
    }
}
