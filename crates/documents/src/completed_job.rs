//! A completed job, and the artifacts, manifest and headline it yields.
//!
//! Some artifacts depend on the result alone ([`reproducible_document`]). The others record this
//! execution, and never influence the result.

use std::time::Duration;

use forge_contract::{
    artifact::{ArtifactReference, Execution, ManifestDocument, VerificationDocument},
    digest::Digest,
    envelope::ArtifactKind,
    ids::JobUid,
    merkle,
};
use forge_kernel::{KERNEL, job_key::JobKey, request::Request};

use crate::{
    document::{
        Document, ENVELOPE_JSON, EXECUTIONS_JSON, METRICS_JSON, PLAN_JSON, VERIFICATION_JSON, canonical_json,
    },
    execution_documents::{executions_document, metrics_document},
    job::Job,
    job_result::JobResult,
    number_format::{format_amount, format_count, format_level},
    reproducible_document::reproducible_document,
    result_tables::{self, capitalise, nearest_level, profile_label},
};

/// A completed job: its result, and how it was executed and verified.
#[derive(Debug, Clone, Copy)]
pub struct CompletedJob<'a> {
    /// The job.
    pub job: &'a Job,
    /// Uid of the job's record.
    pub job_uid: JobUid,
    /// The job's key, which the manifest reveals.
    pub job_key: &'a JobKey,
    /// The result of the job.
    pub result: &'a JobResult,
    /// The accepted execution of each shard, in shard order.
    pub executions: &'a [Execution],
    /// Which shards were verified, by which backends, and with what outcome.
    pub verification: &'a VerificationDocument,
    /// Time spent on parsing the envelope, compiling tables and planning.
    pub planning_duration: Duration,
    /// Time from the start of the first shard to the merge of the last one.
    pub execution_duration: Duration,
}

impl CompletedJob<'_> {
    /// The artifacts that the envelope asks for, in the order of their kinds, after the normalised
    /// envelope, which is always the first.
    pub fn documents(&self) -> Vec<Document> {
        let envelope = &self.job.request.envelope;
        let requested = envelope.artifacts.include.iter().filter_map(|&kind| self.document(kind));
        let envelope = Document::json(ENVELOPE_JSON, canonical_json(envelope));
        [envelope].into_iter().chain(requested).collect()
    }

    fn document(&self, kind: ArtifactKind) -> Option<Document> {
        let Self { job, result, executions, verification, planning_duration, execution_duration, .. } = *self;
        let (name, json) = match kind {
            ArtifactKind::ExecutionsJson => {
                (EXECUTIONS_JSON, canonical_json(&executions_document(job, executions)))
            }
            ArtifactKind::MetricsJson => {
                let metrics =
                    metrics_document(job, result, executions, planning_duration, execution_duration);
                (METRICS_JSON, canonical_json(&metrics))
            }
            ArtifactKind::VerificationJson => (VERIFICATION_JSON, canonical_json(verification)),
            ArtifactKind::PlanJson => (PLAN_JSON, canonical_json(&job.request.plan_document())),
            ArtifactKind::ResultJson | ArtifactKind::EptCsv | ArtifactKind::ReportHtml => {
                return reproducible_document(kind, &job.request, result);
            }
        };
        Some(Document::json(name, json))
    }

    /// Merkle root over the result hashes of all shards.
    fn merkle_root(&self) -> Digest {
        let hashes: Vec<_> = self.executions.iter().map(|execution| execution.result_hash).collect();
        merkle::root(&hashes)
    }

    /// The unsigned manifest, which refers to `artifacts` where they are stored.
    pub fn manifest(&self, artifacts: Vec<ArtifactReference>) -> ManifestDocument {
        ManifestDocument {
            schema: ManifestDocument::SCHEMA.to_owned(),
            job_id: self.job.id.clone(),
            job_uid: self.job_uid,
            job_key: Digest(*self.job_key.as_bytes()),
            kernel: KERNEL,
            replay_key: self.job.request.replay_key,
            request: self.job.envelope_digest,
            result: self.result.hash,
            merkle_root: self.merkle_root(),
            shards: self.executions.len() as u64,
            artifacts,
            signer: None,
            signature: None,
        }
    }
}

/// Level of the quantile in a headline, or the nearest reported one.
const HEADLINE_LEVEL: f64 = 0.995;

/// The lines about a result on an index page, as pairs of label and text.
pub fn headline(request: &Request, result: &JobResult) -> Vec<(String, String)> {
    let (merged, summary) = (&result.merged, &result.summary);
    let words = request.profile().vocabulary;
    let unit = match result_tables::unit(request) {
        "" => String::new(),
        unit => format!(" {unit}"),
    };
    let title = result_tables::title(request).map(|title| ("Title".to_owned(), title.to_owned()));
    let mut headline: Vec<_> = title.into_iter().collect();
    headline.extend([
        ("Profile".to_owned(), profile_label(request)),
        (capitalise(words.iterations), format_count(merged.iterations)),
    ]);
    headline.extend(
        summary
            .mean
            .map(|mean| (format!("Mean {}", words.quantity), format!("{}{unit}", format_amount(mean)))),
    );
    let levels: Vec<f64> = summary.quantiles.iter().map(|quantile| quantile.level).collect();
    let quantile = summary.quantiles.get(nearest_level(&levels, HEADLINE_LEVEL));
    headline.extend(quantile.map(|quantile| {
        let label = format!("{} quantile of the {}", format_level(quantile.level), words.quantity);
        (label, format!("{}{unit}", format_amount(quantile.tail.var)))
    }));
    headline
}
