//! The artifacts of a completed job, as its envelope asks for them. What is pure ([`ept`], [`report`]) is a function of the
//! result; the rest records this execution.

mod ept;
mod records;
mod report;

use std::time::Duration;

use forge_contract::{
    artifact::{ArtifactReference, ManifestDocument, VerificationDocument},
    canonical::to_canonical_json,
    envelope::ArtifactKind,
};
use forge_kernel::{KERNEL, request::Request};
use forge_store::{Artifact, shards};
use serde::Serialize;

use crate::{
    figures::Figures,
    job::Job,
    local::run::Run,
    text::{
        number::{amount, grouped},
        tables::{self, capitalised},
    },
};

/// Name of the artifact that holds the envelope in normal form.
pub const ENVELOPE: &str = "envelope.json";
/// Name of the artifact that holds the result.
pub const RESULT: &str = "result.json";
/// Name of the artifact that holds the plan.
pub const PLAN: &str = "plan.json";
/// Name of the artifact that holds the record of the shards.
pub const EXECUTIONS: &str = "executions.json";

const JSON: &str = "application/json";

/// A run and what is known about it.
pub struct Outcome<'a> {
    /// The job.
    pub job: &'a Job,
    /// Its run.
    pub run: &'a Run,
    /// What was verified.
    pub verification: &'a VerificationDocument,
    /// What executed it.
    pub backend: &'a str,
    /// On how many threads.
    pub threads: usize,
    /// Time from the start of the process to the first shard.
    pub planning: Duration,
}

/// The documents that are a function of the result, among those that can be kept; `None` for the others, and for a
/// table of return periods of what has none.
pub fn pure(kind: ArtifactKind, request: &Request, figures: &Figures) -> Option<Artifact> {
    match kind {
        ArtifactKind::ResultJson => Some(artifact(RESULT, JSON, figures.json.clone())),
        ArtifactKind::EptCsv if request.profile().words.return_periods => {
            Some(artifact("ept.csv", "text/csv", ept::csv(&figures.summary).into_bytes()))
        }
        ArtifactKind::ReportHtml => {
            Some(artifact("report.html", "text/html", report::page(request, figures).into_bytes()))
        }
        _ => None,
    }
}

impl Outcome<'_> {
    /// What the envelope asks to keep; the envelope itself always, and the shard results if the run kept them.
    pub fn artifacts(&self) -> Vec<Artifact> {
        let mut artifacts = vec![artifact(ENVELOPE, JSON, canonical(&self.job.request.envelope))];
        let include = &self.job.request.envelope.artifacts.include;
        artifacts.extend(include.iter().filter_map(|&kind| self.artifact(kind)));
        if let Some(kept) = &self.run.kept {
            artifacts.push(artifact(shards::NAME, shards::MEDIA_TYPE, kept.clone()));
        }
        artifacts
    }

    fn artifact(&self, kind: ArtifactKind) -> Option<Artifact> {
        let json = |name: &str, bytes: Vec<u8>| Some(artifact(name, JSON, bytes));
        match kind {
            ArtifactKind::ExecutionsJson => json(EXECUTIONS, canonical(&records::executions(self))),
            ArtifactKind::MetricsJson => json("metrics.json", canonical(&records::metrics(self))),
            ArtifactKind::VerificationJson => json("verification.json", canonical(self.verification)),
            ArtifactKind::PlanJson => json(PLAN, canonical(&self.job.request.plan_document())),
            ArtifactKind::ResultJson | ArtifactKind::EptCsv | ArtifactKind::ReportHtml => {
                pure(kind, &self.job.request, &self.run.figures)
            }
        }
    }

    /// The manifest over artifacts that are stored.
    pub fn manifest(&self, artifacts: Vec<ArtifactReference>) -> ManifestDocument {
        ManifestDocument {
            schema: ManifestDocument::SCHEMA.to_owned(),
            job_id: self.job.id.clone(),
            kernel: KERNEL,
            replay_key: self.job.request.replay_key,
            request: self.job.digest,
            result: self.run.figures.hash,
            merkle_root: self.run.merkle_root(),
            shards: self.run.shards.len() as u64,
            artifacts,
        }
    }

    /// What an index page says about the result: label and text.
    pub fn headline(&self) -> Vec<(String, String)> {
        let request = &self.job.request;
        let figures = &self.run.figures;
        let words = request.profile().words;
        let unit = if words.unit.is_empty() { String::new() } else { format!(" {}", words.unit) };
        let mut headline = vec![
            ("Profile".to_owned(), tables::profile(request)),
            (capitalised(words.iterations), grouped(figures.merged.iterations)),
            (format!("Mean {}", words.quantity), format!("{}{unit}", amount(figures.summary.mean))),
        ];
        let tail = figures.summary.quantiles.iter().find(|quantile| quantile.level == 0.995);
        headline.extend(tail.map(|quantile| {
            (format!("99.5% quantile of the {}", words.quantity), format!("{}{unit}", amount(quantile.var)))
        }));
        headline
    }
}

fn artifact(name: &str, media_type: &str, bytes: Vec<u8>) -> Artifact {
    Artifact { name: name.to_owned(), media_type: media_type.to_owned(), bytes }
}

/// Canonical JSON of a document of this kernel, all of whose numbers are finite and within 2^53.
pub fn canonical(document: &impl Serialize) -> Vec<u8> {
    to_canonical_json(document).expect("documents hold no number that canonical JSON cannot")
}
