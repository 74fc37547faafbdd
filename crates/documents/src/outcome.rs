//! What a completed job has to say: its artifacts, as its envelope asks for them, its manifest, and its headline. Some are a
//! function of the result ([`pure`]); the rest records this execution, and has no influence on the result.

use std::time::Duration;

use forge_contract::{
    artifact::{ArtifactReference, Execution, ManifestDocument, VerificationDocument},
    digest::Digest,
    envelope::ArtifactKind,
    merkle,
};
use forge_kernel::KERNEL;

use crate::{
    document::{Document, ENVELOPE, EXECUTIONS, PLAN, pure},
    figures::Figures,
    job::Job,
    number::{amount, grouped},
    records,
    tables::{self, capitalised},
};

/// A completed job and what is known about it.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'a> {
    /// The job.
    pub job: &'a Job,
    /// What its merged result says.
    pub figures: &'a Figures,
    /// The execution of each shard of the result, in shard order.
    pub executions: &'a [Execution],
    /// What was verified.
    pub verification: &'a VerificationDocument,
    /// Reading the envelope, compiling tables and planning.
    pub planning: Duration,
    /// From the first shard's start to the last one's merge.
    pub executing: Duration,
}

impl Outcome<'_> {
    /// What the envelope asks to keep; the envelope itself always, and first.
    pub fn documents(&self) -> Vec<Document> {
        let envelope = &self.job.request.envelope;
        let asked = envelope.artifacts.include.iter().filter_map(|&kind| self.document(kind));
        [Document::json(ENVELOPE, envelope)].into_iter().chain(asked).collect()
    }

    fn document(&self, kind: ArtifactKind) -> Option<Document> {
        let request = &self.job.request;
        match kind {
            ArtifactKind::ExecutionsJson => Some(Document::json(EXECUTIONS, &records::executions(self))),
            ArtifactKind::MetricsJson => Some(Document::json("metrics.json", &records::metrics(self))),
            ArtifactKind::VerificationJson => Some(Document::json("verification.json", self.verification)),
            ArtifactKind::PlanJson => Some(Document::json(PLAN, &request.plan_document())),
            ArtifactKind::ResultJson | ArtifactKind::EptCsv | ArtifactKind::ReportHtml => {
                pure(kind, request, self.figures)
            }
        }
    }

    /// Merkle root over the shards' result hashes.
    fn merkle_root(&self) -> Digest {
        let hashes: Vec<_> = self.executions.iter().map(|execution| execution.result_hash).collect();
        merkle::root(&hashes)
    }

    /// The manifest over artifacts that are stored.
    pub fn manifest(&self, artifacts: Vec<ArtifactReference>) -> ManifestDocument {
        ManifestDocument {
            schema: ManifestDocument::SCHEMA.to_owned(),
            job_id: self.job.id.clone(),
            kernel: KERNEL,
            replay_key: self.job.request.replay_key,
            request: self.job.digest,
            result: self.figures.hash,
            merkle_root: self.merkle_root(),
            shards: self.executions.len() as u64,
            artifacts,
            signer: None,
            signature: None,
        }
    }

    /// What an index page says about the result: label and text.
    pub fn headline(&self) -> Vec<(String, String)> {
        let request = &self.job.request;
        let figures = self.figures;
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
