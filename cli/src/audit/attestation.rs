//! `forge audit --attest`: a document about an audit, for the files of an auditor. It states when
//! and with which forge the audit was made, what was recomputed, and the verdict.

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use forge_contract::{artifact::ManifestDocument, digest::Digest};
use forge_kernel::KERNEL;
use forge_service::clock::Clock;
use forge_store::Store;
use maud::{DOCTYPE, html};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{report::AuditReport, verdict::MissedForgery};
use crate::{error::CommandError, output, version};

/// The file of an attestation, whose ending chooses its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationFile {
    path: PathBuf,
    is_html: bool,
}

impl FromStr for AttestationFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = PathBuf::from(text);
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("html") => Ok(Self { path, is_html: true }),
            Some("json") => Ok(Self { path, is_html: false }),
            _ => Err("must end in .html or .json".to_owned()),
        }
    }
}

/// An attestation; its fields are those of the JSON form.
#[derive(Debug, Serialize)]
struct AuditAttestation {
    schema: &'static str,
    /// When the audit ended, in UTC by the clock of this machine.
    attested_at: String,
    forge: ForgeBuild,
    /// What was audited, as the command line named it.
    source: String,
    /// The manifest; null if it is not one.
    manifest: Option<ManifestSummary>,
    /// What the audit was asked to execute again: `all`, or a number of shards.
    requested: String,
    /// One sentence with the verdict and what was executed again.
    conclusion: String,
    /// The report of the audit.
    audit: Value,
}

/// The forge that audited.
#[derive(Debug, Serialize)]
struct ForgeBuild {
    version: &'static str,
    commit: &'static str,
    kernel: u32,
    target: &'static str,
}

/// What identifies the audited job.
#[derive(Debug, Serialize)]
struct ManifestSummary {
    /// SHA-256 of the manifest's bytes.
    sha256: Digest,
    /// SHA-256 of `result.json`.
    result: Digest,
    replay_key: String,
    /// Key that signed the manifest, if one did.
    signer: Option<String>,
}

/// Writes the attestation of an audit.
///
/// # Errors
/// The file cannot be written.
pub fn write(
    file: &AttestationFile,
    source: &Path,
    requested: String,
    manifest: Option<&ManifestDocument>,
    report: &AuditReport,
) -> Result<(), CommandError> {
    let attestation = AuditAttestation {
        schema: "forge.attestation.v1",
        attested_at: Clock::default().now_rfc3339(),
        forge: ForgeBuild {
            version: env!("CARGO_PKG_VERSION"),
            commit: version::COMMIT,
            kernel: KERNEL,
            target: version::TARGET,
        },
        source: source.display().to_string(),
        manifest: manifest.map(summarise),
        requested,
        conclusion: report.headline(),
        audit: report.to_value(),
    };
    let text = match file.is_html {
        true => render_page(&attestation),
        false => output::to_json_document(&attestation),
    };
    let path = &file.path;
    fs::write(path, text)
        .map_err(|error| CommandError::Input(format!("--attest: cannot write {}: {error}", path.display())))
}

fn summarise(manifest: &ManifestDocument) -> ManifestSummary {
    ManifestSummary {
        sha256: Digest::hash_parts(&[&Store::manifest_bytes(manifest)]),
        result: manifest.result,
        replay_key: manifest.replay_key.to_string(),
        signer: manifest.signer.as_ref().map(ToString::to_string),
    }
}

/// The attestation as a page. All text of the job is escaped.
fn render_page(attestation: &AuditAttestation) -> String {
    let AuditAttestation { attested_at, forge, source, manifest, requested, conclusion, audit, .. } =
        attestation;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut facts = vec![
        ("Verdict", text(&audit["verdict"])),
        ("Conclusion", conclusion.clone()),
        ("Audited at", attested_at.clone()),
        (
            "Audited with",
            format!(
                "forge {}, commit {}, kernel version {}, {}",
                forge.version, forge.commit, forge.kernel, forge.target
            ),
        ),
        ("Source", source.clone()),
        ("Job", text(&audit["job_id"])),
        ("Shards asked to be executed again", requested.clone()),
        ("Shards executed again", format!("{} of {}", audit["shards_reexecuted"], audit["shards"])),
    ];
    let missed = audit["missed"].as_array().into_iter().flatten();
    let missed: Vec<_> = missed.filter_map(|chance| MissedForgery::deserialize(chance).ok()).collect();
    if !missed.is_empty() {
        facts.push((
            "A forger is missed with probability",
            missed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        ));
    }
    if let Some(manifest) = manifest {
        facts.extend([
            ("SHA-256 of result.json", manifest.result.to_hex()),
            ("SHA-256 of manifest.json", manifest.sha256.to_hex()),
            ("Replay key", manifest.replay_key.clone()),
            ("Signer of the manifest", manifest.signer.clone().unwrap_or_else(|| "none".to_owned())),
        ]);
    }
    let checks = audit["checks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "Audit of job " (text(&audit["job_id"])) }
                style { (STYLE) }
            }
            body {
                h1 { "Audit of job " (text(&audit["job_id"])) }
                table {
                    @for (label, value) in &facts {
                        tr { th { (label) } td { (value) } }
                    }
                }
                h2 { "Checks" }
                table {
                    tr { th { "Check" } th { "Status" } th { "Detail" } }
                    @for check in checks {
                        tr {
                            td { (text(&check["name"])) }
                            td { (text(&check["status"]).replace('_', " ")) }
                            td { (text(&check["detail"])) }
                        }
                    }
                }
                p {
                    "proved: every shard was executed again, and the merge is result.json, byte for byte. "
                    "consistent: nothing contradicts the result, but less was executed again. "
                    "failed: something contradicts the result or its record. "
                    "This page is not signed. A person who passes it on can change it."
                }
            }
        }
    };
    page.into_string()
}

const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}\
table{border-collapse:collapse;width:100%}th,td{border:1px solid #bbb;padding:.3em .6em;text-align:left;\
vertical-align:top;overflow-wrap:anywhere}th{background:#eee}td:nth-child(-n+2):not(:last-child),th{overflow-wrap:normal}";
